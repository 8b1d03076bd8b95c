package watchdog

import (
	"bytes"
	"fmt"
	"os"
	"strconv"
	"strings"
)

// parentOf tells who a process's parent is, and how the process was started. A
// process that cannot be looked at has neither.
func parentOf(pid int) (parent int, args []string) {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return 0, nil
	}
	// "pid (name) state ppid …", and a name may have anything in it.
	fields := strings.Fields(string(stat[bytes.LastIndexByte(stat, ')')+1:]))
	if len(fields) < 2 {
		return 0, nil
	}
	parent, _ = strconv.Atoi(fields[1]) // 0: that was the last
	line, _ := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", pid))
	return parent, strings.Split(strings.TrimSuffix(string(line), "\x00"), "\x00")
}
