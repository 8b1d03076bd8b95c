package watchdog

import (
	"errors"
	"fmt"
	"os/exec"
	"sync"
	"unsafe"

	"golang.org/x/sys/windows"
)

// Tree is a program and its descendants: a job object, which ends with its last
// handle, that is, with us.
type Tree struct {
	cmd *exec.Cmd

	mu  sync.Mutex
	job windows.Handle // 0 when there is none, or none any more
}

func (t *Tree) start(cmd *exec.Cmd, _ string, as *User) error {
	if as != nil {
		return errors.New("Windows does not let one program start another as another user without that user's password")
	}
	if err := cmd.Start(); err != nil {
		return err
	}
	t.cmd = cmd
	if err := t.adopt(); err != nil {
		cmd.Process.Kill()
		t.Wait()
		return err
	}
	return nil
}

func (t *Tree) adopt() error {
	job, err := windows.CreateJobObject(nil, nil)
	if err != nil {
		return fmt.Errorf("making a job object: %w", err)
	}
	t.job = job
	info := windows.JOBOBJECT_EXTENDED_LIMIT_INFORMATION{}
	info.BasicLimitInformation.LimitFlags = windows.JOB_OBJECT_LIMIT_KILL_ON_JOB_CLOSE
	if _, err := windows.SetInformationJobObject(job, windows.JobObjectExtendedLimitInformation, uintptr(unsafe.Pointer(&info)), uint32(unsafe.Sizeof(info))); err != nil {
		return fmt.Errorf("limiting the job object: %w", err)
	}
	process, err := windows.OpenProcess(windows.PROCESS_SET_QUOTA|windows.PROCESS_TERMINATE, false, uint32(t.cmd.Process.Pid))
	if err != nil {
		return fmt.Errorf("opening the child: %w", err)
	}
	defer windows.CloseHandle(process)
	return windows.AssignProcessToJobObject(job, process)
}

// Wait returns how the program ended, and ends what it has left behind.
func (t *Tree) Wait() (how string) {
	t.cmd.Wait()
	t.Kill()
	t.mu.Lock()
	defer t.mu.Unlock()
	windows.CloseHandle(t.job)
	t.job = 0
	return t.cmd.ProcessState.String()
}

// Terminate has no gentle form on Windows: closing the input was it.
func (t *Tree) Terminate() { t.Kill() }

// Kill ends all of it.
func (t *Tree) Kill() {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.job != 0 {
		windows.TerminateJobObject(t.job, 1)
	}
}
