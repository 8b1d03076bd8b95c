package api

import (
	"crypto/ed25519"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"os"
	"regexp"
	"strings"
	"testing"

	"github.com/openleash/openleash-go/action"
)

// guide is what agents are told, and its fenced blocks.
func guide(t *testing.T) (text string, blocks []string) {
	t.Helper()
	w := ask(newAPI(t, config(t)), "GET", "/agents.md", "")
	if w.Code != 200 || w.Header().Get("Content-Type") != "text/markdown; charset=utf-8" {
		t.Fatalf("= %d %v", w.Code, w.Header())
	}
	for _, m := range regexp.MustCompile("(?ms)^```[a-z]+\n(.*?)\n```$").FindAllStringSubmatch(w.Body.String(), -1) {
		blocks = append(blocks, m[1])
	}
	return w.Body.String(), blocks
}

// The bytes of the example are those of the vectors: an agent that signs as it is told
// signs what the server verifies.
func TestGuideSignsAsTheVectorsDo(t *testing.T) {
	raw, err := os.ReadFile("../testdata/vectors/openleash-0.27.json")
	if err != nil {
		t.Fatal(err)
	}
	var v struct {
		SigningInput string `json:"signing_input"`
		BodySHA256   string `json:"body_sha256"`
		Signature    string `json:"signature_b64"`
		Private      string `json:"private_key_b64"`
		Public       string `json:"public_key_b64"`
		ActionHash   string `json:"action_hash"`
	}
	if err := json.Unmarshal(raw, &v); err != nil {
		t.Fatal(err)
	}
	text, blocks := guide(t)
	if len(blocks) != 4 {
		t.Fatalf("%d blocks, want the invite, the body, the signing input and the signature", len(blocks))
	}
	body, input, signature := blocks[1], blocks[2], blocks[3]
	sum := sha256.Sum256([]byte(body))
	if hex.EncodeToString(sum[:]) != v.BodySHA256 || input != v.SigningInput || signature != v.Signature {
		t.Errorf("body of %x, signing input %q, signature %s; the vectors have %s, %q, %s", sum, input, signature, v.BodySHA256, v.SigningInput, v.Signature)
	}
	if !strings.Contains(text, v.Private) || !strings.Contains(blocks[0], v.Public) {
		t.Error("the keys are not those of the vectors")
	}
	parsed, err := action.Parse([]byte(body), action.Limits{})
	if err != nil {
		t.Fatal(err)
	}
	req, err := action.RequestFromValue(parsed)
	if err != nil || req.Hash().String() != "sha256:"+v.ActionHash {
		t.Errorf("the body is the action %s (%v), want %s", req.Hash(), err, v.ActionHash)
	}
	verifySample(t, v.Public, input, signature)
}

func verifySample(t *testing.T, public, input, signature string) {
	t.Helper()
	der, err := base64.StdEncoding.DecodeString(public)
	if err != nil {
		t.Fatal(err)
	}
	key, err := x509.ParsePKIXPublicKey(der)
	if err != nil {
		t.Fatal(err)
	}
	sig, err := base64.StdEncoding.DecodeString(signature)
	if err != nil || !ed25519.Verify(key.(ed25519.PublicKey), []byte(input), sig) {
		t.Errorf("the signature does not verify: %v", err)
	}
}

// Agents are told of every decision, and of every route that is theirs, and the page is
// short enough to be read.
func TestGuideTellsAll(t *testing.T) {
	text, _ := guide(t)
	for _, d := range decisions() {
		if !strings.Contains(text, "| `"+d+"` |") {
			t.Errorf("nothing is said of %s", d)
		}
	}
	for _, rt := range (&server{}).routes() {
		if (strings.HasPrefix(rt.path, "/v1/agent") || rt.path == "/v1/authorize") && !strings.Contains(text, rt.path+"`") {
			t.Errorf("nothing is said of %s", rt.path)
		}
	}
	if len(text) > 8000 {
		t.Errorf("%d bytes: too long to be read before each task", len(text))
	}
}
