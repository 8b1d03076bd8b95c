package proxy

import "syscall"

// dieWithUs has the kernel end the child when we are killed without a chance
// to do it ourselves.
func dieWithUs(attr *syscall.SysProcAttr) { attr.Pdeathsig = syscall.SIGKILL }
