//go:build unix

package proxy

import (
	"os/exec"
	"syscall"
)

// processTree is a child and its descendants: a process group.
type processTree struct{ pid int }

func (t *processTree) prepare(cmd *exec.Cmd) {
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	dieWithUs(cmd.SysProcAttr)
}

func (t *processTree) adopt(cmd *exec.Cmd) error {
	t.pid = cmd.Process.Pid
	return nil
}

func (t *processTree) terminate() { syscall.Kill(-t.pid, syscall.SIGTERM) }
func (t *processTree) kill()      { syscall.Kill(-t.pid, syscall.SIGKILL) }
