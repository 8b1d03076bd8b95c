package sample

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"
	"time"

	"github.com/mark3labs/mcp-go/server"

	"github.com/openleash/openleash-go/action"
	"github.com/openleash/openleash-go/proof"
)

// answer is what a test needs of a tools/call response.
type answer struct {
	Result struct {
		Content []struct{ Text string }
		IsError bool
	}
	Error *struct{ Message string }
}

// call sends one tools/call as the bytes that a proxy would send.
func call(t *testing.T, s *server.MCPServer, tool, arguments, token string) (text string, refused bool) {
	t.Helper()
	response, err := json.Marshal(s.HandleMessage(t.Context(), json.RawMessage(callMessage(tool, arguments, token))))
	if err != nil {
		t.Fatal(err)
	}
	return readAnswer(t, response)
}

func callMessage(tool, arguments, token string) string {
	meta := "{}"
	if token != "" {
		meta = fmt.Sprintf(`{"ai.openleash/proof":%q,"progressToken":1}`, token)
	}
	return fmt.Sprintf(`{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":%q,"arguments":%s,"_meta":%s}}`, tool, arguments, meta)
}

func readAnswer(t *testing.T, response []byte) (text string, refused bool) {
	t.Helper()
	var a answer
	if err := json.Unmarshal(response, &a); err != nil || a.Error != nil || len(a.Result.Content) != 1 {
		t.Fatalf("%s: %v", response, err)
	}
	return a.Result.Content[0].Text, a.Result.IsError
}

func TestToolsWithoutProofs(t *testing.T) {
	s := New(Config{})
	steps := []struct {
		tool, arguments string
		refused         bool
		want            string
	}{
		{"list_offers", `{}`, false, "orders: none"},
		{"buy", `{"item":"desk lamp","price":49.00,"currency":"EUR","shop":"shop.example"}`, false, "order 1: desk lamp for 49.00 EUR from shop.example"},
		{"buy", `{"item":"desk lamp","price":"49.00","currency":"EUR","shop":"shop.example"}`, false, "order 2: desk lamp"},
		{"list_offers", `{}`, false, "- order 2: desk lamp"},
		{"buy", `{"item":"desk lamp","price":49.00,"currency":"EUR"}`, true, "shop is missing"},
		{"buy", `{"item":"desk lamp","price":49.00,"currency":"EUR","shop":"s","gift":"yes"}`, true, "got 5 arguments"},
		{"buy", `{"item":["a"],"price":49.00,"currency":"EUR","shop":"s"}`, true, "item: want a text or a number, got an array"},
		{"buy", `{"item":"a","price":1,"Price":2,"currency":"EUR","shop":"s"}`, true, `differs from "price" only in case`},
		{"buy", `[]`, true, "want an object"},
		{"send_mail", `{"to":"ann@partner.example","subject":"Hi","body":"Lunch?"}`, false, `mail 1: to ann@partner.example, "Hi"`},
		{"send_mail", `{"to":"a@b@c","subject":"Hi","body":"Lunch?"}`, true, "want one address"},
		{"list_mail", `{}`, false, "sent:\n- mail 1"},
		{"book", `{"kind":"haircut","when":"2030-01-07T09:00:00Z"}`, false, "booking 1: haircut at 2030-01-07T09:00:00Z"},
		{"book", `{"kind":"medical","when":"2030-01-07T09:00:00Z"}`, true, "is taken"},
		{"book", `{"kind":"surgery","when":"2030-01-07T10:00:00Z"}`, true, "want haircut or medical"},
		{"list_slots", `{}`, false, "free:\n- 2030-01-07T10:00:00Z\n- 2030-01-08T09:00:00Z\nbooked:\n- booking 1"},
	}
	for _, step := range steps {
		text, refused := call(t, s, step.tool, step.arguments, "")
		if refused != step.refused || !strings.Contains(text, step.want) || strings.Contains(text, "proof") {
			t.Errorf("%s %s: refused %v: %s\nwant %v: %s", step.tool, step.arguments, refused, text, step.refused, step.want)
		}
	}
}

const (
	lamp   = `{"item":"desk lamp","price":49.00,"currency":"EUR","shop":"shop.example"}`
	lunch  = `{"to":"ann@Partner.example","subject":"Hi","body":"Lunch?"}`
	shave  = `{"kind":"haircut","when":"2030-01-07T09:00:00Z"}`
	agent  = "local"
	itself = "mcp:sample"
)

// issuer signs proofs as the proxy would.
type issuer struct {
	t    *testing.T
	key  *proof.Key
	next int
}

func newIssuer(t *testing.T) *issuer {
	key, err := proof.NewKey(time.Now())
	if err != nil {
		t.Fatal(err)
	}
	return &issuer{t: t, key: key}
}

func (i *issuer) keys() ([]proof.PublicKey, error) { return []proof.PublicKey{i.key.Public()}, nil }

// sign makes the proof of a call; change alters its claims.
func (i *issuer) sign(audience, tool, arguments string, change func(*proof.Claims)) string {
	i.t.Helper()
	parsed, err := action.Parse([]byte(arguments), action.Limits{})
	if err != nil {
		i.t.Fatal(err)
	}
	i.next++
	now := time.Now()
	claims := proof.Claims{
		Subject: agent, AgentID: agent, Audience: audience, IssuedAt: now, Expires: now.Add(time.Minute),
		ID: fmt.Sprintf("proof-%d", i.next), Decision: "ALLOW", DecisionID: "b5a2c4f6-0000-4000-8000-000000000001",
		ActionID: "b5a2c4f6-0000-4000-8000-000000000002", ActionType: "test", ActionHash: action.CallHash("x", parsed).String(),
		PolicyID: "test", OwnerType: "user", OwnerID: "b5a2c4f6-0000-4000-8000-000000000003",
		Server: "sample", Tool: tool, CallHash: action.CallHash(tool, parsed).String(),
	}
	if change != nil {
		change(&claims)
	}
	token, err := i.key.Sign(claims)
	if err != nil {
		i.t.Fatal(err)
	}
	return token
}

func TestProofs(t *testing.T) {
	i := newIssuer(t)
	stranger := newIssuer(t)
	tests := []struct {
		name, tool, arguments, token string
		want                         string // of a refusal; empty: accepted
	}{
		{"purchase", "buy", lamp, i.sign("shop.example", "buy", lamp, nil), ""},
		{"same meaning, other bytes", "buy", lamp, i.sign("shop.example", "buy", strings.Replace(lamp, "49.00", "49", 1), nil), ""},
		{"mail", "send_mail", lunch, i.sign("partner.example", "send_mail", lunch, nil), ""},
		{"booking", "book", shave, i.sign(itself, "book", shave, nil), ""},

		{"none", "buy", lamp, "", `the call has none in _meta["ai.openleash/proof"]`},
		{"garbage", "buy", lamp, "v4.public.AAAA", ""},
		{"of other arguments", "buy", lamp, i.sign("shop.example", "buy", strings.Replace(lamp, "49", "4", 1), nil), ""},
		{"of another tool", "buy", lamp, i.sign("shop.example", "sell", lamp, nil), ""},
		{"for another shop", "buy", lamp, i.sign("other.example", "buy", lamp, nil), ""},
		{"for no one", "buy", lamp, i.sign("", "buy", lamp, nil), ""},
		{"for the domain as it was written", "send_mail", lunch, i.sign("Partner.example", "send_mail", lunch, nil), ""},
		{"for another server", "buy", lamp, i.sign("shop.example", "buy", lamp, func(c *proof.Claims) { c.Server = "other" }), `it is for the server "other"`},
		{"expired", "buy", lamp, i.sign("shop.example", "buy", lamp, func(c *proof.Claims) {
			c.IssuedAt, c.Expires = c.IssuedAt.Add(-time.Hour), c.IssuedAt.Add(-time.Minute)
		}), ""},
		{"of a stranger", "buy", lamp, stranger.sign("shop.example", "buy", lamp, nil), ""},
	}
	for n, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			s := New(Config{Keys: i.keys})
			text, refused := call(t, s, test.tool, test.arguments, test.token)
			if n < 4 {
				if refused || !strings.Contains(text, "\nproof verified: local may do exactly this, for ") {
					t.Errorf("want it accepted, got %s", text)
				}
				return
			}
			if !refused || !strings.HasPrefix(text, "proof refused: ") || !strings.Contains(text, test.want) {
				t.Errorf("want it refused with %q, got %s", test.want, text)
			}
			if offers, _ := call(t, s, "list_offers", `{}`, ""); !strings.Contains(offers, "orders: none") {
				t.Errorf("it was refused and done: %s", offers)
			}
		})
	}
}

func TestProofIsSpent(t *testing.T) {
	i := newIssuer(t)
	s := New(Config{Keys: i.keys})
	token := i.sign("shop.example", "buy", lamp, nil)
	if text, refused := call(t, s, "buy", lamp, token); refused {
		t.Fatal(text)
	}
	text, refused := call(t, s, "buy", lamp, token)
	if !refused || !strings.Contains(text, "it was used before (jti proof-1)") {
		t.Errorf("want the second use refused, got %s", text)
	}
	if text, refused := call(t, s, "buy", lamp, i.sign("shop.example", "buy", lamp, nil)); refused {
		t.Errorf("want a new proof of the same call accepted, got %s", text)
	}
}

func TestKeysThatCannotBeRead(t *testing.T) {
	i := newIssuer(t)
	s := New(Config{Keys: func() ([]proof.PublicKey, error) { return nil, errors.New("no such file") }})
	text, refused := call(t, s, "buy", lamp, i.sign("shop.example", "buy", lamp, nil))
	if !refused || text != "proof refused: reading the public keys: no such file" {
		t.Errorf("got %s", text)
	}
}

// TestServeStdio speaks to the server as the proxy does, line by line.
func TestServeStdio(t *testing.T) {
	i := newIssuer(t)
	fromHost, toServer := io.Pipe()
	fromServer, toHost := io.Pipe()
	ended := make(chan error, 1)
	go func() {
		ended <- ServeStdio(t.Context(), fromHost, toHost, t.Output(), Config{Name: "town", Keys: i.keys})
	}()
	lines := bufio.NewReader(fromServer)
	ask := func(message string) []byte {
		t.Helper()
		if _, err := io.WriteString(toServer, message+"\n"); err != nil {
			t.Fatal(err)
		}
		line, err := lines.ReadBytes('\n')
		if err != nil {
			t.Fatal(err)
		}
		return line
	}
	ask(`{"jsonrpc":"2.0","id":0,"method":"initialize","params":{"protocolVersion":"2025-11-25","capabilities":{},"clientInfo":{"name":"t","version":"1"}}}`)
	token := i.sign("mcp:town", "book", shave, func(c *proof.Claims) { c.Server = "town" })
	if text, refused := readAnswer(t, ask(callMessage("book", shave, token))); refused || !strings.HasPrefix(text, "booking 1: haircut") {
		t.Errorf("got %s", text)
	}
	toServer.Close()
	if err := <-ended; err != nil {
		t.Errorf("want no error when the host goes away, got %v", err)
	}
}
