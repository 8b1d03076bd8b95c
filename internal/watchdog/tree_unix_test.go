//go:build unix

package watchdog

import (
	"errors"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

// runProgram starts a program with no input and returns what it wrote, and how it ended.
func runProgram(t *testing.T, cmd *exec.Cmd) (output, how string, err error) {
	t.Helper()
	null, err := os.Open(os.DevNull)
	if err != nil {
		t.Fatal(err)
	}
	defer null.Close()
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	cmd.Stdin, cmd.Stdout, cmd.Stderr = null, w, w
	tree, err := Start(cmd, "test", nil)
	w.Close()
	if err != nil {
		return "", "", err
	}
	all, err := io.ReadAll(r)
	return string(all), tree.Wait(), err
}

// Arguments and environment arrive as they are, whatever bytes and however many:
// more than a pipe holds.
func TestOrderKeepsEveryByte(t *testing.T) {
	long := strings.Repeat("\xff\x80=\n", 20<<10)
	cmd := exec.Command("/bin/sh", "-c", `printf '%s|%s|%s' "$1" "$A" "$B"`, "sh", "\xfe'\" ", "")
	cmd.Env = []string{"A=" + long, "B=\xc3"}
	out, how, err := runProgram(t, cmd)
	if err != nil || how != "exit status 0" || out != "\xfe'\" |"+long+"|\xc3" {
		t.Errorf("%d bytes, %s, %v", len(out), how, err)
	}
}

func TestHowProgramsEnd(t *testing.T) {
	for script, want := range map[string]string{
		"exit 0":      "exit status 0",
		"exit 77":     "exit status 77",
		"kill -9 $$":  "signal: killed",
		"kill -15 $$": "signal: terminated",
	} {
		if _, how, err := runProgram(t, exec.Command("/bin/sh", "-c", script)); err != nil || how != want {
			t.Errorf("%s: %s, %v", script, how, err)
		}
	}
}

// What cannot be started is told as if there were no watchdog.
func TestWhatCannotStart(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "file")
	if err := os.WriteFile(file, []byte("#!/bin/sh\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	elsewhere := exec.Command("/bin/sh")
	elsewhere.Dir = filepath.Join(dir, "none")
	for what, tt := range map[string]struct {
		cmd  *exec.Cmd
		want error
	}{
		"no such program": {exec.Command("/no/such"), os.ErrNotExist},
		"not on the path": {exec.Command("no-such-program-here"), exec.ErrNotFound},
		"no program":      {exec.Command(file), os.ErrPermission},
		"no such folder":  {elsewhere, os.ErrNotExist},
		"a zero byte":     {exec.Command("/bin/sh", "a\x00b"), syscall.EINVAL},
	} {
		if _, _, err := runProgram(t, tt.cmd); !errors.Is(err, tt.want) {
			t.Errorf("%s: %v, want %v", what, err, tt.want)
		}
	}
}

// A program's folder is the one named, or ours.
func TestFolder(t *testing.T) {
	dir, err := filepath.EvalSymlinks(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(filepath.Join(dir, "below"), 0o700); err != nil {
		t.Fatal(err)
	}
	t.Chdir(dir)
	for folder, want := range map[string]string{"": dir, "below": dir + "/below", dir + "/below": dir + "/below"} {
		cmd := exec.Command("/bin/sh", "-c", "pwd -P")
		cmd.Dir = folder
		if out, _, err := runProgram(t, cmd); err != nil || strings.TrimSpace(out) != want {
			t.Errorf("%q: it runs in %s, %v; want %s", folder, out, err, want)
		}
	}
}

// The program hears signals as one that was started by a shell: none is ignored
// or blocked because the watchdog does not want to hear it.
func TestSignalsReachTheProgram(t *testing.T) {
	// Under nohup, as some CI runs are, SIGHUP is ignored by all that we start.
	// One that we catch is not.
	caught := make(chan os.Signal, 1)
	signal.Notify(caught, syscall.SIGHUP)
	defer signal.Stop(caught)
	for _, signal := range []string{"TERM", "INT", "HUP", "PIPE", "CHLD"} {
		out, how, err := runProgram(t, exec.Command("/bin/sh", "-c", "trap 'echo heard' "+signal+"; kill -"+signal+" $$; exit 0"))
		if err != nil || !strings.Contains(out, "heard") {
			t.Errorf("%s: %q, %s, %v", signal, out, how, err)
		}
	}
}

// What is ignored by us is ignored by the program.
func TestIgnoredSignalsStayIgnored(t *testing.T) {
	if !signal.Ignored(syscall.SIGHUP) {
		signal.Ignore(syscall.SIGHUP)
		defer signal.Reset(syscall.SIGHUP)
	}
	if out, how, err := runProgram(t, exec.Command("/bin/sh", "-c", "kill -HUP $$; echo alive")); err != nil || out != "alive\n" {
		t.Errorf("%q, %s, %v", out, how, err)
	}
}
