package watchdog

import (
	"os"
	"strconv"
	"syscall"
	"unsafe"
)

// ourProgram is the file that we run from, also after an upgrade has replaced
// it.
func ourProgram() (string, error) { return "/proc/self/exe", nil }

// adoptOrphans makes the watchdog the parent of every descendant whose own
// parent has ended, in whatever group or session it is. Thus all of them can be
// found: they are its children, or will be when what is above them is dead.
func adoptOrphans() {
	syscall.RawSyscall6(syscall.SYS_PRCTL, prSetChildSubreaper, 1, 0, 0, 0, 0)
	os.WriteFile("/proc/self/comm", []byte("openleash"), 0) // for ps and top, instead of exe
}

// serverAttr: should the watchdog itself be killed, the server at least dies.
func serverAttr() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
}

// terminate asks the server's group to end. The group's id is that of the
// server, and is not free before the server was collected.
func (w *watchdog) terminate() {
	if !w.gone {
		syscall.Kill(-w.server, syscall.SIGTERM)
	}
}

// killAll kills the server's group and every child that we have, which leaves
// us their children; they are met the next time.
func (w *watchdog) killAll() {
	if !w.gone {
		syscall.Kill(-w.server, syscall.SIGKILL)
	}
	for _, pid := range processes() {
		if isChild(pid) {
			syscall.Kill(pid, syscall.SIGKILL)
		}
	}
}

// processes are the ids of all that can be seen.
func processes() []int {
	dir, err := os.Open("/proc")
	if err != nil {
		return nil
	}
	defer dir.Close()
	names, _ := dir.Readdirnames(-1)
	var pids []int
	for _, name := range names {
		if pid, err := strconv.Atoi(name); err == nil {
			pids = append(pids, pid)
		}
	}
	return pids
}

// isChild asks the kernel whether we could wait for a process: if so it is our
// child, and stays that one until we collect it.
func isChild(pid int) bool {
	var info [128]byte // siginfo_t
	_, _, errno := syscall.Syscall6(syscall.SYS_WAITID, pPID, uintptr(pid), uintptr(unsafe.Pointer(&info)),
		syscall.WEXITED|syscall.WNOHANG|syscall.WNOWAIT, 0, 0)
	return errno == 0
}

// These stand in golang.org/x/sys/unix, which is initialized too late for a
// watchdog (init).
const (
	prSetChildSubreaper = 36
	pPID                = 1
)
