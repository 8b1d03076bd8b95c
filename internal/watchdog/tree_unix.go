//go:build unix

package watchdog

import (
	"bufio"
	"encoding/gob"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
)

// Tree is a program with all that comes of it, behind its watchdog.
type Tree struct {
	watchdog *exec.Cmd
	life     *os.File // to the watchdog: an order, then requests to end
	reports  *os.File // from it, read through lines
	lines    *bufio.Reader
}

// order is what the watchdog is told to start: over the pipe, so that nothing
// of it stands in a list of processes, and in gob, which keeps every byte.
type order struct {
	Path      string
	Args, Env []string
	Dir       string
	As        *User
}

// The watchdog's files, and what is written to them.
const (
	fdLife = 3 + iota
	fdReports
	fdStdin
	fdStdout
	fdStderr

	terminateByte = 't' // asks the group to end

	reportStarted = "started"
	reportFailed  = "failed " // and an errno
	reportEnded   = "ended "  // and how
)

func (t *Tree) start(cmd *exec.Cmd, name string, as *User) error {
	self, err := ourProgram()
	if err != nil {
		return fmt.Errorf("finding our own program, for the watchdog: %w", err)
	}
	theirLife, life, err := os.Pipe()
	if err != nil {
		return err
	}
	reports, theirReports, err := os.Pipe()
	if err != nil {
		theirLife.Close()
		life.Close()
		return err
	}
	t.life, t.reports, t.lines = life, reports, bufio.NewReader(reports)
	t.watchdog = &exec.Cmd{
		Path: self, Args: []string{argv0, argv1, name}, Env: []string{},
		ExtraFiles: []*os.File{theirLife, theirReports, cmd.Stdin.(*os.File), cmd.Stdout.(*os.File), cmd.Stderr.(*os.File)},
		// Of a session of its own, it is not met by signals to our group.
		SysProcAttr: &syscall.SysProcAttr{Setsid: true},
	}
	err = t.watchdog.Start()
	theirLife.Close() // or its end would not be seen
	theirReports.Close()
	if err != nil {
		life.Close()
		reports.Close()
		return fmt.Errorf("the watchdog: %w", err)
	}
	if err := t.launch(order{Path: cmd.Path, Args: cmd.Args, Env: cmd.Env, Dir: cmd.Dir, As: as}); err != nil {
		t.Kill()
		t.Wait()
		return err
	}
	return nil
}

// launch hands the order over and hears what came of it.
func (t *Tree) launch(o order) error {
	if err := gob.NewEncoder(t.life).Encode(o); err != nil {
		return fmt.Errorf("telling the watchdog: %w", err)
	}
	line, err := t.report()
	if err != nil {
		return fmt.Errorf("the watchdog ended before the server was started: %w", err)
	}
	if number, failed := strings.CutPrefix(line, reportFailed); failed {
		n, err := strconv.Atoi(number)
		if err != nil {
			return errors.New("the watchdog: " + line)
		}
		return &os.PathError{Op: "fork/exec", Path: o.Path, Err: syscall.Errno(n)}
	}
	return nil
}

func (t *Tree) report() (string, error) {
	line, err := t.lines.ReadString('\n')
	return strings.TrimSuffix(line, "\n"), err
}

// Wait returns, once nothing of the program is left, how it ended.
func (t *Tree) Wait() (how string) {
	how = "its watchdog was killed"
	for line, err := t.report(); err == nil; line, err = t.report() {
		if said, ok := strings.CutPrefix(line, reportEnded); ok {
			how = said
		}
	}
	t.watchdog.Wait()
	t.Kill()
	t.reports.Close()
	return how
}

// Terminate asks the program's group to end.
func (t *Tree) Terminate() { t.life.Write([]byte{terminateByte}) }

// Kill ends all of it.
func (t *Tree) Kill() { t.life.Close() }
