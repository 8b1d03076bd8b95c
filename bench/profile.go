package main

import (
	_ "embed"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"time"
)

//go:embed profiler.go.txt
var profiler []byte

// profile drives an openleash that profiles itself, and prints where its
// processor time goes, in microseconds a call. What a call waits for (the disk,
// the upstream) is not in it.
func profile(l *lab, p plan) error {
	if err := l.buildProfiled(); err != nil {
		return err
	}
	if err := l.startEcho(); err != nil {
		return err
	}
	for _, c := range []struct {
		name string
		n    int
		open func() (*contestant, error)
	}{
		{"stdio-1", 1, func() (*contestant, error) { return l.stdioOpenLeash("profile stdio 1", l.openleash, true) }},
		{"http-1", 1, func() (*contestant, error) {
			return l.httpOpenLeash("profile http 1", l.openleash, true, l.httpServer())
		}},
		{"http-32", 32, func() (*contestant, error) {
			return l.httpOpenLeash("profile http 32", l.openleash, true, l.httpServer())
		}},
	} {
		if err := l.profileOne(c.name, c.n, c.open, time.Duration(p.rounds)*p.slice); err != nil {
			return fmt.Errorf("profiling %s: %w", c.name, err)
		}
	}
	return nil
}

// buildProfiled builds the program with a profiler beside its main.
func (l *lab) buildProfiled() error {
	source := filepath.Join(l.dir, "profiler.go")
	if err := os.WriteFile(source, profiler, 0o600); err != nil {
		return err
	}
	place, err := filepath.Abs("../cmd/openleash/bench_profiler.go")
	if err != nil {
		return err
	}
	overlay, err := json.Marshal(map[string]any{"Replace": map[string]string{place: source}})
	if err != nil {
		return err
	}
	file := filepath.Join(l.dir, "overlay.json")
	if err := os.WriteFile(file, overlay, 0o600); err != nil {
		return err
	}
	l.openleash = filepath.Join(l.dir, "openleash-profiled")
	return build("..", l.openleash, "./cmd/openleash", "-overlay", file)
}

func (l *lab) profileOne(name string, n int, open func() (*contestant, error), d time.Duration) error {
	if err := os.MkdirAll("results", 0o755); err != nil {
		return err
	}
	out := filepath.Join(l.dir, name)
	os.Setenv("BENCH_PROFILE", out)
	c, err := open()
	os.Unsetenv("BENCH_PROFILE")
	if err != nil {
		return err
	}
	if err := warm([]*contestant{c}, shortPlan); err != nil {
		return err
	}
	if err := os.WriteFile(out+".start", nil, 0o600); err != nil {
		return err
	}
	r, err := drive(c, n, d, (*session).call)
	if err != nil {
		return err
	}
	if err := os.WriteFile(out+".stop", nil, 0o600); err != nil {
		return err
	}
	for until := time.Now().Add(10 * time.Second); !exists(out+".done") && time.Now().Before(until); {
		time.Sleep(20 * time.Millisecond)
	}
	kept := filepath.Join("results", "cpu-"+name+".pprof")
	if err := copyFile(out, kept); err != nil {
		return err
	}
	return printTop(name, kept, r)
}

func exists(file string) bool {
	_, err := os.Stat(file)
	return err == nil
}

// printTop has pprof divide by the calls.
func printTop(name, file string, r run) error {
	fmt.Printf("\n%s: %d calls, p50 %.3f ms, %.0f us of processor time a call; bench/%s\n", name, len(r.took), r.p50(), float64(r.cpu.Microseconds())/float64(len(r.took)), filepath.ToSlash(file))
	calls := fmt.Sprint(len(r.took))
	for _, order := range []string{"-cum", "-flat"} {
		cmd := exec.Command("go", "tool", "pprof", "-top", order, "-nodecount=40", "-unit=us", "-divide_by="+calls, file)
		cmd.Stdout, cmd.Stderr = os.Stdout, os.Stderr
		if err := cmd.Run(); err != nil {
			return err
		}
	}
	return nil
}

func copyFile(from, to string) error {
	b, err := os.ReadFile(from)
	if err != nil {
		return err
	}
	return os.WriteFile(to, b, 0o644)
}
