package main

import (
	"encoding/pem"
	"fmt"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
)

// The users of the separated set-up. They need no entry in /etc/passwd.
const (
	ownerUID, agentUID, otherUID = 61001, 61002, 61003
)

// apart is a machine with several users.
type apart struct {
	t    *testing.T
	base string
	port int
}

// person is one of them: what runs as it runs in its own folder.
type person struct {
	*apart
	uid int
	dir string
	env []string
}

func newApart(t *testing.T) *apart {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Fatal("this test runs programs as other users, so it needs root, and nothing else shows that the agent's user is kept out.\n" +
			"Run it so: sudo env \"PATH=$PATH\" go test -run TestSecondUser ./cmd/openleash")
	}
	base, err := os.MkdirTemp("", "openleash-apart-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(base) })
	a := &apart{t: t, base: base, port: freePort()}
	a.folder(base, 0, 0o755)
	a.folder(filepath.Join(base, "bin"), 0, 0o755)
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	src, err := os.ReadFile(self)
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"openleash", "fakemcp"} {
		if err := os.WriteFile(filepath.Join(base, "bin", name), src, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	return a
}

func (a *apart) folder(dir string, uid int, mode os.FileMode) {
	a.t.Helper()
	for _, err := range []error{os.MkdirAll(dir, mode), os.Chmod(dir, mode), os.Chown(dir, uid, uid)} {
		if err != nil {
			a.t.Fatal(err)
		}
	}
}

func (a *apart) user(name string, uid int, env ...string) *person {
	a.t.Helper()
	u := &person{apart: a, uid: uid, dir: filepath.Join(a.base, name)}
	a.folder(u.dir, uid, 0o700)
	u.env = append([]string{"PATH=" + filepath.Join(a.base, "bin") + ":/usr/local/bin:/usr/bin:/bin", "HOME=" + u.dir, "GORACE=atexit_sleep_ms=0"}, env...)
	return u
}

func (u *person) write(name, text string) string {
	u.t.Helper()
	file := filepath.Join(u.dir, name)
	u.folder(filepath.Dir(file), u.uid, 0o700)
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		u.t.Fatal(err)
	}
	if err := os.Chown(file, u.uid, u.uid); err != nil {
		u.t.Fatal(err)
	}
	return file
}

// command is one that runs as the user, with no group but its own.
func (u *person) command(env []string, words ...string) *exec.Cmd {
	program := words[0]
	if program == "openleash" {
		program = filepath.Join(u.base, "bin", program)
	}
	cmd := exec.Command(program, words[1:]...)
	cmd.Dir, cmd.Env = u.dir, append(u.env[:len(u.env):len(u.env)], env...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: uint32(u.uid), Gid: uint32(u.uid), Groups: []uint32{}}}
	return cmd
}

func (u *person) run(env []string, words ...string) (string, error) {
	out, err := u.command(env, words...).CombinedOutput()
	return string(out), err
}

func (u *person) must(words ...string) string {
	u.t.Helper()
	out, err := u.run(nil, words...)
	if err != nil {
		u.t.Fatalf("%v as uid %d: %v\n%s", words, u.uid, err, out)
	}
	return out
}

func (u *person) start(words ...string) *process {
	u.t.Helper()
	p, err := startPrepared(u.command(nil, words...))
	if err != nil {
		u.t.Fatal(err)
	}
	u.t.Cleanup(func() {
		p.cmd.Process.Kill()
		<-p.exited
	})
	return p
}

// owner is a user with an installation that is being served.
func (a *apart) owner() (owner *person, far *process) {
	a.t.Helper()
	home := filepath.Join(a.base, "owner", "leash")
	owner = a.user("owner", ownerUID, "OPENLEASH_HOME="+home)
	owner.write("leash/config.yaml", fmt.Sprintf("listen: 127.0.0.1:%d\nmcpServers:\n  fake:\n    command: fakemcp\n    args: [-record, %s, -pids, %s]\n    env: {SECRET: of-the-upstream}\n",
		a.port, filepath.Join(owner.dir, "calls"), owner.dir))
	owner.write("leash/policies/test.yaml", connectPolicy+"  - {id: never, effect: deny, action: mcp.fake.forbidden}\n")
	far = owner.start("openleash", "start")
	if _, ok := far.take(func(line string) bool { return strings.Contains(line, "Sign in") }); !ok {
		a.t.Fatalf("openleash start: %s", far.all())
	}
	return owner, far
}

func (a *apart) url() string { return fmt.Sprintf("http://127.0.0.1:%d/mcp/fake", a.port) }

// The promise of the separated set-up: with OpenLeash under one user and the agent
// under another, the agent has its tools, governed, and cannot read keys,
// policies, store and log, nor approve, nor kill. The same things done by the
// owner work, so each of these attempts could succeed.
func TestSecondUser(t *testing.T) {
	t.Parallel()
	a := newApart(t)
	owner, far := a.owner()
	agent, other := a.user("agent", agentUID), a.user("other", otherUID)
	agent.write("token", owner.must("openleash", "agents", "token", "claude"))
	otherToken := other.write("token", owner.must("openleash", "agents", "token", "cursor"))

	// Its tools: allowed, refused, held.
	h := agent.start("openleash", "connect", "--token-file", "token", a.url())
	h.say(t, `{"jsonrpc":"2.0","id":0,"method":"initialize","params":{"protocolVersion":"2025-11-25","capabilities":{},"clientInfo":{"name":"t","version":"1"}}}`)
	h.answer(t, 0)
	h.say(t, `{"jsonrpc":"2.0","method":"notifications/initialized"}`)
	h.call(t, 1, "echo", `{"n":"allowed"}`)
	if got := h.answer(t, 1); !strings.Contains(got, "allowed") || strings.Contains(got, "isError") {
		t.Errorf("allowed: %s", got)
	}
	h.call(t, 2, "forbidden", `{}`)
	if got := h.answer(t, 2); !strings.Contains(got, "POLICY_DENIED") {
		t.Errorf("refused: %s", got)
	}
	h.call(t, 3, "hold", `{"n":"held"}`)
	var id string
	if !eventually(func() bool {
		_, rest, found := strings.Cut(owner.must("openleash", "approvals", "list", "--json"), `"id": "`)
		id, _, _ = strings.Cut(rest, `"`)
		return found
	}) {
		t.Fatal("no call is held")
	}

	child, err := readPID(filepath.Join(owner.dir, "child"))
	if err != nil {
		t.Fatal(err)
	}
	home, pid, childPID := filepath.Join(owner.dir, "leash"), strconv.Itoa(far.cmd.Process.Pid), strconv.Itoa(child)
	ownersHome := []string{"OPENLEASH_HOME=" + home}
	denied := "ermission denied"
	for _, try := range []struct {
		what  string
		words []string
		want  string // in what the agent is told
		alone bool   // the owner would do harm
	}{
		{"list the home", []string{"ls", home}, denied, false},
		{"read the key", []string{"sh", "-c", "cat " + home + "/keys/*"}, denied, false},
		{"read the key by its name", []string{"cat", home + "/keys/proof-1.pem"}, denied, false},
		{"read a policy", []string{"cat", home + "/policies/test.yaml"}, denied, false},
		{"read the configuration", []string{"cat", home + "/config.yaml"}, denied, false},
		{"read the store", []string{"cat", home + "/data/openleash.db"}, denied, false},
		{"read the journal", []string{"cat", home + "/data/openleash.journal"}, denied, false},
		{"read the log", []string{"cat", home + "/data/audit.log.jsonl"}, denied, false},
		{"add a policy", []string{"sh", "-c", "echo 'version: 1' > " + home + "/policies/evil.yaml"}, denied, true},
		{"replace the log", []string{"rm", "-f", home + "/data/audit.log.jsonl"}, denied, true},
		{"read the server's environment", []string{"cat", "/proc/" + pid + "/environ"}, denied, false},
		{"read the upstream's secret", []string{"cat", "/proc/" + childPID + "/environ"}, denied, false},
		{"list approvals", []string{"openleash", "approvals", "list"}, denied, false},
		{"approve", []string{"openleash", "approvals", "approve", id}, denied, true},
		{"make a token", []string{"openleash", "agents", "token", "claude"}, denied, true},
		{"sign in", []string{"openleash", "open", "--no-browser"}, denied, false},
		{"export keys", []string{"openleash", "keys", "export"}, denied, false},
		{"see whether it can kill", []string{"sh", "-c", "kill -0 " + pid}, "ot permitted", false},
		{"kill", []string{"sh", "-c", "kill -KILL " + pid}, "ot permitted", true},
		{"stop", []string{"sh", "-c", "kill -STOP " + pid}, "ot permitted", true},
		{"kill the upstream", []string{"sh", "-c", "kill -KILL " + childPID}, "ot permitted", true},
	} {
		out, err := agent.run(ownersHome, try.words...)
		if err == nil || !strings.Contains(out, try.want) {
			t.Errorf("%s, as the agent: %v, %q; want a failure with %q", try.what, err, out, try.want)
		}
		if strings.Contains(out, "BEGIN") || strings.Contains(out, "of-the-upstream") {
			t.Errorf("%s, as the agent: it got a secret", try.what)
		}
		if !try.alone {
			if out, err := owner.run(nil, try.words...); err != nil {
				t.Errorf("%s, as the owner: %v, %q; so the agent's failure says nothing", try.what, err, out)
			}
		}
	}
	if out, err := agent.run(nil, "cat", otherToken); err == nil || !strings.Contains(out, denied) {
		t.Errorf("the other agent's token: %v, %q", err, out)
	}
	if out, err := agent.run([]string{"OPENLEASH_HOME=" + home}, "openleash", "connect", "--token-file", otherToken, a.url()); err == nil || !strings.Contains(out, denied) {
		t.Errorf("connecting as the other agent: %v, %q", err, out)
	}
	agent.doors(id)

	// It was all in vain: the call is still held, and the owner's answer counts.
	if list := owner.must("openleash", "approvals", "list", "--json"); !strings.Contains(list, `"status": "PENDING"`) || !strings.Contains(list, id) {
		t.Errorf("after the agent's attempts: %s", list)
	}
	owner.must("openleash", "approvals", "approve", id)
	if got := h.answer(t, 3); !strings.Contains(got, "held") || strings.Contains(got, "isError") {
		t.Errorf("held: %s", got)
	}
	if out := owner.must("openleash", "audit", "verify"); !strings.Contains("\n"+out, "\nok: ") {
		t.Errorf("audit verify: %s", out)
	}
	if log := owner.must("openleash", "audit", "tail", "--json", "-n", "100"); strings.Count(log, `"event":"approval.`) != 1 || !strings.Contains(log, `"event":"approval.approved"`) {
		t.Errorf("the log has not just the owner's answer: %s", log)
	}
	h.stdin.Close()
	<-h.exited
	files, err := os.ReadDir(agent.dir)
	if err != nil || len(files) != 1 {
		t.Errorf("the agent's folder has %v, %v; want its token alone", files, err)
	}
}

// doors tries portal and API from the agent's side: nothing there takes its token
// for the owner's sign-in.
func (u *person) doors(approval string) {
	u.t.Helper()
	token, err := os.ReadFile(filepath.Join(u.dir, "token"))
	if err != nil {
		u.t.Fatal(err)
	}
	for _, path := range []string{"/approvals/" + approval + "/approve", "/approvals/" + approval + "/deny", "/v1/approvals/" + approval + "/approve", "/mcp/fake/approvals", "/sign-in"} {
		for _, authorization := range []string{"", "Bearer " + strings.TrimSpace(string(token))} {
			req, err := http.NewRequest("POST", fmt.Sprintf("http://127.0.0.1:%d%s", u.port, path), strings.NewReader("token=oll_guess&answer=approve"))
			if err != nil {
				u.t.Fatal(err)
			}
			req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
			req.Header.Set("Origin", fmt.Sprintf("http://127.0.0.1:%d", u.port))
			if authorization != "" {
				req.Header.Set("Authorization", authorization)
			}
			res, err := http.DefaultClient.Do(req)
			if err != nil {
				u.t.Fatal(err)
			}
			body, _ := io.ReadAll(res.Body)
			res.Body.Close()
			if res.StatusCode < 400 || res.StatusCode >= 500 {
				u.t.Errorf("POST %s with %q: %s %s", path, authorization, res.Status, body)
			}
		}
	}
}

// Over https, as from another machine: the certificate is checked against the
// system's roots, or those of SSL_CERT_FILE.
func TestConnectTLS(t *testing.T) {
	t.Parallel()
	in, token := farInstallation(t)
	in.serve(t)
	far, err := url.Parse(fmt.Sprintf("http://127.0.0.1:%d", in.port))
	if err != nil {
		t.Fatal(err)
	}
	front := httptest.NewUnstartedServer(&httputil.ReverseProxy{FlushInterval: -1, Rewrite: func(r *httputil.ProxyRequest) { r.SetURL(far) }}) // SetURL sets Host to ours
	front.Config.ErrorLog = log.New(io.Discard, "", 0)                                                                                         // it complains of who does not trust it
	front.StartTLS()
	t.Cleanup(front.Close)
	roots := filepath.Join(in.dir, "roots.pem")
	if err := os.WriteFile(roots, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: front.Certificate().Raw}), 0o600); err != nil {
		t.Fatal(err)
	}
	command := []string{"openleash", "connect", "--token-file", token, front.URL + "/mcp/fake"}

	stranger := in.process(t, os.Environ(), command...)
	stranger.stdin.Close()
	<-stranger.exited
	if words := stranger.words(); stranger.cmd.ProcessState.ExitCode() != 1 || !strings.Contains(words, "certificate") || !strings.Contains(words, "Nothing was sent") {
		t.Errorf("an unknown certificate: %s", stranger.all())
	}

	h := in.process(t, append(os.Environ(), "SSL_CERT_FILE="+roots), command...)
	h.say(t, `{"jsonrpc":"2.0","id":0,"method":"initialize","params":{"protocolVersion":"2025-11-25","capabilities":{},"clientInfo":{"name":"t","version":"1"}}}`)
	h.answer(t, 0)
	h.say(t, `{"jsonrpc":"2.0","method":"notifications/initialized"}`)
	for i := range 20 {
		h.call(t, 1+i, "echo", `{"n":"over-tls"}`)
	}
	for i := range 20 {
		if got := h.answer(t, 1+i); !strings.Contains(got, "over-tls") {
			t.Errorf("call %d: %s", 1+i, got)
		}
	}
}
