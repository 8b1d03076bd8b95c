//go:build unix && !linux

package watchdog

import (
	"os"
	"syscall"
)

func ourProgram() (string, error) { return os.Executable() }

// adoptOrphans has no equivalent here: a descendant that has left the group is
// not found any more.
func adoptOrphans() {}

// serverAttr leaves the server in the watchdog's group, whose id cannot come to
// mean another group while the watchdog lives.
func serverAttr() *syscall.SysProcAttr { return &syscall.SysProcAttr{} }

// terminate asks the group to end; the watchdog itself does not hear it.
func (w *watchdog) terminate() { syscall.Kill(0, syscall.SIGTERM) }

// killAll kills the group, the watchdog with it: there is nothing left to do.
func (w *watchdog) killAll() { syscall.Kill(0, syscall.SIGKILL) }
