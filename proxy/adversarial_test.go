package proxy

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/openleash/openleash-go/approvals"
)

// hostile are messages that are not passed on. Each is answered once, under its
// id where it can be read, and the upstream never hears of it.
var hostile = []struct{ name, raw, id string }{
	{"method twice", `{"jsonrpc":"2.0","id":1,"method":"ping","method":"tools/call","params":{"name":"a"}}`, `1`},
	{"method in two letters", `{"jsonrpc":"2.0","id":2,"method":"ping","Method":"tools/call","params":{"name":"a"}}`, `2`},
	{"method twice, escaped", `{"jsonrpc":"2.0","id":3,"m\u0065thod":"ping","method":"tools/call"}`, `3`},
	{"params twice", `{"jsonrpc":"2.0","id":4,"method":"tools/call","params":{"name":"a"},"params":{"name":"b"}}`, `4`},
	{"params folded", `{"jsonrpc":"2.0","id":5,"method":"tools/call","params":{"name":"a"},"Params":{"name":"b"}}`, `5`},
	{"params folded with a long s", `{"jsonrpc":"2.0","id":6,"method":"tools/call","params":{"name":"a"},"paramſ":{"name":"b"}}`, `6`},
	{"name twice", `{"jsonrpc":"2.0","id":7,"method":"tools/call","params":{"name":"a","name":"b"}}`, `7`},
	{"name folded", `{"jsonrpc":"2.0","id":8,"method":"tools/call","params":{"name":"a","NAME":"b"}}`, `8`},
	{"arguments folded", `{"jsonrpc":"2.0","id":9,"method":"tools/call","params":{"name":"a","Arguments":{}}}`, `9`},
	{"_meta twice", `{"jsonrpc":"2.0","id":10,"method":"tools/call","params":{"name":"a","_meta":{},"_meta":{}}}`, `10`},
	{"_meta folded", `{"jsonrpc":"2.0","id":11,"method":"tools/call","params":{"name":"a","_Meta":{"ai.openleash/proof":"x"}}}`, `11`},
	{"progressToken twice", `{"jsonrpc":"2.0","id":12,"method":"tools/call","params":{"name":"a","_meta":{"progressToken":1,"progressToken":2}}}`, `12`},
	{"progressToken folded", `{"jsonrpc":"2.0","id":13,"method":"tools/call","params":{"name":"a","_meta":{"progressToken":1,"ProgressToken":2}}}`, `13`},
	{"argument twice", `{"jsonrpc":"2.0","id":14,"method":"tools/call","params":{"name":"a","arguments":{"to":1,"to":2}}}`, `14`},
	{"argument folded", `{"jsonrpc":"2.0","id":15,"method":"tools/call","params":{"name":"a","arguments":{"x":[{"to":1,"To":2}]}}}`, `15`},
	{"a number that no double holds", `{"jsonrpc":"2.0","id":16,"method":"tools/call","params":{"name":"a","arguments":{"n":1e400}}}`, `16`},
	{"half a surrogate pair", `{"jsonrpc":"2.0","id":17,"method":"tools/call","params":{"name":"a","arguments":{"s":"\udc00"}}}`, `17`},
	{"bytes that are no UTF-8", "{\"jsonrpc\":\"2.0\",\"id\":18,\"method\":\"tools/call\",\"params\":{\"name\":\"a\xff\"}}", `18`},
	{"deep arguments", `{"jsonrpc":"2.0","id":19,"method":"tools/call","params":{"name":"a","arguments":{"x":` + strings.Repeat("[", 70) + strings.Repeat("]", 70) + `}}}`, `19`},
	{"deep anything", `{"jsonrpc":"2.0","id":20,"method":"ping","params":` + strings.Repeat("[", 2000) + strings.Repeat("]", 2000) + `}`, `20`},
	{"the id comes last", `{"params":{},"method":7,"jsonrpc":"2.0","id":"last"}`, `"last"`},
	{"spaces around the method", `{"jsonrpc":"2.0","id":21,"method":" tools/call","params":{"name":"a"}}`, `21`},
	{"a line end in the method", `{"jsonrpc":"2.0","id":22,"method":"tools/call\n","params":{"name":"a"}}`, `22`},
	{"a NUL in the method", `{"jsonrpc":"2.0","id":23,"method":"tools/call\u0000x","params":{"name":"a"}}`, `23`},
	{"a space of no width", `{"jsonrpc":"2.0","id":24,"method":"tools\u200b/call","params":{"name":"a"}}`, `24`},
	{"capitals", `{"jsonrpc":"2.0","id":25,"method":"Tools/Call","params":{"name":"a"}}`, `25`},
	{"a long s in the method", `{"jsonrpc":"2.0","id":26,"method":"toolſ/call","params":{"name":"a"}}`, `26`},
	{"method and result", `{"jsonrpc":"2.0","id":27,"method":"tools/call","params":{"name":"a"},"result":{}}`, `27`},
	{"harmless method and result", `{"jsonrpc":"2.0","id":28,"method":"ping","result":{"method":"tools/call"}}`, `28`},
	{"neither", `{"jsonrpc":"2.0","id":29}`, `29`},
	{"another version", `{"jsonrpc":"1.0","id":30,"method":"ping"}`, `30`},
	{"no version", `{"id":31,"method":"tools/call","params":{"name":"a"}}`, `31`},
	{"version folded", `{"JSONRPC":"2.0","id":32,"method":"ping"}`, `32`},
	{"no params", `{"jsonrpc":"2.0","id":33,"method":"tools/call"}`, `33`},
	{"params are a list", `{"jsonrpc":"2.0","id":34,"method":"tools/call","params":["a"]}`, `34`},
	{"name is a list", `{"jsonrpc":"2.0","id":35,"method":"tools/call","params":{"name":["a"]}}`, `35`},
	{"trailing text", `{"jsonrpc":"2.0","id":36,"method":"ping"} and more`, `36`},
	{"a raw NUL", "{\"jsonrpc\":\"2.0\",\"id\":37,\"method\":\"ping\",\"params\":{\"s\":\"\x00\"}}", `37`},
	{"a raw return in a string", "{\"jsonrpc\":\"2.0\",\"id\":38,\"method\":\"ping\",\"params\":{\"s\":\"a\rb\"}}", `38`},
	{"cut off", `{"jsonrpc":"2.0","id":39,"method":"tools/call","params":{"name":"a"`, `39`},
	{"a comment", `{"jsonrpc":"2.0","id":40,/* */"method":"tools/call"}`, `40`},
	{"a comma too many", `{"jsonrpc":"2.0","id":41,"method":"ping",}`, `41`},
	{"NaN", `{"jsonrpc":"2.0","id":42,"method":"tools/call","params":{"name":"a","arguments":{"n":NaN}}}`, `42`},
	{"the id is a float", `{"jsonrpc":"2.0","id":4.30e1,"method":7}`, `43`},
	{"the id is negative", `{"jsonrpc":"2.0","id":-44,"method":7}`, `-44`},
	{"the id is huge", `{"jsonrpc":"2.0","id":123456789012345678901234567890,"method":7}`, `1.2345678901234567890123456789e+29`}, // the same number
	{"the id is a text", `{"jsonrpc":"2.0","id":"4\u0035\"","method":7}`, `"45\""`},
	{"byte-order mark", "\ufeff" + `{"jsonrpc":"2.0","id":46,"method":"ping"}`, `46`},
	{"a space that JSON has not", "\u00a0" + `{"jsonrpc":"2.0","id":47,"method":"ping"}`, `47`},

	// No one id can be read from these.
	{"batch", `[{"jsonrpc":"2.0","id":50,"method":"tools/call","params":{"name":"a"}}]`, `null`},
	{"empty batch", `[]`, `null`},
	{"two messages on a line", `{"jsonrpc":"2.0","id":51,"method":"ping"}{"jsonrpc":"2.0","id":52,"method":"tools/call","params":{"name":"a"}}`, `null`},
	{"two ids", `{"jsonrpc":"2.0","id":53,"id":54,"method":"ping"}`, `null`},
	{"the id is a list", `{"jsonrpc":"2.0","id":[55],"method":"ping"}`, `null`},
	{"the id is true", `{"jsonrpc":"2.0","id":true,"method":"ping"}`, `null`},
	{"the id is no double", `{"jsonrpc":"2.0","id":1e400,"method":"ping"}`, `null`},
	{"the id is folded", `{"jsonrpc":"2.0","ID":56,"method":"ping"}`, `null`},
	{"the id is null", `{"jsonrpc":"2.0","id":null,"method":"tools/call","params":{"name":"a"}}`, `null`},
	{"no id", `{"jsonrpc":"2.0","method":"tools/call","params":{"name":"a"}}`, `null`},
	{"no JSON", `tools/call`, `null`},
	{"UTF-16", "\xfe\xff\x00{\x00}", `null`},
}

func TestHostileMessagesAreAnsweredAndNotPassedOn(t *testing.T) {
	for _, kind := range pairs {
		t.Run(kind.String(), func(t *testing.T) {
			w := newWire(t, kind, allowAll).begin()
			for _, tt := range hostile {
				w.host.write(tt.raw)
				got := w.host.next()
				if rawAt([]byte(got), "id") != tt.id || rawAt([]byte(got), "error", "code") == "" {
					t.Errorf("%s: %.200s\nis answered by %.300s, want an error for id %s", tt.name, tt.raw, got, tt.id)
				}
			}
			// Had one of them been passed on, or been answered twice, it would come here.
			w.pass(w.host, w.up, `{"jsonrpc":"2.0","id":99,"method":"ping"}`, `{"jsonrpc":"2.0","id":99,"method":"ping"}`)
			w.pass(w.up, w.host, `{"jsonrpc":"2.0","id":99,"result":{}}`, `{"jsonrpc":"2.0","id":99,"result":{}}`)
		})
	}
}

// A call stays a call however its method is written, and is decided on.
func TestDisguisedCallsAreGoverned(t *testing.T) {
	deny := "version: 1\ndefault: deny\nrules: []\n"
	for _, kind := range pairs {
		t.Run(kind.String(), func(t *testing.T) {
			w := newWire(t, kind, deny).begin()
			for _, raw := range []string{
				`{"jsonrpc":"2.0","id":1,"method":"tools\u002fcall","params":{"name":"a"}}`,
				`{"jsonrpc":"2.0","id":1,"method":"tools\/call","params":{"name":"a"}}`,
				`{"jsonrpc":"2.0","id":1,"\u006dethod":"\u0074ools/call","p\u0061rams":{"n\u0061me":"a"}}`,
				` {"params" : {"name":"a"} , "id":1, "method"	:	"tools/call","jsonrpc":"2.0"} `,
			} {
				w.host.write(raw)
				if got := w.host.next(); rawAt([]byte(got), "result", "isError") != "true" || !strings.Contains(got, "POLICY_DENIED") {
					t.Errorf("%s: %s", raw, got)
				}
			}
			// What only speaks of a call is none.
			for _, raw := range []string{
				`{"jsonrpc":"2.0","id":2,"method":"future/batch","params":{"method":"tools/call","params":{"name":"a"},"calls":[{"jsonrpc":"2.0","id":1,"method":"tools/call"}]}}`,
			} {
				w.pass(w.host, w.up, raw, raw)
				w.pass(w.up, w.host, `{"jsonrpc":"2.0","id":2,"result":{}}`, `{"jsonrpc":"2.0","id":2,"result":{}}`)
			}
			w.pass(w.host, w.up, `{"jsonrpc":"2.0","id":3,"result":{"method":"tools/call","params":{"name":"a"}}}`, `{"jsonrpc":"2.0","id":3,"result":{"method":"tools/call","params":{"name":"a"}}}`)
		})
	}
}

// Lines end at a newline and at nothing else: what other programs take for a
// line's end stands inside a message, and a message that is cut by one is two
// that are refused.
func TestLinesCannotBeInjected(t *testing.T) {
	for _, kind := range pairs[:2] {
		t.Run(kind.String(), func(t *testing.T) {
			w := newWire(t, kind, allowAll).begin()
			call := `{\"jsonrpc\":\"2.0\",\"id\":66,\"method\":\"tools/call\",\"params\":{\"name\":\"evil\"}}`
			raw := `{"jsonrpc":"2.0","id":1,"method":"x","params":{"s":"a` + "\u2028" + call + "\u2029\u0085" + `\n\r"}}`
			w.pass(w.host, w.up, raw, raw)
			w.host.write(`{"jsonrpc":"2.0","id":2,"method":"x","params":{"s":"a` + "\n" + `b"}}`)
			if a, b := w.host.next(), w.host.next(); !strings.Contains(a, `"id":2,"error"`) || !strings.Contains(b, `"id":null,"error"`) {
				t.Errorf("got %s and %s", a, b)
			}
			w.up.silent(30 * time.Millisecond)
		})
	}
}

func TestIDsAreToldApart(t *testing.T) {
	w := newWire(t, pair{"stdio", "stdio"}, allowAll).begin()
	long := `"` + strings.Repeat("x", 100_000) + `"`
	ids := []string{`1`, `"1"`, `-1`, `1.5`, `"1.0"`, `0`, `9007199254740992`, `9007199254740993`, long}
	for _, id := range ids {
		raw := toolCall(id, "a", `{}`)
		w.pass(w.host, w.up, raw, raw)
	}
	// The same number written otherwise is the same id, to whoever reads it.
	for _, id := range []string{`1.0`, `1e0`, `10E-1`, `"\u0031"`, `-0`, `9007199254740993.0`} {
		w.host.write(toolCall(id, "a", `{}`))
		if got := w.host.next(); !strings.Contains(got, "has not been answered yet") {
			t.Errorf("%s: %s", id, got)
		}
	}
	w.up.silent(30 * time.Millisecond)
	for _, id := range ids { // each is free again after its answer
		answer := `{"jsonrpc":"2.0","id":` + id + `,"result":{"n":1.10}}`
		w.pass(w.up, w.host, answer, answer)
		w.pass(w.host, w.up, toolCall(id, "b", `{}`), toolCall(id, "b", `{}`))
		w.pass(w.up, w.host, answer, answer)
	}
}

// A server cannot answer a call that waits for its owner: it has not got it.
func TestHeldCallCannotBeAnsweredByTheServer(t *testing.T) {
	for _, kind := range []pair{{"stdio", "stdio"}, {"http", "stdio"}} {
		t.Run(kind.String(), func(t *testing.T) {
			w := newWire(t, kind, askAll).begin()
			w.host.write(toolCall("1", "buy", `{}`))
			held := w.pending(t)
			w.up.write(`{"jsonrpc":"2.0","id":1,"result":{"content":[{"type":"text","text":"done, without asking"}]}}`)
			w.up.write(`{"jsonrpc":"2.0","id":1,"result":{},"Result":1}`)
			w.host.silent(50 * time.Millisecond)
			w.approve(t, held.ID)
			if got := w.up.next(); !strings.Contains(got, `"buy"`) {
				t.Fatalf("got %s", got)
			}
			answer := `{"jsonrpc":"2.0","id":1,"result":{"content":[]}}`
			w.pass(w.up, w.host, answer, answer)
		})
	}
}

// What the host must not have to guess: a bad answer is an answer.
func TestBadMessagesOfTheServer(t *testing.T) {
	t.Parallel()
	for _, kind := range pairs[:3] { // the fourth passes the bytes of the server on
		t.Run(kind.String(), func(t *testing.T) {
			for name, bad := range map[string]string{
				"twins":     `{"jsonrpc":"2.0","id":1,"result":{},"Result":{}}`,
				"cut off":   `{"jsonrpc":"2.0","id":1,"result":{"a":`,
				"version":   `{"result":{},"id":1}`,
				"deep":      `{"jsonrpc":"2.0","result":` + strings.Repeat("[", 2000) + strings.Repeat("]", 2000) + `,"id":1}`,
				"raw tab":   "{\"jsonrpc\":\"2.0\",\"id\":1,\"result\":{\"text\":\"a\tb\"}}",
				"both":      `{"jsonrpc":"2.0","id":1,"error":{},"result":{},"ID":2}`,
				"not UTF-8": "{\"jsonrpc\":\"2.0\",\"id\":1,\"result\":{},\"r\xffsult\":\"x\",\"\xff\":1}",
			} {
				t.Run(name, func(t *testing.T) {
					w := newWire(t, kind, allowAll).begin()
					w.pass(w.host, w.up, toolCall("1", "a", `{}`), toolCall("1", "a", `{}`))
					go w.sayBad(bad)
					got := w.host.next()
					if rawAt([]byte(got), "id") != "1" || rawAt([]byte(got), "error", "code") != "-32603" || !strings.Contains(got, "shop") {
						t.Errorf("got %s", got)
					}
					w.host.silent(20 * time.Millisecond)
					w.outcome(t, `"outcome":"unknown"`)
				})
			}
			w := newWire(t, kind, allowAll).begin()
			go w.sayBad(`{"jsonrpc":"2.0","id":"q","method":7}`)
			if got := w.up.next(); rawAt([]byte(got), "id") != `"q"` || rawAt([]byte(got), "error", "code") != "-32600" {
				t.Errorf("the server's own bad request is answered by %s", got)
			}
			w.host.silent(20 * time.Millisecond)
		})
	}
}

// sayBad lets the upstream write what is no message, in answer to request 1.
func (w *wire) sayBad(raw string) {
	if w.toUp == nil {
		w.up.write(raw)
		return
	}
	w.toUp.mu.Lock()
	x := append(append([]*upExchange{}, w.toUp.streams...), w.toUp.open...)
	w.toUp.mu.Unlock()
	x[len(x)-1].out <- raw
}

// A host's answer that is none reaches the server as an error: it waits for it,
// and the host may have a request of that id itself.
func TestBadAnswerOfTheHost(t *testing.T) {
	w := newWire(t, pair{"stdio", "stdio"}, allowAll).begin()
	w.pass(w.host, w.up, toolCall("1", "a", `{}`), toolCall("1", "a", `{}`))
	w.pass(w.up, w.host, `{"jsonrpc":"2.0","id":1,"method":"roots/list"}`, `{"jsonrpc":"2.0","id":1,"method":"roots/list"}`)
	w.host.write(`{"jsonrpc":"2.0","id":1,"result":{},"RESULT":{}}`)
	if got := w.up.next(); rawAt([]byte(got), "id") != "1" || rawAt([]byte(got), "error", "code") == "" {
		t.Errorf("the server got %s", got)
	}
	answer := `{"jsonrpc":"2.0","id":1,"result":{}}`
	w.pass(w.up, w.host, answer, answer)
}

// A cancellation counts whatever else stands in it; a request that is named
// like one is none.
func TestCancellationOfAHeldCall(t *testing.T) {
	t.Parallel()
	for _, kind := range pairs {
		t.Run(kind.String(), func(t *testing.T) {
			w := newWire(t, kind, askAll).begin()
			w.host.write(toolCall(`"1"`, "buy", `{}`))
			held := w.pending(t)
			for _, raw := range []string{ // nobody's, and none
				`{"jsonrpc":"2.0","method":"notifications/cancelled","params":{"requestId":1}}`,
				`{"jsonrpc":"2.0","method":"notifications/cancelled","params":{"requestId":"2"}}`,
				`{"jsonrpc":"2.0","id":5,"method":"notifications/cancelled","params":{"requestId":"1"}}`,
			} {
				w.pass(w.host, w.up, raw, raw)
			}
			w.pass(w.up, w.host, `{"jsonrpc":"2.0","id":5,"result":{}}`, `{"jsonrpc":"2.0","id":5,"result":{}}`)
			w.host.write(`{"jsonrpc":"2.0","method":"notifications/cancelled","params":{"requestId":"\u0031","reason":"\ud800","x":1e400}}`)
			if kind.host == "http" {
				w.host.next() // the exchange ends with an error
			}
			ping := `{"jsonrpc":"2.0","id":6,"method":"ping"}` // behind it: the cancellation is done
			w.pass(w.host, w.up, ping, ping)
			w.approve(t, held.ID)
			w.up.silent(300 * time.Millisecond)
			if still := must(w.store.Approval(t.Context(), held.ID))(t); still.Status != approvals.Approved {
				t.Errorf("the grant is %s", still.Status)
			}
		})
	}
}

// The deepest arguments that are taken come back in the refusal.
func TestRefusalOfDeepArguments(t *testing.T) {
	w := newWire(t, pair{"stdio", "stdio"}, askAll, func(p *Proxy) { p.Hold = time.Millisecond }).begin()
	deep := `{"x":` + strings.Repeat("[", 61) + strings.Repeat("]", 61) + `}`
	w.host.write(toolCall("1", "buy", deep))
	if got := w.host.next(); !strings.Contains(got, "APPROVAL_REQUIRED") || !json.Valid([]byte(got)) {
		t.Errorf("got %s", got)
	}
	w.host.write(toolCall("2", "buy", `{"x":`+deep+`}`))
	if got := w.host.next(); !strings.Contains(got, `"id":2,"error":{"code":-32602`) {
		t.Errorf("got %s", got)
	}
}

// A result may nest more deeply than a call, and its outcome is known.
func TestDeepResult(t *testing.T) {
	for _, kind := range pairs {
		t.Run(kind.String(), func(t *testing.T) {
			w := newWire(t, kind, allowAll).begin()
			w.pass(w.host, w.up, toolCall("1", "a", `{}`), toolCall("1", "a", `{}`))
			answer := `{"jsonrpc":"2.0","id":1,"result":{"structuredContent":` + strings.Repeat("[", 200) + strings.Repeat("]", 200) + `}}`
			w.pass(w.up, w.host, answer, answer)
			w.outcome(t, `"outcome":"ok"`)
		})
	}
}

// Keys under our prefix go from wherever a reader could look for them, and
// nothing else does: not a truncated emoji beside the name, nor white space, nor
// what is written twice.
func TestPrefixIsCutAlone(t *testing.T) {
	for _, kind := range pairs {
		t.Run(kind.String(), func(t *testing.T) {
			w := newWire(t, kind, allowAll).begin()
			for _, tt := range []struct{ raw, want string }{
				{`{"jsonrpc":"2.0","method":"n","params":{"text":"ai.openleash/ \ud83d","a":1,"a":1e400}}`, `{"jsonrpc":"2.0","method":"n","params":{"text":"ai.openleash/ \ud83d","a":1,"a":1e400}}`},
				{`{"jsonrpc":"2.0","method":"n","params":{"_meta":{ "a\u0062":1.10 , "ai.openleash/proof" : "x", "\u007a":[ ]}}}`, `{"jsonrpc":"2.0","method":"n","params":{"_meta":{ "a\u0062":1.10, "\u007a":[ ]}}}`},
				{`{"jsonrpc":"2.0","method":"n","params":{"_meta":{"ai.openleash/a":1,"x":{"_meta":{"ai.openleash/b":2}}},"_meta":{"AI.openLeash/c":3}}}`, `{"jsonrpc":"2.0","method":"n","params":{"_meta":{"x":{"_meta":{}}},"_meta":{}}}`},
				{`{"jsonrpc":"2.0","method":"n","params":{"_META":{"ai.openlea\u017fh/a":1,"ai.openleas":1}}}`, `{"jsonrpc":"2.0","method":"n","params":{"_META":{"ai.openleas":1}}}`},
				{`{"jsonrpc":"2.0","method":"n","params":[{"_meta":{"ai.openleash/a":{"deep":[1,{"_meta":{"ai.openleash/b":1}}]}}}],"_meta":{"ai.openleash/":0}}`, `{"jsonrpc":"2.0","method":"n","params":[{"_meta":{}}],"_meta":{}}`},
			} {
				w.pass(w.host, w.up, tt.raw, tt.want)
				w.pass(w.up, w.host, tt.raw, tt.want)
			}
			// In a call, outside the arguments: those are what was decided on.
			w.host.write(`{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"_meta":{"ai.openleash/proof":"forged","x":{"_meta":{"ai.openleash/proof":"forged"}}},"name":"a","task":{"_meta":{"ai.openleash/k":1}},"arguments":{"_meta":{"ai.openleash/k":1}}}}`)
			want := `{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"_meta":{"x":{"_meta":{}}},"name":"a","task":{"_meta":{}},"arguments":{"_meta":{"ai.openleash/k":1}}}}`
			got := w.up.next()
			if diff := cmp.Diff(want, unproved(got)); diff != "" || strings.Count(got, ProofKey) != 1 {
				t.Errorf("%s (-want +got):\n%s", got, diff)
			}
		})
	}
}

// FuzzStdioRefusals holds the law of refusals on the wire: a bad message is
// answered exactly once, under its id where that can be read, and the upstream
// hears nothing of it.
func FuzzStdioRefusals(f *testing.F) {
	for _, s := range badMessages {
		f.Add(s)
	}
	for _, tt := range hostile {
		f.Add(tt.raw)
	}
	f.Fuzz(func(t *testing.T, raw string) {
		if strings.Contains(raw, "\n") || strings.Trim(raw, " \t\r") == "" {
			return
		}
		if _, err := ReadMessage([]byte(strings.Trim(raw, " \t\r")), anyMessage([]byte(raw))); err == nil {
			return
		}
		near, far := newPipes()
		host, lines := fuzzPipes(t)
		ended := make(chan error, 1)
		go func() { ended <- plainProxy().Serve(t.Context(), someone("a"), lines, near) }()
		host.write(raw)
		host.write(`{"jsonrpc":"2.0","id":"fence","method":"ping"}`)
		m, err := far.Recv(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		bad := refused([]byte(strings.Trim(raw, " \t\r")), 0, "")
		if bad.Response && bad.ID != "" { // an answer that is none is told to who waits for it
			if m.Method != "" || m.ID != bad.ID {
				t.Fatalf("%q reached the upstream as %s", raw, m.Raw)
			}
			return
		}
		if m.ID != `"fence"` {
			t.Fatalf("%q reached the upstream as %s", raw, m.Raw)
		}
		far.write(`{"jsonrpc":"2.0","id":"fence","result":{}}`)
		got := host.next()
		if want, ok := readableID([]byte(raw)); !strings.Contains(got, `"error"`) || ok && rawAt([]byte(got), "id") != want {
			t.Fatalf("%q is answered by %s", raw, got)
		}
		if got := host.next(); got != `{"jsonrpc":"2.0","id":"fence","result":{}}` {
			t.Fatalf("%q is answered again, by %s", raw, got)
		}
	})
}

// fuzzPipes is a host on pipes, and our end of them.
func fuzzPipes(t *testing.T) (*end, Conn) {
	near, far := wirePipes(t)
	return stdioEnd(t, far.r, far.w), StdioHost(near.r, near.w, plainProxy().Limits)
}

func TestManyCallsInFlight(t *testing.T) {
	const n = 50
	for _, kind := range pairs {
		t.Run(kind.String(), func(t *testing.T) {
			w := newWire(t, kind, allowAll).begin()
			go func() {
				for i := range n {
					w.host.write(toolCall(fmt.Sprint(i), "a", `{}`))
				}
			}()
			open := map[string]bool{}
			for range n { // all are with the upstream before one is answered
				open[rawAt([]byte(w.up.next()), "id")] = true
			}
			if len(open) != n {
				t.Fatalf("%d calls came, want %d", len(open), n)
			}
			go func() {
				for i := n - 1; i >= 0; i-- {
					w.up.write(fmt.Sprintf(`{"jsonrpc":"2.0","id":%d,"result":{"for":%d}}`, i, i))
				}
			}()
			for range n {
				got := []byte(w.host.next())
				if id := rawAt(got, "id"); !open[id] || rawAt(got, "result", "for") != id {
					t.Errorf("got %s", got)
				} else {
					delete(open, id)
				}
			}
		})
	}
}

// The hosts of one agent that share an upstream do not reach each other's
// requests, whatever they write for ids and tokens.
func TestStatelessHostsCannotReachEachOther(t *testing.T) {
	w := newWire(t, pair{"http", "stdio"}, allowAll)
	other := newHTTPHost(t, w.toHost.url)
	request := func(id, meta string) string {
		return `{"jsonrpc":"2.0","id":` + id + `,"method":"future/work","params":{"_meta":{"io.modelcontextprotocol/protocolVersion":"2026-07-28"` + meta + `}}}`
	}
	w.host.write(request(`"mine"`, `,"progressToken":"mine"`))
	if got := w.up.next(); got != probe {
		t.Fatalf("the probe: %s", got)
	}
	w.up.write(`{"jsonrpc":"2.0","id":` + probeID + `,"result":{}}`)
	mine := rawAt([]byte(w.up.next()), "id")
	for name, raw := range map[string]string{
		"its token":         request(`2`, `,"progressToken":`+mine),
		"its id":            request(mine, ``),
		"its id as a float": request(mine+`.0`, `,"progressToken":`+mine+`e0`),
	} {
		other.write(raw)
		got := w.up.next()
		if id := rawAt([]byte(got), "id"); id == mine || rawAt([]byte(got), "params", "_meta", "progressToken") == mine {
			t.Errorf("%s: the upstream got %s", name, got)
		}
		w.up.write(`{"jsonrpc":"2.0","id":` + rawAt([]byte(got), "id") + `,"result":{"for":"other"}}`)
		if got := other.next(); rawAt([]byte(got), "result", "for") != `"other"` || rawAt([]byte(got), "id") != rawAt([]byte(raw), "id") {
			t.Errorf("%s: %s", name, got)
		}
	}
	for name, raw := range map[string]string{
		"a token in other letters": request(`3`, `,"ProgressToken":`+mine),
		"two tokens":               request(`3`, `,"progressToken":7,"progressToken":`+mine),
		"no version":               strings.Replace(request(`3`, ``), "protocolVersion", "ProtocolVersion", 1),
		"_meta in other letters":   strings.Replace(request(`3`, `,"progressToken":`+mine), `"_meta"`, `"_Meta"`, 1),
		"two _metas":               strings.Replace(request(`3`, ``), `{"_meta"`, `{"_meta":{"progressToken":`+mine+`},"_meta"`, 1),
	} {
		got := post(t, other.url, raw, "MCP-Protocol-Version", "2026-07-28", "Mcp-Method", "future/work")
		if got.Status != 400 || rawAt([]byte(got.Body), "id") != "3" {
			t.Errorf("%s: %d %s", name, got.Status, got.Body)
		}
	}
	for _, raw := range []string{
		`{"jsonrpc":"2.0","method":"notifications/cancelled","params":{"requestId":` + mine + `}}`,
		`{"jsonrpc":"2.0","id":` + mine + `,"result":{"forged":true}}`,
	} {
		post(t, other.url, raw, "MCP-Protocol-Version", "2026-07-28")
	}
	w.up.write(`{"jsonrpc":"2.0","method":"notifications/progress","params":{"progressToken":` + mine + `,"progress":1}}`)
	w.check("progress", w.host.next(), `{"jsonrpc":"2.0","method":"notifications/progress","params":{"progressToken":"mine","progress":1}}`)
	w.up.write(`{"jsonrpc":"2.0","id":` + mine + `,"result":{}}`)
	w.check("result", w.host.next(), `{"jsonrpc":"2.0","id":"mine","result":{}}`)
	w.up.silent(20 * time.Millisecond)
	other.silent(20 * time.Millisecond)
}

// Another agent's session is none, for whatever a host can do with it.
func TestAnotherAgentsSessionIsNone(t *testing.T) {
	for _, kind := range pairs[2:] {
		t.Run(kind.String(), func(t *testing.T) {
			w := newWire(t, kind, allowAll).begin()
			w.pass(w.host, w.up, toolCall("1", "a", `{}`), toolCall("1", "a", `{}`))
			mallory := w.as(t, "mallory", w.door).URL
			session := []string{"Mcp-Session-Id", w.toHost.session}
			for _, raw := range []string{
				toolCall("1", "b", `{}`),
				`{"jsonrpc":"2.0","id":2,"method":"ping"}`,
				`{"jsonrpc":"2.0","id":1,"result":{"forged":true}}`,
				`{"jsonrpc":"2.0","method":"notifications/cancelled","params":{"requestId":1}}`,
				`{"jsonrpc":"2.0","method":"notifications/progress","params":{"progressToken":1,"progress":1}}`,
			} {
				if got := post(t, mallory, raw, session...); got.Status != 404 {
					t.Errorf("%s: %d %s", raw, got.Status, got.Body)
				}
			}
			for _, method := range []string{"GET", "DELETE"} {
				if got := do(t, method, mallory, "", append(session, "Last-Event-Id", "1")...); got.Status != 404 {
					t.Errorf("%s: %d %s", method, got.Status, got.Body)
				}
			}
			w.up.silent(20 * time.Millisecond)
			w.pass(w.up, w.host, `{"jsonrpc":"2.0","id":1,"result":{}}`, `{"jsonrpc":"2.0","id":1,"result":{}}`)
		})
	}
}
