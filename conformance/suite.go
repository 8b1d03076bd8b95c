package main

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
)

// check is one verdict of the suite.
type check struct {
	ID           string
	Status       string // SUCCESS, FAILURE, WARNING, INFO, SKIPPED
	ErrorMessage string
}

// results are the checks of each scenario.
type results map[string][]check

// servers runs the server scenarios that a revision requires against url.
func (l *lab) servers(url, revision string) (results, error) {
	return l.run("server", "--url", url, "--requirements", revision)
}

// run runs the suite and reads what it writes. That scenarios fail is no error;
// that there are none is.
func (l *lab) run(args ...string) (results, error) {
	out, err := os.MkdirTemp(l.dir, "out-")
	if err != nil {
		return nil, err
	}
	cmd := exec.CommandContext(l.ctx, l.node, append(append([]string{l.suite}, args...), "-o", out)...)
	said, runErr := cmd.CombinedOutput()
	got, err := readResults(out)
	if err == nil && len(got) == 0 {
		err = fmt.Errorf("no results (%v)", runErr)
	}
	if err != nil {
		return nil, fmt.Errorf("the suite, %s: %w\n%s", strings.Join(args, " "), err, said)
	}
	return got, l.ctx.Err()
}

// stamp is what the suite puts behind a scenario's name.
var stamp = regexp.MustCompile(`-\d{4}-\d\d-\d\dT[\d-]+Z$`)

func readResults(dir string) (results, error) {
	got := results{}
	err := filepath.WalkDir(dir, func(path string, d os.DirEntry, err error) error {
		if err != nil || d.Name() != "checks.json" {
			return err
		}
		name, err := filepath.Rel(dir, filepath.Dir(path))
		if err != nil {
			return err
		}
		raw, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		var checks []check
		if err := json.Unmarshal(raw, &checks); err != nil {
			return fmt.Errorf("%s: %w", path, err)
		}
		name = strings.TrimPrefix(stamp.ReplaceAllString(filepath.ToSlash(name), ""), "server-")
		got[name] = append(got[name], checks...)
		return nil
	})
	return got, err
}

// passes reports whether a scenario is good: no FAILURE and at least one
// SUCCESS, as its own summary counts.
func passes(checks []check) bool {
	good := false
	for _, c := range checks {
		if c.Status == "FAILURE" {
			return false
		}
		good = good || c.Status == "SUCCESS"
	}
	return good
}
