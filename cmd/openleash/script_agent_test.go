package main

import (
	"bytes"
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"strings"
	"time"

	"github.com/google/uuid"
	"github.com/rogpeppe/go-internal/testscript"

	"github.com/openleash/openleash-go/proof"
)

// cmdAgent is an agent that does not speak MCP. What is answered goes to stdout, the
// status first.
//
//	agent NAME invited LINK        registers by an invite
//	agent NAME challenge OWNER     registers by a challenge, for an owner
//	agent NAME key                 makes a new key, and prints it
//	agent NAME METHOD URL [FILE]   sends a signed request; variables in FILE are put in
func cmdAgent(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: agent NAME invited|challenge|key|METHOD …")
	}
	a := &testAgent{ts: ts, name: args[0], file: ts.MkAbs(args[0] + ".key")}
	switch args[1] {
	case "key":
		a.newKey()
		fmt.Fprintln(ts.Stdout(), a.spki())
	case "invited":
		a.newKey()
		a.post(args[2], map[string]any{"agent_id": a.name, "agent_pubkey_b64": a.spki()})
	case "challenge":
		a.newKey()
		a.challenge(args[2])
	default:
		var body []byte
		if len(args) > 3 {
			body = []byte(os.Expand(ts.ReadFile(args[3]), ts.Getenv))
		}
		a.send(args[1], args[2], body)
	}
}

type testAgent struct {
	ts         *testscript.TestScript
	name, file string
}

func (a *testAgent) newKey() {
	_, key, err := ed25519.GenerateKey(nil)
	a.ts.Check(err)
	a.ts.Check(os.WriteFile(a.file, key.Seed(), 0o600))
}

func (a *testAgent) key() ed25519.PrivateKey {
	seed, err := os.ReadFile(a.file)
	a.ts.Check(err)
	return ed25519.NewKeyFromSeed(seed)
}

func (a *testAgent) spki() string {
	return proof.PublicKey{Key: a.key().Public().(ed25519.PublicKey)}.SPKI()
}

func (a *testAgent) post(link string, fields map[string]any) (answer map[string]any) {
	body, err := json.Marshal(fields)
	a.ts.Check(err)
	resp, err := http.Post(link, "application/json", bytes.NewReader(body))
	a.ts.Check(err)
	got := a.tell(resp)
	json.Unmarshal(got, &answer)
	return answer
}

func (a *testAgent) challenge(owner string) {
	base := "http://127.0.0.1:" + a.ts.Getenv("PORT")
	fields := map[string]any{"agent_id": a.name, "agent_pubkey_b64": a.spki(), "owner_type": "user", "owner_id": owner}
	c := a.post(base+"/v1/agents/registration-challenge", fields)
	random, err := base64.StdEncoding.DecodeString(fmt.Sprint(c["challenge_b64"]))
	a.ts.Check(err)
	fields["challenge_id"], fields["signature_b64"] = c["challenge_id"], base64.StdEncoding.EncodeToString(ed25519.Sign(a.key(), random))
	a.post(base+"/v1/agents/register", fields)
}

// send signs a request as the public SDKs do.
func (a *testAgent) send(method, link string, body []byte) {
	if strings.HasPrefix(link, "/") {
		link = "http://127.0.0.1:" + a.ts.Getenv("PORT") + link
	}
	u, err := url.Parse(link)
	a.ts.Check(err)
	req, err := http.NewRequest(method, link, bytes.NewReader(body))
	a.ts.Check(err)
	hashed := body
	if method == http.MethodGet {
		hashed = []byte("{}")
	}
	sum := sha256.Sum256(hashed)
	at, nonce := time.Now().UTC().Format("2006-01-02T15:04:05.000Z"), uuid.NewString()
	text := strings.Join([]string{method, u.EscapedPath(), at, nonce, hex.EncodeToString(sum[:])}, "\n")
	for name, value := range map[string]string{
		"Content-Type": "application/json", "X-Agent-Id": a.name, "X-Timestamp": at, "X-Nonce": nonce,
		"X-Body-Sha256": hex.EncodeToString(sum[:]), "X-Signature": base64.StdEncoding.EncodeToString(ed25519.Sign(a.key(), []byte(text))),
	} {
		req.Header.Set(name, value)
	}
	resp, err := http.DefaultClient.Do(req)
	a.ts.Check(err)
	a.tell(resp)
}

func (a *testAgent) tell(resp *http.Response) []byte {
	defer resp.Body.Close()
	got, err := io.ReadAll(resp.Body)
	a.ts.Check(err)
	fmt.Fprintf(a.ts.Stdout(), "%d %s", resp.StatusCode, got)
	return got
}
