package replay_test

import (
	"bytes"
	"slices"
	"testing"

	"github.com/openleash/openleash-go/policy"
	"github.com/openleash/openleash-go/replay"
)

// What is compared with other policies is the difference that a change makes: what was
// decided otherwise at the time, by others still, is none.
func TestWith(t *testing.T) {
	r := record(t, byName)
	for range 3 {
		r.call(t, "buy", `{"n":3,"to":"a"}`)
	}
	r.call(t, "other", `{"n":3}`)
	lines := r.log(t)
	now := "version: 1\ndefault: require_approval\nrules: []\n"
	for name, tt := range map[string]struct {
		policy string
		want   []string
	}{
		"no change":          {now, []string{"4 same"}},
		"a rule more":        {now[:len(now)-3] + "[{id: buy, effect: allow, action: mcp.s.buy}]\n", []string{"3 REQUIRE_APPROVAL->ALLOW p/buy", "1 same"}},
		"with its own limit": {byName, []string{"2 REQUIRE_APPROVAL->ALLOW p/buy", "1 REQUIRE_APPROVAL->DENY p/buy", "1 REQUIRE_APPROVAL->DENY the default of p", "0 same"}},
	} {
		got := brief(runWith(t, lines, tt.policy, now))
		if !slices.Equal(got, tt.want) {
			t.Errorf("%s: %q, want %q", name, got, tt.want)
		}
	}
}

func runWith(t *testing.T, log []byte, text, with string) replay.Report {
	t.Helper()
	book := func(text string) *policy.Book {
		b, err := policy.NewBook("", []policy.Source{{Name: "p.yaml", Text: text}}, nil)
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	report, err := replay.Run(bytes.NewReader(log), book(text), replay.Options{With: book(with)})
	if err != nil {
		t.Fatal(err)
	}
	return report
}
