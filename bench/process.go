package main

import (
	"fmt"
	"net"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"sync"
	"time"
)

// process is a program that we started, and so may end.
type process struct {
	cmd    *exec.Cmd
	gone   chan struct{} // closed when it has ended
	ending sync.Once
}

func start(cmd *exec.Cmd) (*process, error) {
	if err := cmd.Start(); err != nil {
		return nil, fmt.Errorf("starting %s: %w", cmd, err)
	}
	if f, ok := cmd.Stderr.(*os.File); ok {
		f.Close() // it has its own
	}
	p := &process{cmd: cmd, gone: make(chan struct{})}
	go func() {
		// Not Wait: it would close the pipe under its reader.
		cmd.Process.Wait()
		close(p.gone)
	}()
	return p, nil
}

// end asks it to end, and insists after a while.
func (p *process) end() {
	p.ending.Do(func() {
		if p.cmd.Process.Signal(os.Interrupt) != nil {
			p.cmd.Process.Kill()
		}
		select {
		case <-p.gone:
		case <-time.After(15 * time.Second):
			p.cmd.Process.Kill()
			<-p.gone
		}
	})
}

// serving waits until it listens on addr.
func (p *process) serving(addr string) error {
	for until := time.Now().Add(60 * time.Second); time.Now().Before(until); time.Sleep(10 * time.Millisecond) {
		select {
		case <-p.gone:
			return fmt.Errorf("%s ended before it listened on %s", p.cmd, addr)
		default:
		}
		if c, err := net.Dial("tcp", addr); err == nil {
			return c.Close()
		}
	}
	return fmt.Errorf("%s does not listen on %s", p.cmd, addr)
}

// cpu is the processor time that it has used, its threads' together; zero where
// that cannot be told (it is read from /proc).
func (p *process) cpu() time.Duration {
	if p == nil {
		return 0
	}
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", p.cmd.Process.Pid))
	if err != nil {
		return 0
	}
	fields := strings.Fields(string(stat[strings.LastIndexByte(string(stat), ')')+1:]))
	user, _ := strconv.Atoi(fields[11])
	system, _ := strconv.Atoi(fields[12])
	return time.Duration(user+system) * 10 * time.Millisecond // USER_HZ is 100
}

// memory is what it has resident now, and the most it ever had, in MB.
func (p *process) memory() (now, peak float64) {
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", p.cmd.Process.Pid))
	if err != nil {
		return 0, 0
	}
	for line := range strings.Lines(string(status)) {
		name, value, _ := strings.Cut(line, ":")
		kb, _ := strconv.ParseFloat(strings.TrimSuffix(strings.TrimSpace(value), " kB"), 64)
		switch name {
		case "VmRSS":
			now = kb / 1024
		case "VmHWM":
			peak = kb / 1024
		}
	}
	return now, peak
}

// freePort is a port that nobody has at this moment.
func freePort() (int, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return 0, err
	}
	defer l.Close()
	return l.Addr().(*net.TCPAddr).Port, nil
}
