package main

import (
	"bytes"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// family is a server that starts what a server should not leave behind: a
// process of its group, one of a session of its own, and one whose parents have
// ended. None of them hears the end of its input, nor asks to end.
const family = `trap '' TERM HUP INT
sleep 300 &
setsid sleep 300 &
(setsid sh -c 'trap "" TERM; sleep 300 & sleep 300 &')
while read -r line; do printf '{"jsonrpc":"2.0","id":1,"result":{}}\n'; done
sleep 300`

// members are how many processes a family has, its watchdog included.
const members = 6

// ownMark is in the environment of a test's processes, and in the name of its
// server, which a watchdog is started with.
func ownMark(t *testing.T) string {
	name := strings.NewReplacer("/", "-", "_", "-").Replace(strings.ToLower(t.Name()))
	return fmt.Sprintf("%s-%d", strings.TrimPrefix(name, "test"), os.Getpid())
}

// marked are the processes with a mark, but for one, by what they run.
func marked(mark string, except int) map[int]string {
	found := map[int]string{}
	files, err := filepath.Glob("/proc/[0-9]*/environ")
	if err != nil {
		panic(err)
	}
	for _, file := range files {
		var pid int
		fmt.Sscanf(file, "/proc/%d/", &pid)
		environ, _ := os.ReadFile(file)
		words, _ := os.ReadFile(filepath.Join(filepath.Dir(file), "cmdline"))
		if pid != except && bytes.Contains(append(environ, words...), []byte(mark)) {
			found[pid] = string(bytes.ReplaceAll(words, []byte{0}, []byte(" ")))
		}
	}
	return found
}

// startFamily starts the program in front of a family.
func (in *installation) startFamily(t *testing.T, mark string) *process {
	t.Helper()
	p, err := startProcess(in.dir, append(in.env, "MARK="+mark), []string{"openleash", "stdio", "--name", mark, "--", "sh", "-c", family})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		p.cmd.Process.Kill()
		<-p.exited
		for pid := range marked(mark, 0) {
			syscall.Kill(pid, syscall.SIGKILL)
		}
	})
	return p
}

// grown waits until a family is complete.
func grown(t *testing.T, p *process, mark string) {
	t.Helper()
	if !eventually(func() bool { return len(marked(mark, p.cmd.Process.Pid)) >= members || p.ended() }) || p.ended() {
		t.Fatalf("the server's family is not complete: %v; %s", marked(mark, 0), p.all())
	}
}

func extinct(t *testing.T, mark, after string) {
	t.Helper()
	if !eventually(func() bool { return len(marked(mark, 0)) == 0 }) {
		t.Fatalf("%s, these are left: %v", after, marked(mark, 0))
	}
}

// However and whenever we are killed, nothing of a server survives: 25 times
// its family was complete, 25 times it was being started.
func TestNothingSurvivesOurDeath(t *testing.T) {
	t.Parallel()
	in, mark := newInstallation(t, allowAll), ownMark(t)
	begin := time.Now()
	for i := range 50 {
		p := in.startFamily(t, mark)
		moment := "when all of it ran"
		if i%2 == 0 {
			grown(t, p, mark)
		} else {
			took := time.Since(begin) / time.Duration(i)
			after := rand.N(2 * took)
			moment = "after " + after.String()
			time.Sleep(after)
		}
		if err := p.cmd.Process.Kill(); err != nil {
			t.Fatal(err)
		}
		<-p.exited
		extinct(t, mark, fmt.Sprintf("start %d, killed %s", i+1, moment))
	}
}

// Nothing survives our orderly end either, at which all of it is gone already.
func TestNothingSurvivesOurEnd(t *testing.T) {
	t.Parallel()
	caught := make(chan os.Signal, 1) // what we start is not to ignore it, as under nohup
	signal.Notify(caught, syscall.SIGHUP)
	t.Cleanup(func() { signal.Stop(caught) })
	for what, end := range map[string]func(*process) error{
		"terminated":         func(p *process) error { return p.cmd.Process.Signal(syscall.SIGTERM) },
		"interrupted":        func(p *process) error { return p.cmd.Process.Signal(os.Interrupt) },
		"hung up":            func(p *process) error { return p.cmd.Process.Signal(syscall.SIGHUP) },
		"closed by the host": func(p *process) error { return p.stdin.Close() },
	} {
		t.Run(what, func(t *testing.T) {
			t.Parallel()
			in, mark := newInstallation(t, allowAll), ownMark(t)
			p := in.startFamily(t, mark)
			grown(t, p, mark)
			if err := end(p); err != nil {
				t.Fatal(err)
			}
			<-p.exited
			if left := marked(mark, 0); len(left) > 0 {
				t.Errorf("we have ended before %v", left)
			}
			if code := p.cmd.ProcessState.ExitCode(); code != 0 {
				t.Errorf("exit code %d: %s", code, p.words())
			}
			extinct(t, mark, what)
		})
	}
}

// The watchdog has nothing of ours: no file but its two pipes and /dev/null, no
// environment, no word of the server's command line. What it starts has the
// three files that it should.
func TestWatchdogHoldsNothing(t *testing.T) {
	t.Parallel()
	in, mark := newInstallation(t, allowAll), ownMark(t)
	p := in.startFamily(t, mark)
	grown(t, p, mark)
	found := false
	for pid, words := range marked(mark, p.cmd.Process.Pid) {
		files := openFiles(t, pid)
		for number, file := range openFiles(t, os.Getpid()) {
			if files[number] == file {
				delete(files, number) // whoever started the test has left it open for all
			}
		}
		if !strings.HasPrefix(words, "openleash watchdog ") {
			maps.DeleteFunc(files, func(number, _ string) bool { return number == "0" || number == "1" || number == "2" })
			if len(files) > 0 {
				t.Errorf("%s holds %v", words, files)
			}
			continue
		}
		found = true
		if words != "openleash watchdog "+mark+" " {
			t.Errorf("it is started as %q", words)
		}
		dir := fmt.Sprintf("/proc/%d/", pid)
		if environ, err := os.ReadFile(dir + "environ"); err != nil || len(environ) > 0 {
			t.Errorf("its environment is %q, %v", environ, err)
		}
		maps.DeleteFunc(files, func(number, file string) bool {
			runtimes := strings.HasPrefix(file, "anon_inode:") || strings.HasPrefix(file, "/sys/fs/cgroup/")
			return runtimes || file == "/dev/null"
		})
		if len(files) != 2 || !strings.HasPrefix(files["3"], "pipe:") || !strings.HasPrefix(files["4"], "pipe:") {
			t.Errorf("it holds %v; want the pipes 3 and 4 alone", files)
		}
	}
	if !found {
		t.Errorf("no watchdog: %v", marked(mark, 0))
	}
}

// openFiles are a process's open files, by number.
func openFiles(t *testing.T, pid int) map[string]string {
	t.Helper()
	dir := fmt.Sprintf("/proc/%d/fd", pid)
	numbers, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	files := map[string]string{}
	for _, n := range numbers {
		if file, err := os.Readlink(filepath.Join(dir, n.Name())); err == nil {
			files[n.Name()] = file
		}
	}
	return files
}
