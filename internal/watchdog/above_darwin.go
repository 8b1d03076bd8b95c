package watchdog

import (
	"bytes"
	"encoding/binary"

	"golang.org/x/sys/unix"
)

// parentOf tells who a process's parent is, and how the process was started. A
// process that cannot be looked at (another user's, say) has no arguments.
func parentOf(pid int) (parent int, args []string) {
	info, err := unix.SysctlKinfoProc("kern.proc.pid", pid)
	if err != nil {
		return 0, nil
	}
	parent = int(info.Eproc.Ppid)
	raw, err := unix.SysctlRaw("kern.procargs2", pid)
	if err != nil || len(raw) < 4 {
		return parent, nil
	}
	// The number of arguments, the program's path, zeros, then the arguments.
	n, rest := binary.NativeEndian.Uint32(raw), raw[4:]
	_, rest, _ = bytes.Cut(rest, []byte{0})
	rest = bytes.TrimLeft(rest, "\x00")
	for ; n > 0 && len(rest) > 0; n-- {
		var arg []byte
		arg, rest, _ = bytes.Cut(rest, []byte{0})
		args = append(args, string(arg))
	}
	return parent, args
}
