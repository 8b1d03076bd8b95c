package authz_test

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/openleash/openleash-go/action"
	"github.com/openleash/openleash-go/audit"
	"github.com/openleash/openleash-go/authz"
)

// last is the last decision in the log.
func (r *room) last(t *testing.T) audit.Entry {
	t.Helper()
	all := r.entries(t)
	slices.Reverse(all)
	i := slices.IndexFunc(all, func(e audit.Entry) bool { return e.Event == "decision" })
	if i < 0 {
		t.Fatal("no decision in the log")
	}
	return all[i]
}

// What is in the log is what was decided on: it has the same hash.
func TestLogHasTheRequestWhole(t *testing.T) {
	r := newRoom(t, rules)
	for tool, arguments := range map[string]string{
		"read":  `{"path":"/a b","n":9007199254740993,"x":1.10,"u":"\u2028 \u0001 é","deep":[{"a":[null,true]}]}`,
		"write": `{}`,
		"other": `{"text":"refused"}`,
	} {
		r.call(t, tool, arguments)
		e := r.last(t)
		if e.Masked != nil || e.RequestedAt == "" {
			t.Errorf("%s: %+v", tool, e)
		}
		req := action.Request{
			ActionID: *e.ActionID, ActionType: *e.ActionType, RequestedAt: e.RequestedAt, AgentID: e.ActorID, SubjectID: e.OwnerID,
			Payload: parse(t, string(e.Payload)),
		}
		if got := req.Hash().String(); got != e.ActionHash {
			t.Errorf("%s: the payload in the log is another: %s", tool, e.Payload)
		}
	}
}

func parse(t *testing.T, text string) action.Value {
	t.Helper()
	v, err := action.Parse([]byte(text), action.Limits{})
	if err != nil {
		t.Fatalf("%s: %v", text, err)
	}
	return v
}

// Secrets are kept out of the log, and it says where.
func TestLogKeepsNoSecrets(t *testing.T) {
	r := newRoom(t, rules)
	const jwt = "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjM0NTY3ODkwIn0.dozjgNryP4J3jVmNHl0w5N_XgL0n3I9PlFUP0THsR8U"
	for _, test := range []struct {
		arguments, want string
		masked          string // paths below the arguments
	}{
		{`{"user":"ann","password":"hunter2"}`, `{"password":"[masked]","user":"ann"}`, ".password"},
		{`{"API-Key":"k","db_passwd":"x"}`, `{"API-Key":"[masked]","db_passwd":"[masked]"}`, `["API-Key"] .db_passwd`},
		{`{"pin":1234,"spin":5,"pinned":true}`, `{"pin":"[masked]","pinned":true,"spin":5}`, ".pin"},
		{`{"credentials":{"user":"ann","key":"k"}}`, `{"credentials":"[masked]"}`, ".credentials"},
		{`{"list":[{"client_secret":"x"},{"client_secret":""},{"secret":null},{"password":true}]}`,
			`{"list":[{"client_secret":"[masked]"},{"client_secret":""},{"secret":null},{"password":true}]}`, ".list[0].client_secret"},
		{`{"max_tokens":5,"next_page_token":"abc","token":"t"}`, `{"max_tokens":5,"next_page_token":"abc","token":"[masked]"}`, ".token"},
		{`{"text":"use ghp_0123456789abcdefghijABCDEFGHIJ here"}`, `{"text":"use [masked] here"}`, ".text"},
		{`{"a":["` + jwt + `","Bearer abcdefghijklmnop1234"]}`, `{"a":["[masked]","[masked]"]}`, ".a[0] .a[1]"},
		{`{"pem":"-----BEGIN RSA PRIVATE KEY-----\nMIIE\n-----END RSA PRIVATE KEY-----\nrest"}`, `{"pem":"[masked]\nrest"}`, ".pem"},
		{`{"cut":"-----BEGIN PRIVATE KEY-----\nMIIE"}`, `{"cut":"[masked]"}`, ".cut"},
		{`{"url":"https://ann:hunter2@example.com/a"}`, `{"url":"https[masked]example.com/a"}`, ".url"},
		{`{"url":"https://example.com:8080/a@b"}`, `{"url":"https://example.com:8080/a@b"}`, ""},
		{`{"key":"AKIAIOSFODNN7EXAMPLE"}`, `{"key":"[masked]"}`, ".key"},
		{`{"header":"Authorization: Basic YTpi"}`, `{"header":"[masked]"}`, ".header"},
		{`{"a":"a bearer of news, sketchy risk-free gh_x"}`, `{"a":"a bearer of news, sketchy risk-free gh_x"}`, ""},
		{`{"olt":"olt_0123456789abcdefghij0123456789abcdefghijABC"}`, `{"olt":"[masked]"}`, ".olt"},
	} {
		r.call(t, "read", test.arguments)
		e := r.last(t)
		var paths []string
		for _, p := range e.Masked {
			paths = append(paths, strings.TrimPrefix(p, "$.payload.arguments"))
		}
		if got := strings.Join(paths, " "); got != test.masked {
			t.Errorf("%s: masked %s, want %s", test.arguments, got, test.masked)
		}
		if diff := cmp.Diff(`{"arguments":`+test.want+`}`, string(e.Payload)); diff != "" {
			t.Errorf("%s: -want +got:\n%s", test.arguments, diff)
		}
	}
	whole, err := json.Marshal(r.entries(t))
	if err != nil {
		t.Fatal(err)
	}
	for _, secret := range []string{"hunter2", "MIIE", "ghp_", "AKIAI", "YTpi", "olt_0", jwt[:20]} {
		if strings.Contains(string(whole), secret) {
			t.Errorf("%s is in the log", secret)
		}
	}
}

// What the log cannot keep is refused, and that is in it.
func TestLogHasNoRoom(t *testing.T) {
	r := newRoom(t, rules)
	large := func(n int) string { return fmt.Sprintf(`{"text":%q}`, strings.Repeat("a", n)) }
	wantCode(t, r.call(t, "read", large(6<<20)), authz.Allowed)
	if n := len(r.last(t).Payload); n < 6<<20 {
		t.Errorf("the log has %d bytes of it", n)
	}
	v := action.ObjectValue(action.Member{Key: "text", Value: action.StringValue(strings.Repeat("a", audit.MaxPayload))})
	req := action.Request{ActionType: "mcp.s.read", Payload: action.ObjectValue(action.Member{Key: "arguments", Value: v})}
	ans, err := r.Authorize(t.Context(), r.who, req, &authz.Call{Server: "s", Tool: "read", Arguments: v, Info: action.ObjectValue()})
	if err != nil {
		t.Fatal(err)
	}
	wantCode(t, ans, authz.ArgumentsRefused)
	if e := r.last(t); e.Code != string(authz.ArgumentsRefused) || e.Payload != nil || !strings.Contains(e.Reason, "more in the arguments than the log can keep") {
		t.Errorf("%s, %s, %d bytes", e.Code, e.Reason, len(e.Payload))
	}
}
