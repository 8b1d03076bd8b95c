package policy_test

import (
	"bytes"
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/rogpeppe/go-internal/txtar"

	"github.com/openleash/openleash-go/action"
	"github.com/openleash/openleash-go/policy"
)

var update = flag.Bool("update", false, "write what is found as what is wanted")

// answer is a Decision as case files write it.
type answer struct {
	Outcome     string       `json:"outcome"`
	Policy      string       `json:"policy"`
	Rule        string       `json:"rule,omitempty"`
	Reason      string       `json:"reason"`
	Obligations []obligation `json:"obligations,omitempty"`
	Final       bool         `json:"final,omitempty"`
	NoProof     bool         `json:"no_proof,omitempty"`
	ProofTTL    string       `json:"proof_ttl,omitempty"`
	Errors      []string     `json:"errors,omitempty"`
	Charges     []charge     `json:"charges,omitempty"`
}

type charge struct {
	Limit  string `json:"limit"`
	Key    string `json:"key,omitempty"`
	Amount int64  `json:"amount,omitempty"`
	Doubt  string `json:"doubt,omitempty"`
	Says   string `json:"says"` // how the limit was read
}

type obligation struct {
	Type   string          `json:"type"`
	Params json.RawMessage `json:"params,omitempty"`
}

// TestDecide runs testdata/decide: policies below policies/, a request, what is
// wanted, and with trace.json what every rule had to say.
func TestDecide(t *testing.T) {
	eachCase(t, "decide", func(t *testing.T, a *txtar.Archive) {
		var sources []policy.Source
		var req action.Request
		var env policy.Env
		for _, f := range a.Files {
			if name, ok := strings.CutPrefix(f.Name, "policies/"); ok {
				sources = append(sources, policy.Source{Name: name, Text: string(f.Data)})
			}
			if f.Name == "request.json" {
				req, env = readRequest(t, f.Data)
			}
		}
		book, err := policy.NewBook("policies", sources, nil)
		if err != nil {
			t.Fatal(err)
		}
		set := book.For("bot")
		got := set.Decide(&req, env)
		traced, trace := set.Trace(&req, env)
		if diff := cmp.Diff(answerOf(traced), answerOf(got)); diff != "" {
			t.Errorf("Trace and Decide differ (-trace +decide):\n%s", diff)
		}
		compare(t, a, "want.json", answerOf(got))
		if file(a, "trace.json") != nil {
			compare(t, a, "trace.json", trace)
		}
	})
}

// TestErrors runs testdata/errors: a bad policy and the exact messages.
func TestErrors(t *testing.T) {
	eachCase(t, "errors", func(t *testing.T, a *txtar.Archive) {
		src, want := file(a, "bad.yaml"), file(a, "want")
		p, err := policy.Parse("bad", "bad.yaml", src.Data)
		if err == nil || p != nil {
			t.Fatal("the policy is accepted")
		}
		got := []byte(err.Error() + "\n")
		if *update {
			want.Data = got
		} else if diff := cmp.Diff(string(want.Data), string(got)); diff != "" {
			t.Errorf("messages differ (-want +got):\n%s", diff)
		}
	})
}

func eachCase(t *testing.T, dir string, run func(*testing.T, *txtar.Archive)) {
	names, err := filepath.Glob(filepath.Join("testdata", dir, "*.txtar"))
	if err != nil || len(names) == 0 {
		t.Fatalf("no cases in testdata/%s: %v", dir, err)
	}
	for _, name := range names {
		t.Run(strings.TrimSuffix(filepath.Base(name), ".txtar"), func(t *testing.T) {
			a, err := txtar.ParseFile(name)
			if err != nil {
				t.Fatal(err)
			}
			run(t, a)
			if *update {
				if err := os.WriteFile(name, txtar.Format(a), 0o666); err != nil {
					t.Fatal(err)
				}
			}
		})
	}
}

func file(a *txtar.Archive, name string) *txtar.File {
	for i := range a.Files {
		if a.Files[i].Name == name {
			return &a.Files[i]
		}
	}
	return nil
}

func compare(t *testing.T, a *txtar.Archive, name string, v any) {
	t.Helper()
	var got bytes.Buffer
	enc := json.NewEncoder(&got)
	enc.SetEscapeHTML(false)
	enc.SetIndent("", "  ")
	if err := enc.Encode(v); err != nil {
		t.Fatal(err)
	}
	want := file(a, name)
	switch {
	case want == nil:
		t.Fatalf("%s is missing", name)
	case *update:
		want.Data = got.Bytes()
	default:
		if diff := cmp.Diff(string(want.Data), got.String()); diff != "" {
			t.Errorf("%s (-want +got):\n%s", name, diff)
		}
	}
}

func answerOf(d policy.Decision) answer {
	a := answer{Outcome: d.Outcome.String(), Policy: d.PolicyID, Rule: d.RuleID, Reason: d.Reason,
		Final: d.Final, NoProof: d.NoProof, Errors: d.Errors}
	if d.ProofTTL != 0 {
		a.ProofTTL = d.ProofTTL.String()
	}
	for _, o := range d.Obligations {
		duty := obligation{Type: o.Type}
		if o.Params.Kind() != action.Missing {
			duty.Params = o.Params.Canonical()
		}
		a.Obligations = append(a.Obligations, duty)
	}
	for _, c := range d.Charges {
		l := c.Limit
		says := fmt.Sprintf("%d%s in %s, else %v", l.Max, l.Currency, l.Window(), l.Over)
		for _, manner := range []struct {
			word string
			is   bool
		}{{", counts", l.Counts}, {", refunds", l.Refunds}, {", reserves", l.ReserveOnHold}, {", minimal", l.Minimal}} {
			if manner.is {
				says += manner.word
			}
		}
		a.Charges = append(a.Charges, charge{l.ID, c.Key, c.Amount, c.Doubt, says})
	}
	return a
}

// readRequest reads a request whose ids do not matter, with the tool beside it.
func readRequest(t *testing.T, data []byte) (action.Request, policy.Env) {
	t.Helper()
	v, err := action.Parse(data, action.Limits{CaseTwins: true})
	if err != nil {
		t.Fatal(err)
	}
	return action.Request{
		ActionID:    "00000000-0000-0000-0000-000000000001",
		ActionType:  v.Get("action_type").Text(),
		RequestedAt: "2026-05-05T13:42:11Z",
		AgentID:     "bot",
		SubjectID:   "00000000-0000-0000-0000-000000000002",
		RelyingParty: action.RelyingParty{
			Domain:       v.Get("relying_party").Get("domain").Text(),
			TrustProfile: v.Get("relying_party").Get("trust_profile").Text(),
		},
		Payload: v.Get("payload"),
	}, policy.Env{Tool: v.Get("tool"), Open: v.Get("open").IsTrue(), Now: timeIn(t, v.Get("now").Text())}
}

func timeIn(t *testing.T, text string) (at time.Time) {
	t.Helper()
	if text != "" {
		var err error
		if at, err = time.Parse(time.RFC3339, text); err != nil {
			t.Fatal(err)
		}
	}
	return at
}
