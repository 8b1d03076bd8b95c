package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"regexp"
	"strings"
	"time"
)

// The auth scenarios test who gets a token for a server, and how: the suite plays
// the server and its authorization server. They cannot be compared with a direct
// client, since OpenLeash is the client: each must pass. The suite starts this
// program as a person with a host, who does what the host is told to.
const loginCommand = "login"

// logins are the scenarios about authorization codes. Not among them is
// auth/2025-03-26-oauth-endpoint-fallback, a server without any metadata, of which
// nobody can say whether it knows S256: there we do not sign in.
var logins = map[string][]string{
	"2025-03-26": {"2025-03-26-oauth-metadata-backcompat"},
	"2026-07-28": {
		"metadata-default", "metadata-var1", "metadata-var2", "metadata-var3", "metadata-issuer-mismatch", "resource-mismatch",
		"basic-cimd", "pre-registration", "token-endpoint-auth-basic", "token-endpoint-auth-post", "token-endpoint-auth-none",
		"scope-from-www-authenticate", "scope-from-scopes-supported", "scope-omitted-when-undefined", "scope-step-up", "scope-retry-limit",
		"offline-access-scope", "offline-access-not-supported", "authorization-server-migration",
		"iss-supported", "iss-not-advertised", "iss-supported-missing", "iss-wrong-issuer", "iss-unexpected", "iss-normalized",
	},
}

// loginScenarios runs them, prints them and counts those that fail.
func (l *lab) loginScenarios() (failed int, err error) {
	self, err := os.Executable()
	if err != nil {
		return 0, err
	}
	all := results{}
	for revision, names := range logins {
		for _, name := range names {
			command := fmt.Sprintf("%s %s %s %s", self, loginCommand, l.dir, l.openleash)
			got, err := l.run("client", "--command", command, "--scenario", "auth/"+name, "--spec-version", revision)
			if err != nil {
				return failed, err
			}
			for _, checks := range got {
				all[name] = append(all[name], checks...)
			}
			if !passes(all[name]) {
				failed++
				fmt.Printf("  - auth/%s: fails%s\n", name, reasons("", all[name]))
			}
		}
	}
	fmt.Printf("login: %s\n", tally(all))
	return failed, nil
}

// login is what the suite runs: FOLDER OPENLEASH URL. It fails if it could not
// even try; what came of it the suite knows.
func login(ctx context.Context, args []string) int {
	if len(args) != 3 {
		fmt.Fprintln(os.Stderr, "conformance: login wants FOLDER OPENLEASH URL")
		return 2
	}
	l := &lab{ctx: ctx, dir: args[0], keep: true, openleash: args[1]}
	if err := l.loginAndCall(args[2]); err != nil {
		fmt.Fprintln(os.Stderr, "conformance:", err)
		return 1
	}
	return 0
}

func (l *lab) loginAndCall(url string) error {
	up := entry{"url": url}
	if client := knownClient(); client != nil {
		up["oauth"] = client
	}
	s, err := l.home(entry{"up": up})
	if err != nil {
		return err
	}
	h, err := s.host(l.openleash)
	if err != nil {
		return err
	}
	defer h.end()
	for _, request := range []string{`"server/discover","params":{%s}`, `"tools/list","params":{%s}`, `"tools/call","params":{%s,"name":"test-tool","arguments":{}}`, `"tools/list","params":{%s}`} {
		if err := h.insist(request); err != nil {
			return err
		}
	}
	return nil
}

// knownClient is the client that the suite has registered by hand, or whose
// document it knows.
func knownClient() entry {
	if os.Getenv("MCP_CONFORMANCE_SCENARIO") == "auth/basic-cimd" {
		return entry{"client_id": "https://conformance-test.local/client-metadata.json"}
	}
	var given struct {
		ID     string `json:"client_id"`
		Secret string `json:"client_secret"`
	}
	if json.Unmarshal([]byte(os.Getenv("MCP_CONFORMANCE_CONTEXT")), &given) != nil || given.ID == "" {
		return nil
	}
	os.Setenv("CLIENT_SECRET", given.Secret)
	return entry{"client_id": given.ID, "client_secret": "${CLIENT_SECRET}"}
}

// host is one over stdio, stateless.
type host struct {
	s         *leash
	openleash string
	cmd       *exec.Cmd
	in        io.WriteCloser
	out       *bufio.Scanner
}

func (s *leash) host(openleash string) (*host, error) {
	cmd := exec.Command(openleash, "stdio", "up")
	cmd.Env = s.env()
	in, err := cmd.StdinPipe()
	if err != nil {
		return nil, err
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	return &host{s, openleash, cmd, in, bufio.NewScanner(out)}, cmd.Start()
}

func (h *host) end() {
	h.in.Close()
	h.cmd.Wait()
}

const meta = `"_meta":{"io.modelcontextprotocol/protocolVersion":"2026-07-28","io.modelcontextprotocol/clientInfo":{"name":"host","version":"1"},"io.modelcontextprotocol/clientCapabilities":{}}`

// told is the command that an answer tells the owner to type.
var told = regexp.MustCompile(`openleash (login up(?: --scope [^\s"\\]+)*)`)

// insist sends a request; as often as the answer says what to type, three times
// at most, that is typed and the request sent again.
func (h *host) insist(request string) error {
	for range 3 {
		answer, err := h.ask(fmt.Sprintf(request, meta))
		if err != nil {
			return err
		}
		command := told.FindStringSubmatch(answer)
		if command == nil || !h.login(strings.Fields(command[1])) {
			return nil
		}
	}
	_, err := h.ask(fmt.Sprintf(request, meta))
	return err
}

func (h *host) ask(request string) (answer string, err error) {
	if _, err := fmt.Fprintf(h.in, `{"jsonrpc":"2.0","id":1,"method":%s}`+"\n", request); err != nil {
		return "", err
	}
	for h.out.Scan() {
		if bytes.Contains(h.out.Bytes(), []byte(`"id":1`)) {
			return h.out.Text(), nil
		}
	}
	return "", fmt.Errorf("openleash has ended: %v", h.out.Err())
}

// login types a command, and follows the address that it prints as the person's
// browser would. It reports whether the person is signed in.
func (h *host) login(command []string) bool {
	cmd := exec.Command(h.openleash, append(command, "--no-browser")...)
	cmd.Env, cmd.Stderr = h.s.env(), os.Stderr
	out, err := cmd.StdoutPipe()
	if err != nil || cmd.Start() != nil {
		return false
	}
	browser := &http.Client{Timeout: 20 * time.Second}
	for lines := bufio.NewScanner(out); lines.Scan(); {
		if link := strings.TrimSpace(lines.Text()); strings.HasPrefix(link, "http") {
			if res, err := browser.Get(link); err == nil {
				res.Body.Close()
			}
		}
	}
	return cmd.Wait() == nil
}
