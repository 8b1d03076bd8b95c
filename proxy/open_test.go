package proxy

import (
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/openleash/openleash-go/action"
	"github.com/openleash/openleash-go/approvals"
	"github.com/openleash/openleash-go/audit"
	"github.com/openleash/openleash-go/proof"
)

const (
	denyAll  = "version: 1\ndefault: deny\nrules: []\n"
	readFile = `{"jsonrpc":"2.0", "id":1,"method":"resources/read","params":{"uri":"file:///notes/a.txt","x":1.10}}`
	getText  = `{"jsonrpc":"2.0", "id":"p","method":"prompts/get","params":{"name":"greet","arguments":{"who":"b"}}}`
	sample   = `{"jsonrpc":"2.0", "id":1,"method":"sampling/createMessage","params":{"messages":[{"role":"user","content":{"type":"text","text":"\u00e9 1.10"}}],"maxTokens":9007199254740993}}`
	elicit   = `{"jsonrpc":"2.0", "id":2,"method":"elicitation/create","params":{"message":"your password?","requestedSchema":{"type":"object"}}}`
	// wants is a result of 2026-07-28 with requests inside.
	wants = `{"jsonrpc":"2.0","id":5,"result":{"resultType":"input_required","requestState":"s","inputRequests":{` +
		`"r":{"method":"roots/list"},"e":{"method":"elicitation/create","params":{"message":"sure?"}}}}}`
)

func ruleAbout(effect, actionType, more string) string {
	return "version: 1\ndefault: allow\nrules:\n  - {id: it, effect: " + effect + ", action: " + actionType + more + "}\n"
}

const held = ", obligations: [{type: HUMAN_APPROVAL}]"

// decisions are the log's decisions about one action type.
func (k *talk) decisions(actionType string) (of []audit.Entry) {
	k.t.Helper()
	for _, e := range k.logged("decision") {
		if *e.ActionType == actionType {
			of = append(of, e)
		}
	}
	return of
}

// What no rule is about passes byte for byte, whatever the default, and stands in
// the log.
func TestOpenRequestsPassAndAreLogged(t *testing.T) {
	k := newTalk(t, denyAll)
	for _, c := range []struct{ request, actionType, about string }{
		{readFile, "mcp.shop.resource.read", "file:///notes/a.txt"},
		{getText, "mcp.shop.prompt.get", "greet"},
	} {
		k.host.write(c.request)
		if got := k.next(k.upstream); got != c.request {
			t.Errorf("the server got %s, want %s", got, c.request)
		}
		m := must(ReadMessage([]byte(c.request), action.Limits{}))(t)
		answer := `{"jsonrpc":"2.0","id":` + m.ID + `,"result":{"n":1e400}}`
		k.upstream.write(answer)
		if got := k.next(k.host); got != answer {
			t.Errorf("the host got %s, want %s", got, answer)
		}
	}
	for _, c := range []struct{ request, answer string }{
		{sample, `{"jsonrpc":"2.0","id":1,"result":{"role":"assistant"}}`},
		{elicit, `{"jsonrpc":"2.0","id":2,"result":{"action":"accept"}}`},
	} {
		k.upstream.write(c.request)
		if got := k.next(k.host); got != c.request {
			t.Errorf("the host got %s, want %s", got, c.request)
		}
		k.host.write(c.answer)
		if got := k.next(k.upstream); got != c.answer {
			t.Errorf("the server got %s, want %s", got, c.answer)
		}
	}
	k.upstream.write(wants)
	if got := k.next(k.host); got != wants {
		t.Errorf("the host got %s, want %s", got, wants)
	}
	for actionType, n := range map[string]int{"mcp.shop.resource.read": 1, "mcp.shop.prompt.get": 1, "mcp.shop.sampling": 1, "mcp.shop.elicitation": 2} {
		got := k.decisions(actionType)
		if len(got) != n || *got[0].Decision != "ALLOW" || got[0].ProofKID != nil || got[0].Server != "shop" || got[0].CallHash == "" {
			t.Errorf("%s: %+v", actionType, got)
		}
	}
	if got := k.decisions("mcp.shop.resource.read")[0]; got.Detail != "file:///notes/a.txt" || got.Tool != "resources/read" {
		t.Errorf("%+v", got)
	}
	if o := k.logged("outcome"); len(o) != 5 || o[0].Outcome != "ok" || o[2].Outcome != "ok" || o[2].ResultHash == "" || o[4].Outcome != "unknown" {
		t.Errorf("outcomes: %+v", o)
	}
}

func TestOpenRequestsAreGovernedByARule(t *testing.T) {
	for _, c := range []struct{ actionType, request, code string }{
		{"mcp.shop.resource.read", readFile, "-32010"},
		{"mcp.shop.prompt.get", getText, "-32010"},
		{"mcp.*", readFile, "-32010"},
	} {
		k := newTalk(t, ruleAbout("deny", c.actionType, ", description: not this"))
		k.host.write(c.request)
		got := []byte(k.next(k.host))
		if rawAt(got, "error", "code") != c.code || rawAt(got, "error", "data", "code") != `"POLICY_DENIED"` || rawAt(got, "error", "data", "rule_id") != `"it"` ||
			!strings.Contains(rawAt(got, "error", "message"), "not this") {
			t.Errorf("%s: %s", c.actionType, got)
		}
		k.host.write(`{"jsonrpc":"2.0","method":"last"}`)
		if got := k.next(k.upstream); !strings.Contains(got, "last") {
			t.Errorf("the server got %s", got)
		}
	}
}

// By its arguments, with a proof: what an upstream can verify.
func TestOpenRequestAllowedByARuleCarriesAProof(t *testing.T) {
	k := newTalk(t, ruleAbout("allow", "mcp.shop.resource.read", ", when: {match: {path: $.payload.arguments.uri, op: eq, value: 'file:///notes/a.txt'}}"))
	k.host.write(readFile)
	m := must(action.Parse([]byte(k.next(k.upstream)), action.Limits{}))(t)
	arguments := must(action.Parse([]byte(`{"uri":"file:///notes/a.txt","x":1.10}`), action.Limits{}))(t)
	expect := proof.Expect{Keys: k.keys(t), Now: time.Now(), Audience: "mcp:shop", AgentID: "bot", CallHash: action.CallHash("resources/read", arguments)}
	if _, err := proof.Verify(m.Get("params").Get("_meta").Get(ProofKey).Text(), expect); err != nil {
		t.Errorf("the proof: %v", err)
	}
}

func TestOpenRequestWithoutParamsCarriesAProof(t *testing.T) {
	k := newTalk(t, ruleAbout("allow", "mcp.shop.resource.read", ""))
	k.host.write(` {"jsonrpc":"2.0","id":1,"method":"resources/read"}`)
	got := k.next(k.upstream)
	m := must(action.Parse([]byte(got), action.Limits{}))(t)
	if m.Get("params").Get("_meta").Get(ProofKey).Text() == "" || m.Get("params").Len() != 1 || !strings.HasSuffix(got, `,"jsonrpc":"2.0","id":1,"method":"resources/read"}`) {
		t.Errorf("the server got %s", got)
	}
}

func TestOpenRequestIsHeld(t *testing.T) {
	k := newTalk(t, ruleAbout("allow", "mcp.shop.resource.read", held), func(p *Proxy) { p.Hold = 300 * time.Millisecond })
	k.host.write(readFile)
	got := []byte(k.next(k.host))
	if rawAt(got, "error", "data", "code") != `"APPROVAL_REQUIRED"` || !strings.Contains(rawAt(got, "error", "message"), "Ask again now") {
		t.Errorf("got %s", got)
	}
	k.approve(t, k.pending(t).ID)
	k.host.write(readFile)
	if got := k.next(k.upstream); !strings.Contains(got, "file:///notes/a.txt") || !strings.Contains(got, ProofKey) {
		t.Errorf("the server got %s", got)
	}
}

func TestWhatOnlyLooksUngovernedIsRefused(t *testing.T) {
	k := newTalk(t, allowAll)
	for _, raw := range []string{
		`{"jsonrpc":"2.0","id":1,"method":"Resources/Read","params":{"uri":"x"}}`,
		`{"jsonrpc":"2.0","id":1,"method":"Prompts/get","params":{"name":"x"}}`,
		`{"jsonrpc":"2.0","id":1,"method":"resources/read","params":{"uri":"x","uri":"y"}}`,
		`{"jsonrpc":"2.0","id":1,"method":"resources/read","params":{"uri":"x","_Meta":{}}}`,
		`{"jsonrpc":"2.0","id":1,"method":"prompts/get","params":[]}`,
		`{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"resource.read"}}`,
	} {
		k.host.write(raw)
		if got := []byte(k.next(k.host)); rawAt(got, "id") != "1" || rawAt(got, "error") == "" && rawAt(got, "result", "isError") != "true" {
			t.Errorf("%s: got %s", raw, got)
		}
	}
	for _, raw := range []string{
		`{"jsonrpc":"2.0","id":1,"method":"Sampling/createMessage","params":{}}`,
		`{"jsonrpc":"2.0","id":1,"method":"elicitation/create","params":{"message":"a","message":"b"}}`,
	} {
		k.upstream.write(raw)
		if got := []byte(k.next(k.upstream)); rawAt(got, "id") != "1" || rawAt(got, "error") == "" {
			t.Errorf("%s: got %s", raw, got)
		}
	}
	k.silent(k.host, 50*time.Millisecond)
}

func TestServerAsksAndIsRefused(t *testing.T) {
	k := newTalk(t, "version: 1\ndefault: allow\nrules:\n  - {id: a, effect: deny, action: mcp.shop.sampling}\n  - {id: b, effect: deny, action: mcp.shop.elicitation}\n")
	k.upstream.write(sample)
	if got := []byte(k.next(k.upstream)); rawAt(got, "error", "code") != "-1" || rawAt(got, "error", "data", "rule_id") != `"a"` {
		t.Errorf("sampling: %s", got)
	}
	k.upstream.write(elicit)
	if got := []byte(k.next(k.upstream)); rawAt(got, "id") != "2" || rawAt(got, "result", "action") != `"decline"` || rawAt(got, "result", "_meta", RefusalKey, "rule_id") != `"b"` {
		t.Errorf("elicitation: %s", got)
	}
	k.upstream.write(wants)
	if got := []byte(k.next(k.host)); rawAt(got, "id") != "5" || rawAt(got, "error", "code") != "-32010" || strings.Contains(string(got), "sure?") {
		t.Errorf("input: %s", got)
	}
	k.silent(k.host, 50*time.Millisecond)
}

// A request that is held keeps nothing behind it, reaches the host once it is
// approved, and never when the server has withdrawn it.
func TestServerAsksAndIsHeld(t *testing.T) {
	k := newTalk(t, ruleAbout("allow", "mcp.shop.sampling", held))
	k.upstream.write(sample)
	k.upstream.write(`{"jsonrpc":"2.0","method":"notifications/message"}`)
	if got := k.next(k.host); !strings.Contains(got, "notifications/message") {
		t.Errorf("got %s", got)
	}
	k.approve(t, k.pending(t).ID)
	if got := k.next(k.host); got != sample {
		t.Errorf("got %s", got)
	}
	k.host.write(`{"jsonrpc":"2.0","id":1,"result":{}}`)
	k.next(k.upstream)

	k.upstream.write(strings.Replace(sample, `"id":1`, `"id":7`, 1))
	open := k.pending(t)
	k.upstream.write(`{"jsonrpc":"2.0","method":"notifications/cancelled","params":{"requestId":7}}`)
	k.upstream.write(`{"jsonrpc":"2.0","method":"after"}`)
	if got := k.next(k.host); !strings.Contains(got, "after") {
		t.Errorf("the host got %s: it has never heard of that request", got)
	}
	k.approve(t, open.ID)
	k.silent(k.host, 200*time.Millisecond)
	if r := must(k.store.Approval(t.Context(), open.ID))(t); r.At(time.Now()) != approvals.Approved {
		t.Errorf("the grant was spent: %+v", r)
	}
}

// The same over HTTP to HTTP, where the messages are events of streams.
func TestPassthroughServerAsks(t *testing.T) {
	told := make(chan string, 10)
	more := make(chan string)
	up := newRawUpstream(t, func(w http.ResponseWriter, r *http.Request, body string) {
		if !strings.Contains(body, `"work"`) {
			told <- body
			w.WriteHeader(202)
			return
		}
		sse(w, "data: {\"jsonrpc\":\"2.0\",\"method\":\"first\"}\n\n")
		for event := range more {
			sse(w, "id: e\ndata: "+event+"\n\n")
		}
		sse(w, "data: {\"jsonrpc\":\"2.0\",\"id\":9,\"result\":{}}\n\n")
	})
	p := newRealProxy(t, "version: 1\ndefault: allow\nrules:\n  - {id: a, effect: deny, action: mcp.shop.elicitation}\n  - {id: b, effect: allow, action: mcp.shop.sampling"+held+"}\n")
	url := p.as(t, "a", p.HTTPPassthrough(HTTPUpstream{URL: up.URL})).URL
	event, _ := openStream(t, "POST", url, `{"jsonrpc":"2.0","id":9,"method":"work"}`)
	next := func() string { // what is not for the host leaves its event's id
		for {
			if data := event(); data != "" {
				return data
			}
		}
	}
	next()
	more <- elicit
	if got := []byte(<-told); rawAt(got, "result", "action") != `"decline"` {
		t.Errorf("the server was told %s", got)
	}
	more <- sample
	more <- `{"jsonrpc":"2.0","method":"n"}`
	if got := next(); !strings.Contains(got, `"n"`) {
		t.Errorf("got %s", got)
	}
	p.approve(t, p.pending(t).ID)
	if got := next(); got != sample {
		t.Errorf("got %s", got)
	}
	answer := `{"jsonrpc":"2.0","id":1,"result":{"role":"assistant"}}`
	if r := post(t, url, answer); r.Status != 202 {
		t.Errorf("%d %s", r.Status, r.Body)
	}
	if got := <-told; got != answer {
		t.Errorf("the server was told %s", got)
	}
	more <- strings.Replace(wants, `"id":5`, `"id":9`, 1)
	if got := []byte(next()); rawAt(got, "error", "code") != "-32010" || rawAt(got, "id") != "9" {
		t.Errorf("got %s", got)
	}
	close(more)
	p.outcome(t, `"outcome":"ok"`)
}

// A host that goes away while the server's question is held: the server is told.
func TestPassthroughHostGoesWhileTheServerAsks(t *testing.T) {
	told := make(chan string, 1)
	up := newRawUpstream(t, func(w http.ResponseWriter, r *http.Request, body string) {
		if !strings.Contains(body, `"work"`) {
			told <- body
			w.WriteHeader(202)
			return
		}
		sse(w, "data: {\"jsonrpc\":\"2.0\",\"method\":\"first\"}\n\n")
		sse(w, "data: "+sample+"\n\n")
		<-r.Context().Done()
	})
	p := newRealProxy(t, ruleAbout("allow", "mcp.shop.sampling", held))
	url := p.as(t, "a", p.HTTPPassthrough(HTTPUpstream{URL: up.URL})).URL
	_, hangUp := openStream(t, "POST", url, `{"jsonrpc":"2.0","id":9,"method":"work"}`)
	p.pending(t)
	hangUp()
	if got := []byte(<-told); rawAt(got, "id") != "1" || rawAt(got, "error", "code") == "" {
		t.Errorf("the server was told %s", got)
	}
}

func TestOpenRequestsDoNotReachIntoOpenLeash(t *testing.T) {
	for _, uri := range []string{"file:///home/me/.openleash/keys/proof.key", "file:///notes/%2e%2e/.openleash/config.yaml"} {
		k := newTalk(t, allowAll)
		k.host.write(`{"jsonrpc":"2.0","id":1,"method":"resources/read","params":{"uri":"` + uri + `"}}`)
		if got := []byte(k.next(k.host)); rawAt(got, "error", "data", "code") != `"PROTECTED"` {
			t.Errorf("%s: %s", uri, got)
		}
	}
}

// So many governed requests of one server may be open, held or with the host; one
// more is refused, until one of them is answered.
func TestAServerAsksOnlySoMuchAtOnce(t *testing.T) {
	k := newTalk(t, ruleAbout("allow", "mcp.shop.elicitation", held))
	ask := func(method string, id int) {
		k.upstream.write(fmt.Sprintf(`{"jsonrpc":"2.0","id":%d,"method":%q,"params":{"n":%d}}`, id, method, id))
	}
	for id := range maxAsked - 1 {
		ask("sampling/createMessage", id)
		if got := k.next(k.host); !strings.Contains(got, fmt.Sprintf(`"id":%d,"method":"sampling/createMessage"`, id)) {
			t.Fatalf("the host got %s, want request %d", got, id)
		}
	}
	ask("elicitation/create", maxAsked-1) // it is held
	for _, method := range []string{"sampling/createMessage", "elicitation/create"} {
		ask(method, maxAsked)
		if got := k.next(k.upstream); !strings.HasPrefix(got, fmt.Sprintf(`{"jsonrpc":"2.0","id":%d,"error":{"code":-32600,"message":"256 requests wait`, maxAsked)) {
			t.Fatalf("the server got %s, want a refusal", got)
		}
	}
	// What is not governed is not counted, and the host has heard of none too many.
	k.upstream.write(`{"jsonrpc":"2.0","id":"roots","method":"roots/list"}`)
	if got := k.next(k.host); !strings.Contains(got, `"roots/list"`) {
		t.Errorf("the host got %s", got)
	}
	k.host.write(`{"jsonrpc":"2.0","id":7,"result":{}}`)
	if got := k.next(k.upstream); got != `{"jsonrpc":"2.0","id":7,"result":{}}` {
		t.Errorf("the server got %s", got)
	}
	ask("sampling/createMessage", maxAsked+1)
	if got := k.next(k.host); !strings.Contains(got, fmt.Sprintf(`"id":%d,`, maxAsked+1)) {
		t.Errorf("the host got %s, want the request that there is room for now", got)
	}
	ask("sampling/createMessage", maxAsked+2)
	if got := k.next(k.upstream); !strings.Contains(got, "256 requests wait") {
		t.Errorf("the server got %s, want a refusal", got)
	}
}
