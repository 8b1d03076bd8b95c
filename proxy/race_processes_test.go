package proxy

import (
	"os"
	"os/exec"
	"testing"
)

// TestRacesOfProcesses: the same with three processes on one store, which are killed.
func TestRacesOfProcesses(t *testing.T) {
	races(t, 4, ownProcess, byApproval, byCancel)
}

// ownProcess starts a machine as a process of its own.
func ownProcess(w *raceWorld) raceStart {
	exe := must(os.Executable())(w.t)
	cmd := exec.Command(exe)
	cmd.Env, cmd.Stderr = append(os.Environ(), raceChildEnv+"="+w.home), os.Stderr
	if os.Getenv("GORACE") == "" {
		cmd.Env = append(cmd.Env, "GORACE=atexit_sleep_ms=0")
	}
	in, out := must(cmd.StdinPipe())(w.t), must(cmd.StdoutPipe())(w.t)
	if err := cmd.Start(); err != nil {
		w.t.Fatal(err)
	}
	return raceStart{in, out, func() { cmd.Process.Kill() }, cmd.Wait}
}
