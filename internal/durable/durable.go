// Package durable brings to the disk what must be there before anything goes
// on. What returns nil survives the loss of power; after an error it is not
// known what is there.
package durable

import (
	"errors"
	"os"
	"runtime"
	"time"
)

// Data makes a file's bytes durable, and its length when that has changed; not
// its times. Over bytes that were written before it costs half of a Sync where
// the system knows the difference (Linux).
func Data(f *os.File) error { return data(f) }

// Dir makes the names in a folder durable: those of files that were made,
// renamed or removed. Windows has no such call; there NTFS journals them.
func Dir(path string) error {
	if runtime.GOOS == "windows" {
		return nil
	}
	d, err := os.Open(path)
	if err != nil {
		return err
	}
	defer d.Close()
	return d.Sync()
}

// Replace puts a file in another's place, for readers at once. It is a rename that is
// tried again: Windows refuses it while somebody reads the old file. Dir makes it
// durable.
func Replace(from, to string) (err error) {
	for range 50 {
		if err = os.Rename(from, to); err == nil || !errors.Is(err, os.ErrPermission) {
			return err
		}
		time.Sleep(10 * time.Millisecond)
	}
	return err
}
