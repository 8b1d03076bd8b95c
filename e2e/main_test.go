//go:build e2e

// Package e2e runs OpenLeash between parts that nobody here wrote: hosts and
// upstream servers from npm, pinned in package-lock.json. Every test starts the
// real programs, says what the host gets, what reached the upstream, what is on
// the disk and what the log holds.
//
//	cd e2e && npm ci
//	go test -tags e2e ./e2e
//
// Nothing is skipped: what is not installed is a failure that names the command.
package e2e

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
)

// What TestMain finds or makes, once for all tests.
var (
	openleash string // the program under test, built from this tree
	node      string // the Node that runs hosts and upstreams
	modules   string // e2e/node_modules
)

func TestMain(m *testing.M) {
	if len(os.Args) > 3 && os.Args[1] == recordCommand {
		os.Exit(record(os.Args[2], os.Args[3:]))
	}
	os.Exit(run(m))
}

func run(m *testing.M) int {
	dir, err := os.MkdirTemp("", "openleash-e2e-")
	if err != nil {
		return fail(err)
	}
	defer os.RemoveAll(dir)
	if err := findModules(); err != nil {
		return fail(err)
	}
	if err := build(dir); err != nil {
		return fail(err)
	}
	return m.Run()
}

func fail(err error) int {
	fmt.Fprintln(os.Stderr, "e2e:", err)
	return 1
}

// findModules sets node and modules. On Linux Node comes with the modules, so
// that the lock file pins it too; elsewhere it is the one in PATH.
func findModules() error {
	wd, err := os.Getwd()
	if err != nil {
		return err
	}
	modules = filepath.Join(wd, "node_modules")
	for _, name := range []string{inspectorJS, mcporterJS, openclawJS, filesystemJS, everythingJS} {
		if _, err := os.Stat(filepath.Join(modules, name)); err != nil {
			return fmt.Errorf("%w\nwant the hosts and servers of the lock file; run: cd %s && npm ci", err, wd)
		}
	}
	if runtime.GOOS == "linux" {
		arch := map[string]string{"amd64": "x64", "arm64": "arm64"}[runtime.GOARCH]
		node = filepath.Join(modules, "node-linux-"+arch, "bin", "node")
	} else if node, err = exec.LookPath("node"); err != nil {
		return fmt.Errorf("%w\nwant Node 24 in PATH", err)
	}
	return checkNode(wd)
}

func checkNode(wd string) error {
	out, err := exec.Command(node, "--version").Output()
	if err != nil {
		return fmt.Errorf("running %s: %w\nwant the Node of the lock file; run: cd %s && npm ci", node, err, wd)
	}
	if version := strings.TrimSpace(string(out)); !strings.HasPrefix(version, "v24.") {
		return fmt.Errorf("%s is Node %s, want 24", node, version)
	}
	return nil
}

func build(dir string) error {
	openleash = filepath.Join(dir, "openleash")
	if runtime.GOOS == "windows" {
		openleash += ".exe"
	}
	cmd := exec.Command("go", "build", "-o", openleash, "./cmd/openleash")
	cmd.Dir = ".."
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("building openleash: %w\n%s", err, out)
	}
	return nil
}
