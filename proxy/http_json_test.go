package proxy

import (
	"strings"
	"testing"

	"github.com/openleash/openleash-go/action"
)

func TestFind(t *testing.T) {
	for _, tt := range []struct {
		raw  string
		path string
		want string
	}{
		{`{"id":1}`, "id", `1`},
		{` { "params" : { "_meta":{"progressToken" : "a b" } } } `, "params _meta progressToken", `"a b"`},
		{`{"\u0069d":2}`, "id", `2`},
		{`{"params":{"id":3}}`, "id", ``},
		{`{"params":[{"id":3}]}`, "params id", ``},
		{`{"params":{"name":"a","name":"b"}}`, "params name", ``},
		{`{"params":{"name":"a","Name":"b"}}`, "params name", ``},
		{`{"id":9007199254740993}`, "id", `9007199254740993`},
		{`{"a":{"b":"}"},"c":"{"}`, "c", `"{"`},
		{`[1]`, "id", ``},
		{``, "id", ``},
		{`{"id":1`, "id", ``},
	} {
		if got := rawAt([]byte(tt.raw), strings.Fields(tt.path)...); got != tt.want {
			t.Errorf("%s at %s: got %q, want %q", tt.raw, tt.path, got, tt.want)
		}
	}
}

// FuzzIDMap holds the law of the shared upstream: a host finds its own ids and
// tokens in what comes back, to the byte, and nothing else of its request has
// changed on the way.
func FuzzIDMap(f *testing.F) {
	f.Add(`{"jsonrpc":"2.0","id":"x","method":"tools/call","params":{"_meta":{"progressToken":7},"name":"id"}}`)
	f.Add(`{"jsonrpc":"2.0","params":{"a":[{"id":1}]},"method":"m","id": 1.50e3 }`)
	f.Add(`{"method":"subscriptions/listen","jsonrpc":"2.0","\u0069d":"\u0061","params":{"_meta":{"progressToken":null}}}`)
	f.Fuzz(func(t *testing.T, text string) {
		m, err := ReadMessage([]byte(text), action.Limits{})
		if err != nil || !m.IsRequest() {
			return
		}
		ids := newIDMap()
		up := ids.up(m)
		seen, err := ReadMessage(up.Raw, action.Limits{})
		if err != nil || seen.ID != up.ID || seen.Method != m.Method {
			t.Fatalf("%s became %s: %+v, %v", text, up.Raw, seen, err)
		}
		was := ids.from[up.ID]
		back := applyEdits(up.Raw, spans(up.Raw, was)...)
		if string(back) != text {
			t.Fatalf("%s became %s and then %s", text, up.Raw, back)
		}
		answer, _ := ReadMessage([]byte(`{"jsonrpc":"2.0","id":`+up.ID+`,"result":{}}`), action.Limits{})
		got, ours := ids.down(answer)
		if want := `{"jsonrpc":"2.0","id":` + was.id + `,"result":{}}`; string(got) != want || ours != up.ID {
			t.Fatalf("answer: got %s of %q, want %s", got, ours, want)
		}
	})
}

func spans(raw []byte, was original) []edit {
	id, _ := find(raw, "id")
	edits := []edit{{id, was.id}}
	if was.token != "" {
		token, _ := find(raw, "params", "_meta", "progressToken")
		edits = append(edits, edit{token, was.token})
	}
	return edits
}

func TestIDMapDown(t *testing.T) {
	ids := newIDMap()
	listen := ids.up(message(t, `{"jsonrpc":"2.0","id":"sub","method":"subscriptions/listen","params":{"_meta":{"progressToken":"tok"}}}`))
	if want := `{"jsonrpc":"2.0","id":1,"method":"subscriptions/listen","params":{"_meta":{"progressToken":1}}}`; string(listen.Raw) != want {
		t.Fatalf("up: %s", listen.Raw)
	}
	for _, tt := range []struct{ name, in, want, ours string }{
		{"progress", `{"jsonrpc":"2.0","method":"notifications/progress","params":{"progressToken":1,"progress":1.10}}`,
			`{"jsonrpc":"2.0","method":"notifications/progress","params":{"progressToken":"tok","progress":1.10}}`, "1"},
		{"subscription", `{"jsonrpc":"2.0","method":"notifications/tools/list_changed","params":{"_meta":{"io.modelcontextprotocol/subscriptionId":1}}}`,
			`{"jsonrpc":"2.0","method":"notifications/tools/list_changed","params":{"_meta":{"io.modelcontextprotocol/subscriptionId":"sub"}}}`, "1"},
		{"end of a subscription", `{"jsonrpc":"2.0","id":1,"result":{"_meta":{"io.modelcontextprotocol/subscriptionId":1}}}`,
			`{"jsonrpc":"2.0","id":"sub","result":{"_meta":{"io.modelcontextprotocol/subscriptionId":"sub"}}}`, "1"},
		{"another's", `{"jsonrpc":"2.0","id":2,"result":{}}`, `{"jsonrpc":"2.0","id":2,"result":{}}`, ""},
		{"an id in a result is data", `{"jsonrpc":"2.0","id":2,"result":{"requestId":1}}`, `{"jsonrpc":"2.0","id":2,"result":{"requestId":1}}`, ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			raw, ours := ids.down(message(t, tt.in))
			if string(raw) != tt.want || ours != tt.ours {
				t.Errorf("got %s (%q), want %s (%q)", raw, ours, tt.want, tt.ours)
			}
		})
	}
}

func message(t *testing.T, raw string) Message {
	t.Helper()
	m, err := ReadMessage([]byte(raw), action.Limits{})
	if err != nil {
		t.Fatalf("%s: %v", raw, err)
	}
	return m
}
