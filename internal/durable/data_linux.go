package durable

import (
	"os"

	"golang.org/x/sys/unix"
)

// data repeats what a signal interrupted: the runtime sends itself many.
func data(f *os.File) error {
	for {
		if err := unix.Fdatasync(int(f.Fd())); err != unix.EINTR {
			return os.NewSyscallError("fdatasync", err)
		}
	}
}
