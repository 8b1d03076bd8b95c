package logline

import (
	"testing"

	"github.com/openleash/openleash-go/audit"
)

func TestRead(t *testing.T) {
	for _, test := range []struct{ line, level, subject, says, why string }{
		{`{"event":"decision","decision":"ALLOW","server":"shop","tool":"buy","reason":"small","policy_id":"p"}`, "good", "shop · buy", "ALLOW", "small"},
		{`{"event":"decision","decision":"DENY","action_type":"purchase"}`, "bad", "purchase", "DENY", ""},
		{`{"event":"decision","decision":"REQUIRE_APPROVAL"}`, "wait", "", "REQUIRE APPROVAL", ""},
		{`{"event":"outcome","outcome":"ok","duration_ms":12}`, "good", "", "ok, 12 ms", ""},
		{`{"event":"outcome","outcome":"tool_error","server":"s","tool":"t","detail":"gone"}`, "bad", "s · t", "tool error", "gone"},
		{`{"event":"approval.denied","reason":"not now"}`, "bad", "", "", "not now"},
		{`{"event":"limit.released","limits":[{"id":"shop/each"}],"reason":"never came"}`, "", "shop/each", "", "never came"},
		{`{"event":"agent.token","agent_id":"bot","detail":"new token"}`, "", "bot", "", "new token"},
		{`{"event":"start","detail":"openleash start"}`, "", "openleash start", "", ""},
		{`{"event":"something.new","ts":"2026-11-26T22:52:13.288Z"}`, "", "", "", ""},
	} {
		l, err := Read(audit.Sequenced{Seq: 7, Line: []byte(test.line)})
		if err != nil || l.Level != test.level || l.Subject != test.subject || l.Says() != test.says || l.Why() != test.why {
			t.Errorf("%s: got %q, %q, %q, %q, %v", test.line, l.Level, l.Subject, l.Says(), l.Why(), err)
		}
	}
	if _, err := Read(audit.Sequenced{Line: []byte(`{"event":1}`)}); err == nil {
		t.Error("an event that is a number was read")
	}
}

func TestMembers(t *testing.T) {
	got, err := Members([]byte(`{"seq":1,"a":"x\ny","b":null,"c":{"d":[1.10]}}`))
	want := []Member{{"seq", "1", true}, {"a", "x\ny", false}, {"b", "null", true}, {"c", `{"d":[1.10]}`, true}}
	if err != nil || len(got) != len(want) {
		t.Fatal(got, err)
	}
	for i := range want {
		if got[i] != want[i] {
			t.Errorf("want %v, got %v", want[i], got[i])
		}
	}
	for _, bad := range []string{``, `[]`, `{"a":1`, `{"a"`} {
		if _, err := Members([]byte(bad)); err == nil {
			t.Errorf("%q was read", bad)
		}
	}
}
