package main

import (
	"os"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"
)

// The test binary is, by the name that it is called by, the program itself, or
// one of the servers that scripts put behind it.
func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){
		"openleash": func() {
			if d, err := time.ParseDuration(os.Getenv("TEST_DAY")); err == nil {
				day = d
			}
			os.Exit(run())
		},
		"fakemcp":    fakeMCP,
		"sleeper":    sleeper,
		"squatter":   squatter,
		"get":        get,
		"keeper":     keeper,
		"cosigner":   cosigns,
		"authserver": authServer,
		"xdg-open":   consent, // what openleash login opens: Linux and BSD
		"open":       consent, // macOS
	})
}
