package filelock

import (
	"os"

	"golang.org/x/sys/windows"
)

// One byte is locked: Windows locks ranges, and one far away does not keep
// anybody from looking at the file.
const (
	lockedBytes  = 1
	lockedAtHigh = 1
)

func lock(f *os.File) error {
	return lockFile(f, windows.LOCKFILE_EXCLUSIVE_LOCK)
}

func tryLock(f *os.File) (bool, error) {
	err := lockFile(f, windows.LOCKFILE_EXCLUSIVE_LOCK|windows.LOCKFILE_FAIL_IMMEDIATELY)
	if err == windows.ERROR_LOCK_VIOLATION {
		return false, nil
	}
	return err == nil, err
}

func lockFile(f *os.File, flags uint32) error {
	at := windows.Overlapped{OffsetHigh: lockedAtHigh}
	return windows.LockFileEx(windows.Handle(f.Fd()), flags, 0, lockedBytes, 0, &at)
}

func unlock(f *os.File) error {
	at := windows.Overlapped{OffsetHigh: lockedAtHigh}
	return windows.UnlockFileEx(windows.Handle(f.Fd()), 0, lockedBytes, 0, &at)
}
