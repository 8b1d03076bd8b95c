//go:build !linux

package durable

import "os"

// data is the whole sync: macOS needs F_FULLFSYNC, which Sync is there.
func data(f *os.File) error { return f.Sync() }
