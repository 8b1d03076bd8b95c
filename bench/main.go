// Bench measures what OpenLeash costs: an echo server of our own, driven
// directly and through the proxy in the same run, in turns. README.md says what
// is measured and how.
package main

import (
	"flag"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"
)

// longest bounds a run, whatever happens.
const longest = 10 * time.Minute

const mcpproxyPackage = "github.com/hoophq/mcpproxy/cmd/mcpproxyd"

func main() {
	if len(os.Args) > 1 && os.Args[1] == "echo" {
		exit(serveEcho(os.Args[2:]))
	}
	short := flag.Bool("short", false, "a quick run, to see that it works: its numbers say little")
	binary := flag.String("openleash", "", "measure this `program` instead of building one from ..")
	other := flag.String("other", "", "drive this `program` too, an openleash from before a change say")
	dir := flag.String("dir", "", "make the homes in this `folder`: its disk is what the log is synced to (default: the temporary folder)")
	cpu := flag.Bool("profile", false, "instead of measuring, profile openleash under load and tell where its processor time goes")
	held := flag.Bool("held", false, "instead of measuring calls, time answers: from the click to the forwarded call, with 1,000 calls held")
	flag.Parse()
	p := fullPlan
	if *short {
		p = shortPlan
	}
	do := measure
	switch {
	case *cpu:
		do = profile
	case *held:
		do = measureHeld
	}
	exit(bench(p, *binary, *other, *dir, do))
}

func exit(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
	os.Exit(0)
}

func serveEcho(args []string) error {
	if len(args) == 1 {
		return listenEcho(args[0])
	}
	return echoStdio(os.Stdin, os.Stdout)
}

func bench(p plan, binary, other, dir string, do func(*lab, plan) error) (err error) {
	l, err := openLab(binary, other, dir)
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			err = fmt.Errorf("%w\nthe homes, and what the programs said, are in %s", err, l.dir)
			return
		}
		err = os.RemoveAll(l.dir)
	}()
	defer l.close()
	// A closed pipe too (go run . | head): whatever ends us, what we started ends.
	interrupted := make(chan os.Signal, 1)
	signal.Notify(interrupted, os.Interrupt, syscall.SIGTERM, syscall.SIGHUP, syscall.SIGPIPE)
	done := make(chan error, 1)
	go func() { done <- do(l, p) }()
	select {
	case err := <-done:
		return err
	case s := <-interrupted:
		return fmt.Errorf("ended by a signal: %v", s)
	case <-time.After(longest):
		return fmt.Errorf("not done after %s", longest)
	}
}

// openLab builds the programs.
func openLab(binary, other, dir string) (*lab, error) {
	if _, err := os.Stat("../cmd/openleash"); err != nil {
		return nil, fmt.Errorf("%w; run it in OpenLeash's bench folder: cd bench && go run .", err)
	}
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	temp, err := os.MkdirTemp(dir, "openleash-bench-")
	if err != nil {
		return nil, err
	}
	l := &lab{dir: temp, self: self, openleash: binary}
	if l.openleash == "" {
		l.openleash = filepath.Join(temp, "openleash")
		err = build("..", l.openleash, "./cmd/openleash")
	} else {
		l.openleash, err = filepath.Abs(binary)
	}
	if err == nil && other != "" {
		l.other, err = filepath.Abs(other)
	}
	return l, err
}

func build(dir, out, pkg string, flags ...string) error {
	fmt.Fprintln(os.Stderr, "building", pkg)
	cmd := exec.Command("go", append(append([]string{"build", "-trimpath", "-o", out}, flags...), pkg)...)
	cmd.Dir, cmd.Env = dir, append(os.Environ(), "CGO_ENABLED=0")
	if text, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("building %s: %w\n%s", pkg, err, text)
	}
	return nil
}

func measure(l *lab, p plan) error {
	r := report{Began: time.Now(), Machine: thisMachine()}
	l.mcpproxy = filepath.Join(l.dir, "mcpproxyd")
	if err := build(".", l.mcpproxy, mcpproxyPackage); err != nil {
		l.mcpproxy, r.Missing = "", err.Error()
	}
	var err error
	if r.Sync, err = syncTime(l.dir); err != nil {
		return err
	}
	if err := l.startEcho(); err != nil {
		return err
	}
	for _, part := range []func(*lab, plan, *report) error{measureCalls, measureProcesses, checkLogs} {
		if err := part(l, p, &r); err != nil {
			return err
		}
	}
	r.Took = time.Since(r.Began).Seconds()
	r.print(os.Stdout)
	return r.save("results")
}

func measureCalls(l *lab, p plan, r *report) error {
	for _, field := range []struct {
		transport string
		open      func(*lab) ([]*contestant, error)
	}{{"stdio", stdioField}, {"http", httpField}} {
		all, err := field.open(l)
		if err != nil {
			return err
		}
		r.contestants = append(r.contestants, all...)
		if err := warm(all, p); err != nil {
			return err
		}
		for _, n := range atOnce {
			fmt.Fprintf(os.Stderr, "%s, %d at once\n", field.transport, n)
			cells, err := race(field.transport, all, n, p, (*session).call)
			if err != nil {
				return err
			}
			r.Cells = append(r.Cells, cells...)
			fmt.Fprintf(os.Stderr, "%s, passing on, %d at once\n", field.transport, n)
			if cells, err = race(field.transport+passing, passers(all), n, p, (*session).list); err != nil {
				return err
			}
			r.Cells = append(r.Cells, cells...)
		}
		for _, c := range all {
			if c.process != nil {
				r.Memory = append(r.Memory, memoryOf(c, field.transport))
			}
		}
	}
	return nil
}

// passing marks the cells of requests that no policy touches.
const passing = ", passing on"

// passers are the contestants that differ in what they pass on.
func passers(all []*contestant) []*contestant {
	return slices.DeleteFunc(slices.Clone(all), func(c *contestant) bool { return strings.HasSuffix(c.name, "no proof") })
}

func stdioField(l *lab) ([]*contestant, error) {
	field := []func() (*contestant, error){
		l.stdioDirect,
		func() (*contestant, error) { return l.stdioOpenLeash("openleash", l.openleash, true) },
		func() (*contestant, error) { return l.stdioOpenLeash("openleash, no proof", l.openleash, false) },
	}
	if l.other != "" {
		field = append(field, func() (*contestant, error) { return l.stdioOpenLeash("other", l.other, true) })
	}
	return all(field...)
}

func httpField(l *lab) ([]*contestant, error) {
	field := []func() (*contestant, error){
		l.httpDirect,
		func() (*contestant, error) { return l.httpOpenLeash("openleash", l.openleash, true, l.httpServer()) },
		func() (*contestant, error) {
			return l.httpOpenLeash("openleash, no proof", l.openleash, false, l.httpServer())
		},
		func() (*contestant, error) {
			return l.httpOpenLeash("openleash to stdio", l.openleash, true, l.childServer())
		},
	}
	if l.mcpproxy != "" {
		field = append(field,
			func() (*contestant, error) {
				return l.httpMCPProxy("mcpproxy", fmt.Sprintf("{transport: streamable-http, url: %q, auth: none}", l.echoURL))
			},
			func() (*contestant, error) {
				return l.httpMCPProxy("mcpproxy to stdio", fmt.Sprintf("{transport: stdio, command: [%q, echo]}", l.self))
			})
	}
	if l.other != "" {
		field = append(field, func() (*contestant, error) { return l.httpOpenLeash("other", l.other, true, l.httpServer()) })
	}
	return all(field...)
}

func all(open ...func() (*contestant, error)) ([]*contestant, error) {
	var field []*contestant
	for _, o := range open {
		c, err := o()
		if err != nil {
			return nil, err
		}
		field = append(field, c)
	}
	return field, nil
}

func measureProcesses(l *lab, p plan, r *report) error {
	fmt.Fprintln(os.Stderr, "memory, starts, logs")
	for _, upstreams := range []int{1, 10} {
		m, err := measureMemory(l, upstreams, p.calls)
		if err != nil {
			return err
		}
		r.Memory = append(r.Memory, m...)
	}
	l.close() // what was driven, so that starts are alone
	var err error
	r.Starts, err = measureStarts(l, p, r.loaded())
	return err
}
