package audit

import (
	"bytes"
	"encoding/json"
	"strings"
	"testing"
	"time"
	"unicode/utf8"
)

// What ReadAbout says of an entry is what was written into it.
func TestReadAbout(t *testing.T) {
	line := []byte(`{"seq":7,"prev":"sha256:00","ts":"2026-11-26T22:52:13.288Z","event":"decision","actor_type":"agent","actor_id":"b\"\\\u00e4t",` +
		`"action_type":"purchase","action_id":null,"decision":"DENY","policy_id":"shop","proof_kid":null,"signature_valid":true,` +
		`"decision_id":"d1","matched_rule_id":"buy","reason":"no \"event\":\"x\"","code":"DENIED","owner_id":"o1","server":"fake","tool":"echo",` +
		`"approval_id":"a1","outcome":"ok","duration_ms":12,"payload":{"event":"other","list":[1,"]}",{"tool":"t"}]},"open":true}`)
	a, ok := ReadAbout(line)
	for _, field := range []struct {
		name string
		got  []byte
		want string
	}{
		{"ts", a.TS, "2026-11-26T22:52:13.288Z"}, {"event", a.Event, "decision"}, {"actor_type", a.ActorType, "agent"}, {"actor_id", a.ActorID, `b"\ät`},
		{"decision", a.Decision, "DENY"}, {"policy_id", a.PolicyID, "shop"}, {"decision_id", a.DecisionID, "d1"}, {"rule", a.RuleID, "buy"},
		{"code", a.Code, "DENIED"}, {"owner", a.OwnerID, "o1"}, {"server", a.Server, "fake"}, {"tool", a.Tool, "echo"},
		{"approval", a.ApprovalID, "a1"}, {"outcome", a.Outcome, "ok"}, {"duration", a.DurationMS, "12"},
	} {
		if string(field.got) != field.want {
			t.Errorf("%s: want %q, got %q", field.name, field.want, field.got)
		}
	}
	if !ok {
		t.Error("the line was not taken")
	}
	for _, bad := range []string{"", "{", `{"a"`, `{"a":`, `{"a":1`, `{"a":1,`, `{"a":1}x`, `{"a":"b}`, `{"a":[}`, `[]`, `{"a":1,}`} {
		if _, ok := ReadAbout([]byte(bad)); ok {
			t.Errorf("%s was taken", bad)
		}
	}
}

// ReadAbout reads what encoding/json reads.
func FuzzReadAbout(f *testing.F) {
	for _, seed := range []string{
		`{}`, `{"event":"a"}`, `{"event":"a\"b","tool":null}`, `{"payload":{"a":[{},"]"]},"event":"x"}`, `{"duration_ms":1,"tool":""}`, `{"event":"\ud83d\ude00"}`,
		`{"seq":1,"prev":"sha256:00","ts":"2026-11-26T22:52:13.288Z","event":"start","actor_type":"system"}`, `{"a":"\\","event":"e"}`,
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		a, ok := ReadAbout(text)
		var line bytes.Buffer
		if !utf8.Valid(text) || json.Compact(&line, text) != nil || !bytes.HasPrefix(line.Bytes(), []byte("{")) || !bytes.Equal(line.Bytes(), text) {
			return
		}
		if !ok {
			t.Fatalf("%q is an object on one line, and was not taken", text)
		}
		var members map[string]json.RawMessage
		if json.Unmarshal(text, &members) != nil || bytes.Count(text, []byte(`"event":`)) != 1 || bytes.Contains(text, []byte(`\u00`)) {
			return
		}
		var want string
		if value := members["event"]; len(value) > 0 && value[0] == '"' && json.Unmarshal(value, &want) == nil && string(a.Event) != want {
			t.Errorf("event of %q: want %q, got %q", text, want, a.Event)
		}
	})
}

func TestQueryMatches(t *testing.T) {
	line := []byte(`{"seq":7,"prev":"sha256:00","ts":"2026-11-26T22:52:13.288Z","event":"approval.denied","actor_id":"cli:ann","decision":null,` +
		`"decision_id":"d1","reason":"Not \"Now\", über","owner_id":"o1","agent_id":"bot","server":"fake","tool":"echo"}`)
	at := time.Date(2026, 11, 26, 22, 52, 13, 288e6, time.UTC)
	for _, test := range []struct {
		name string
		q    Query
		want bool
	}{
		{"nobody's", Query{}, false},
		{"an agent's", Query{Scope: Whole(), Agent: "bot"}, true},
		{"another agent's", Query{Scope: Whole(), Agent: "cli:ann"}, false},
		{"no owner", Query{Scope: OwnedBy("")}, false},
		{"the owner's", Query{Scope: OwnedBy("o1")}, true},
		{"another owner's", Query{Scope: OwnedBy("o2")}, false},
		{"all", Query{Scope: Whole()}, true},
		{"event", Query{Scope: Whole(), Event: "approval.denied"}, true},
		{"family", Query{Scope: Whole(), Event: "approval"}, true},
		{"part of a word", Query{Scope: Whole(), Event: "app"}, false},
		{"other event", Query{Scope: Whole(), Event: "approval.approved"}, false},
		{"decision", Query{Scope: Whole(), Decision: "DENY"}, false},
		{"decision id", Query{Scope: Whole(), DecisionID: "d1"}, true},
		{"server", Query{Scope: Whole(), Server: "fake", Tool: "echo"}, true},
		{"tool", Query{Scope: Whole(), Tool: "ech"}, false},
		{"since", Query{Scope: Whole(), Since: at}, true},
		{"since later", Query{Scope: Whole(), Since: at.Add(1)}, false},
		{"until", Query{Scope: Whole(), Until: at}, false},
		{"until later", Query{Scope: Whole(), Until: at.Add(1)}, true},
		{"text", Query{Scope: Whole(), Text: `not "now"`}, true},
		{"members", Query{Scope: Whole(), Text: `"Tool":"echo`}, true},
		{"text at the end", Query{Scope: Whole(), Text: `"ECHO"}`}, true},
		{"text longer than the line", Query{Scope: Whole(), Text: strings.Repeat("a", 1000)}, false},
		{"text beyond ASCII", Query{Scope: Whole(), Text: "ÜBER"}, true},
		{"other text beyond ASCII", Query{Scope: Whole(), Text: "unter ü"}, false},
		{"other text", Query{Scope: Whole(), Text: "never"}, false},
	} {
		if got := test.q.Matches(line); got != test.want {
			t.Errorf("%s: want %t, got %t", test.name, test.want, got)
		}
	}
	bots := []byte(`{"seq":1,"prev":"","event":"decision","actor_type":"agent","actor_id":"bot"}`)
	for agent, want := range map[string]bool{"bot": true, "other": false} {
		if got := (&Query{Scope: Whole(), Agent: agent}).Matches(bots); got != want {
			t.Errorf("of agent %s: want %t, got %t", agent, want, got)
		}
	}
}

func BenchmarkReadAbout(b *testing.B) {
	line := []byte(`{"seq":7,"prev":"sha256:` + strings.Repeat("0", 64) + `","ts":"2026-11-26T22:52:13.288Z","event":"decision","actor_type":"agent","actor_id":"bot","decision":"ALLOW",` +
		`"decision_id":"d1","owner_id":"o1","payload":{"arguments":{"text":"` + strings.Repeat("lorem ipsum ", 60) + `"}}}`)
	b.SetBytes(int64(len(line)))
	for b.Loop() {
		ReadAbout(line)
	}
}
