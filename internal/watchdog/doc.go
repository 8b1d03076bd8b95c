// Package watchdog starts a program so that it, and all that comes of it, ends
// with us, whatever ends us.
//
// On Unix the program is started by a watchdog: our own program again, which
// stands between us and the server and lives as long as anything of the server
// does. It reads a pipe whose other end only we hold. When that is closed, by us
// or by the system because we are no more, it kills what it has started:
//
//   - On Linux, every descendant, also those that have left the group and the
//     session, or whose parents have ended: they become the watchdog's children
//     (PR_SET_CHILD_SUBREAPER). Only children that were not collected yet are
//     killed, so that a process id never means another process. Should the
//     watchdog itself be killed, the server dies with it (PR_SET_PDEATHSIG); what
//     the server has started is then left.
//   - On other Unix systems, the server's process group. A descendant that left it
//     is not found.
//
// On Windows it is a job object, which ends with its last handle. What the program
// starts in the moment before it is put into the job is not in it.
//
// Nowhere does it reach what somebody else has been asked to run: a container
// of Docker's, a service of the system's.
package watchdog

import "os/exec"

// User is a user of the system, whom a program may run as.
type User struct {
	UID, GID uint32
	Groups   []uint32
}

// Start starts cmd, whose standard input, output and error must be files. name
// is for those who look at the list of processes. as may be nil: as we run.
func Start(cmd *exec.Cmd, name string, as *User) (*Tree, error) {
	t := &Tree{}
	if cmd.Err != nil {
		return nil, cmd.Err
	}
	if err := t.start(cmd, name, as); err != nil {
		return nil, err
	}
	return t, nil
}
