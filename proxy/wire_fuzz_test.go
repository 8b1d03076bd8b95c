package proxy

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"slices"
	"strings"
	"testing"
	"unicode"

	"github.com/openleash/openleash-go/action"
)

// readers are other ways to look at one object: what they see of a message
// that we pass on must be what we see. Each returns the text of id and method.
var readers = map[string]func(raw []byte) (id, method json.RawMessage, err error){
	"a struct: names fold, the last one wins": func(raw []byte) (json.RawMessage, json.RawMessage, error) {
		var m struct {
			ID     json.RawMessage `json:"id"`
			Method json.RawMessage `json:"method"`
		}
		err := json.Unmarshal(raw, &m)
		return m.ID, m.Method, err
	},
	"a map: the last one wins": func(raw []byte) (json.RawMessage, json.RawMessage, error) {
		var m map[string]json.RawMessage
		err := json.Unmarshal(raw, &m)
		return m["id"], m["method"], err
	},
	"a scanner: the first one wins, names fold": func(raw []byte) (id, method json.RawMessage, err error) {
		top, err := membersOf(raw)
		for _, m := range slices.Backward(top) {
			switch strings.Map(foldedRune, m.key) {
			case "id":
				id = m.value
			case "method":
				method = m.value
			}
		}
		return id, method, err
	},
}

type rawMember struct {
	key   string
	value json.RawMessage
}

// membersOf lists what stands in an object, twins too.
func membersOf(raw []byte) (list []rawMember, err error) {
	in := json.NewDecoder(bytes.NewReader(raw))
	if open, err := in.Token(); err != nil || open != json.Delim('{') {
		return nil, errors.New("no object")
	}
	for in.More() {
		key, err := in.Token()
		if err != nil {
			return nil, err
		}
		var value json.RawMessage
		if err := in.Decode(&value); err != nil {
			return nil, err
		}
		list = append(list, rawMember{key.(string), value})
	}
	if _, err := in.Token(); err != nil {
		return nil, err
	}
	if _, err := in.Token(); err != io.EOF {
		return nil, errors.New("more than one value")
	}
	return list, nil
}

// foldedRune maps what folds together to one rune: the least, in small letters.
func foldedRune(r rune) rune {
	least := r
	for next := unicode.SimpleFold(r); next != r; next = unicode.SimpleFold(next) {
		least = min(least, next)
	}
	return unicode.ToLower(least)
}

// readableID is the id that a refusal must name: the message is an object with
// one id, a text or a number.
func readableID(raw []byte) (id string, ok bool) {
	top, err := membersOf(raw)
	if err != nil {
		return "", false
	}
	n := 0
	for _, m := range top {
		if m.key == "id" {
			n++
			id, err = readID(m.value)
			ok = err == nil && len(m.value) <= maxFoundID && id != "null"
		}
	}
	return id, ok && n == 1
}

var badMessages = []string{
	`{"jsonrpc":"2.0","id":1,"method":"ping","Method":"tools/call"}`,
	`{"jsonrpc":"2.0","method":7,"id":"late"}`,
	`{"params":{"name":"a"},"method":" tools/call","jsonrpc":"2.0","id":-1.50}`,
	`{"jsonrpc":"2.0","id":3,"method":"tools/call\u0000"}`,
	`{"jsonrpc":"2.0","id":4,"method":"x","result":{"id":5,"method":"y"}}`,
	`{"jsonrpc":"2.0","id":5}`,
	`{"jsonrpc":"1.0","i\u0064":"\u0041\"]}","method":"x"}`,
	`{"id":6,"id":6,"method":"ping","jsonrpc":"2.0"}`,
	`{"jsonrpc":"2.0","id":{"id":7},"method":"ping"}`,
	`{"jsonrpc":"2.0","id":8,"method":"ping"}{"id":9}`,
	`{"jsonrpc":"2.0","id":8,"method":"ping"} x`,
	`[{"jsonrpc":"2.0","id":10,"method":"tools/call"}]`,
	`{"jsonrpc":"2.0","id":11,"method":"ping","params":` + strings.Repeat("[", 1001) + strings.Repeat("]", 1001) + `}`,
	`{"jsonrpc":"2.0","id":1e400,"method":"ping"}`,
	`{"jsonrpc":"2.0","id":"\ud800","method":"ping"}`,
	"\ufeff" + `{"jsonrpc":"2.0","id":12,"method":"ping"}`,
	"{\"jsonrpc\":\"2.0\",\"id\":13,\"method\":\"a\xff\"}",
	"{\"jsonrpc\":\"2.0\",\"id\":14,\"method\":\"a\x00\"}",
	`{"jsonrpc":"2.0","id":15,"method":"tools/call\u200b"}`,
	`{"jsonrpc":"2.0","ID":16,"method":"ping"}`,
}

// FuzzReadMessage holds the law of the envelope: in what passes, no reader sees
// another id or method than we do; what does not pass is refused under its id.
func FuzzReadMessage(f *testing.F) {
	for _, s := range append(badMessages, oddRequest, oddAnswer, initialize, buyCall) {
		f.Add([]byte(s), 7)
	}
	f.Fuzz(func(t *testing.T, raw []byte, cut int) {
		m, err := ReadMessage(raw, anyMessage(raw))
		if err != nil {
			checkRefused(t, raw, cut, err)
			return
		}
		for name, read := range readers {
			rawID, rawMethod, err := read(raw)
			if err != nil {
				t.Fatalf("%q passed, and %s cannot read it: %v", raw, name, err)
			}
			id, method := "", ""
			if rawID != nil {
				id, _ = readID(rawID)
			}
			json.Unmarshal(rawMethod, &method)
			if id != m.ID || method != m.Method {
				t.Fatalf("%q: we see %q %q, %s sees %q %q", raw, m.ID, m.Method, name, id, method)
			}
		}
		if strings.Map(foldedRune, strings.TrimSpace(m.Method)) == "tools/call" && m.Method != "tools/call" {
			if _, refusal := isGoverned(m, fromHost); refusal == nil {
				t.Fatalf("%q passes ungoverned", raw)
			}
		}
	})
}

func checkRefused(t *testing.T, raw []byte, cut int, err error) {
	t.Helper()
	var bad *BadMessage
	if !errors.As(err, &bad) {
		t.Fatalf("%q: %T", raw, err)
	}
	if want, ok := readableID(raw); ok && bad.ID != want {
		t.Fatalf("%q is refused under the id %q, want %q", raw, bad.ID, want)
	}
	reply, err := ReadMessage(bad.Reply(), action.Limits{})
	if err != nil || !reply.IsResponse() {
		t.Fatalf("%q is answered by %s", raw, bad.Reply())
	}
	var parts idFinder // as a line that is too long arrives
	cut = max(0, min(cut, len(raw)))
	parts.read(raw[:cut])
	parts.read(raw[cut:])
	if got := parts.refused(0, ""); got.ID != bad.ID || got.Response != bad.Response {
		t.Fatalf("%q, cut at %d: %+v, whole: %+v", raw, cut, got, bad)
	}
}

// FuzzCutPrefix holds the law of our prefix: no reader finds a key under it in
// any _meta of what we pass on, and all else is there as it was written.
func FuzzCutPrefix(f *testing.F) {
	for _, s := range []string{
		`{"_meta":{"ai.openleash/proof":1,"b":2}}`,
		`{"a":[{"_meta":{"a\u0069.openleash/x":{"_meta":{"ai.openleash/y":1}}}}]}`,
		`{"_meta":{"ai.openleash/a":1,"x":{"_meta":{"ai.openleash/b":2}}}}`,
		`{"_META": { "AI.OpenLeash/a" : 1 , "caf\u00e9":1.10} ,"_meta":{"k":"\ud800","ai.openlea\u017fh/b":{}}}`,
		`{"_meta":{"ai.openleash/a":1},"_meta":{"z":1e400,"ai.openleash/a":1,"ai.openleash/b":2}}`,
		`{"_meta":{"a":1,"ai.openleash/b":2 , "c" : "ai.openleash/","ai.openlea":3}}`,
		`[{"ai.openleash/proof":{"_meta":{"ai.openleash/":[]}}}]`,
	} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, raw []byte) {
		clean, err := cutPrefix(raw)
		if !json.Valid(raw) {
			if err == nil && string(clean) != string(raw) {
				t.Fatalf("%q is no JSON and became %q", raw, clean)
			}
			return
		}
		if err != nil {
			if deep(raw) {
				return
			}
			t.Fatalf("%q cannot be cleaned: %v", raw, err)
		}
		want, gone := without(t, raw, false)
		got, left := without(t, clean, false)
		if left || got != want {
			t.Fatalf("%q became %q: want %q", raw, clean, want)
		}
		if !gone && string(clean) != string(raw) {
			t.Fatalf("%q had nothing of ours and became %q", raw, clean)
		}
	})
}

func deep(raw []byte) bool {
	return bytes.Count(raw, []byte("["))+bytes.Count(raw, []byte("{")) > maxDepth
}

// without writes a value without white space and without what is ours.
func without(t *testing.T, raw []byte, meta bool) (text string, found bool) {
	raw = bytes.TrimSpace(raw)
	switch raw[0] {
	case '{':
		list, err := membersOf(raw)
		if err != nil {
			t.Fatal(err)
		}
		parts := []string{}
		for _, m := range list {
			if meta && strings.HasPrefix(strings.Map(foldedRune, m.key), Prefix) {
				found = true
				continue
			}
			value, inside := without(t, m.value, strings.Map(foldedRune, m.key) == "_meta")
			found = found || inside
			key, _ := json.Marshal(m.key)
			parts = append(parts, string(key)+":"+value)
		}
		return "{" + strings.Join(parts, ",") + "}", found
	case '[':
		var list []json.RawMessage
		if err := json.Unmarshal(raw, &list); err != nil {
			t.Fatal(err)
		}
		parts := []string{}
		for _, item := range list {
			value, inside := without(t, item, false)
			found = found || inside
			parts = append(parts, value)
		}
		return "[" + strings.Join(parts, ",") + "]", found
	}
	return string(raw), false
}

// FuzzIDMapHosts holds the law of an upstream that many hosts share: no two
// requests in flight have one id, an answer finds the host that asked and
// brings it its own id, and an answer to nobody names nobody.
func FuzzIDMapHosts(f *testing.F) {
	f.Add([]byte{0, 1, 2, 0, 64, 65, 1, 130, 0, 200})
	f.Add([]byte{3, 3, 3, 128, 64, 3, 129, 130, 64, 64})
	ids := []string{`1`, `"1"`, `1.0`, `"\u0031"`, `null`, `-7`, `9007199254740993`, `2`}
	f.Fuzz(func(t *testing.T, ops []byte) {
		table := newIDMap()
		type asked struct{ ours, id string }
		var open []asked
		for _, op := range ops {
			pick := int(op % 64)
			switch {
			case op < 64: // a host asks
				id := ids[pick%len(ids)]
				up := table.up(message(t, `{"jsonrpc":"2.0","id":`+id+`,"method":"m","params":{"_meta":{"progressToken":`+id+`}}}`))
				if slices.ContainsFunc(open, func(a asked) bool { return a.ours == up.ID }) {
					t.Fatalf("id %s is in flight twice", up.ID)
				}
				open = append(open, asked{up.ID, id})
			case op < 128 && len(open) > 0: // one is answered
				a := open[pick%len(open)]
				got, ours := table.down(message(t, `{"jsonrpc":"2.0","id":`+a.ours+`,"result":{}}`))
				if want := `{"jsonrpc":"2.0","id":` + a.id + `,"result":{}}`; string(got) != want || ours != a.ours {
					t.Fatalf("got %s for %q, want %s for %q", got, ours, want, a.ours)
				}
				table.forget(a.ours)
				open = slices.DeleteFunc(open, func(o asked) bool { return o == a })
			case op >= 128: // an answer of the upstream's own making
				id := ids[pick%len(ids)]
				m := message(t, `{"jsonrpc":"2.0","id":`+id+`,"result":{}}`)
				got, ours := table.down(m)
				i := slices.IndexFunc(open, func(a asked) bool { return a.ours == m.ID })
				if i < 0 && (ours != "" || string(got) != string(m.Raw)) || i >= 0 && ours != open[i].ours {
					t.Fatalf("an answer to %s became %s for %q; open are %v", id, got, ours, open)
				}
			}
		}
		if len(table.from) != len(open) {
			t.Fatalf("%d are remembered, %d are open", len(table.from), len(open))
		}
	})
}

// FuzzEventWithData holds the law of an event whose message was cleaned: its
// data are the new ones, and all else of it is as it was.
func FuzzEventWithData(f *testing.F) {
	f.Add([]byte("id: 4\nevent: message\r\ndata: {\ndata: }\nretry: 5\n: c\n\n"), []byte(`{"a":1}`))
	f.Add([]byte("data\rid\r\r"), []byte("{\r\n}\n"))
	f.Fuzz(func(t *testing.T, stream, data []byte) {
		e, err := newSSEReader(bytes.NewReader(stream), 1<<20).next()
		if err != nil || e.data == nil {
			return
		}
		again, err := readEvents(bytes.NewReader(e.withData(data)), 1<<20)
		if err != io.EOF || len(again) == 0 {
			t.Fatalf("%q with %q: %v, %+v", e.raw, data, err, again)
		}
		last := again[len(again)-1] // comments at its beginning come alone
		want := strings.ReplaceAll(strings.ReplaceAll(string(data), "\r\n", "\n"), "\r", "\n")
		if last.Data != want || last.ID != e.id || last.Retry != e.retry {
			t.Fatalf("%q with %q became %+v", e.raw, data, last)
		}
	})
}
