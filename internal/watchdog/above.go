package watchdog

import "os"

// What a watchdog is started as, before the name of what it starts.
const argv0, argv1 = "openleash", "watchdog"

// maxAbove bounds how far up is looked.
const maxAbove = 1000

// Above finds the watchdog that this very process comes from: name is what Start
// was told. On Linux nothing that a watchdog has started gets out from under it
// while it lives; on macOS what loses its parents does; elsewhere none is found.
func Above() (name string, found bool) {
	for pid, n := os.Getppid(), 0; pid > 1 && n < maxAbove; n++ {
		parent, args := parentOf(pid)
		if len(args) == 3 && args[0] == argv0 && args[1] == argv1 {
			return args[2], true
		}
		pid = parent
	}
	return "", false
}
