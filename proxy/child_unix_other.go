//go:build unix && !linux

package proxy

import "syscall"

// dieWithUs has no equivalent here: a server whose host was killed sees its
// input close, and ends by itself as the protocol wants.
func dieWithUs(*syscall.SysProcAttr) {}
