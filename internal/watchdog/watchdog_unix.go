//go:build unix

package watchdog

import (
	"bufio"
	"encoding/gob"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"runtime"
	"syscall"
	"time"
)

// A watchdog never gets to main: initializing all of OpenLeash would cost it
// 15 ms and 10 MB, and each server has one.
func init() {
	if len(os.Args) < 2 || os.Args[0] != argv0 || os.Args[1] != argv1 || !isPipe(fdLife) {
		return
	}
	if err := run(); err != nil {
		os.Exit(1) // the other side was told, or is gone
	}
	os.Exit(0)
}

func isPipe(fd int) bool {
	var st syscall.Stat_t
	return syscall.Fstat(fd, &st) == nil && st.Mode&syscall.S_IFMT == syscall.S_IFIFO
}

// watchdog starts one server and ends all that comes of it. It has one
// goroutine that both kills and collects the dead, so that a process id cannot
// come to mean another process in between.
type watchdog struct {
	server  int // its process id, and that of its group
	gone    bool
	reports *os.File
}

// run is the whole life of a watchdog.
func run() error {
	for fd := fdLife; fd <= fdStderr; fd++ {
		syscall.CloseOnExec(fd) // the server gets three of them, as its own 0 to 2
	}
	// Linux ties the server's life to the thread that starts it: this one stays.
	runtime.LockOSThread()
	// Whoever signals all of OpenLeash means us to end in good order. Caught, not
	// ignored: the server would inherit that. What is ignored (nohup) stays so.
	for _, s := range []os.Signal{syscall.SIGTERM, syscall.SIGINT, syscall.SIGHUP, syscall.SIGPIPE} {
		if !signal.Ignored(s) {
			signal.Notify(make(chan os.Signal, 1), s)
		}
	}
	deaths := make(chan os.Signal, 1)
	signal.Notify(deaths, syscall.SIGCHLD)
	adoptOrphans()

	life := bufio.NewReader(os.NewFile(fdLife, "life"))
	var o order
	if err := gob.NewDecoder(life).Decode(&o); err != nil {
		return fmt.Errorf("reading what to start: %w", err)
	}
	w := &watchdog{reports: os.NewFile(fdReports, "reports")}
	if err := w.start(o); err != nil {
		return err
	}
	w.watch(life, deaths)
	return nil
}

func (w *watchdog) start(o order) error {
	attr := &syscall.ProcAttr{Dir: o.Dir, Env: o.Env, Files: []uintptr{fdStdin, fdStdout, fdStderr}, Sys: serverAttr()}
	if o.As != nil {
		attr.Sys.Credential = &syscall.Credential{Uid: o.As.UID, Gid: o.As.GID, Groups: o.As.Groups}
	}
	pid, err := syscall.ForkExec(o.Path, o.Args, attr)
	for fd := fdStdin; fd <= fdStderr; fd++ {
		syscall.Close(fd) // or nobody would see the server close its own
	}
	var errno syscall.Errno
	switch {
	case errors.As(err, &errno):
		fmt.Fprintf(w.reports, "%s%d\n", reportFailed, int(errno))
		return err
	case err != nil:
		fmt.Fprintf(w.reports, "%s%v\n", reportFailed, err)
		return err
	}
	w.server = pid
	fmt.Fprintln(w.reports, reportStarted)
	return nil
}

// rescan is how often what is to die is looked for again, beside each death.
const rescan = 50 * time.Millisecond

// watch returns when nothing is left.
func (w *watchdog) watch(life *bufio.Reader, deaths <-chan os.Signal) {
	asked, orphaned := make(chan struct{}), make(chan struct{})
	go listen(life, asked, orphaned)
	var again <-chan time.Time
	for {
		select {
		case <-deaths:
		case <-again:
		case <-asked:
			w.terminate()
		case <-orphaned:
			orphaned = nil
		}
		left := w.collect()
		if w.gone || orphaned == nil {
			again = time.After(rescan)
			w.killAll()
		}
		if !left {
			return
		}
	}
}

// listen passes on what is asked, and closes orphaned when nobody asks any
// more: we were left alone, or are meant to end it.
func listen(life *bufio.Reader, asked chan<- struct{}, orphaned chan<- struct{}) {
	for {
		b, err := life.ReadByte()
		if err != nil {
			close(orphaned)
			return
		}
		if b == terminateByte {
			asked <- struct{}{}
		}
	}
}

// collect takes note of the dead, and reports whether anybody is left. Only
// here does a process id become free for another process.
func (w *watchdog) collect() (left bool) {
	for {
		var status syscall.WaitStatus
		pid, err := syscall.Wait4(-1, &status, syscall.WNOHANG, nil)
		switch {
		case err == syscall.EINTR:
		case err != nil:
			return false
		case pid == 0:
			return true
		case pid == w.server:
			w.gone = true
			fmt.Fprintln(w.reports, reportEnded+howEnded(status))
		}
	}
}

func howEnded(s syscall.WaitStatus) string {
	switch {
	case s.Signaled() && s.CoreDump():
		return "signal: " + s.Signal().String() + " (core dumped)"
	case s.Signaled():
		return "signal: " + s.Signal().String()
	}
	return fmt.Sprintf("exit status %d", s.ExitStatus())
}
