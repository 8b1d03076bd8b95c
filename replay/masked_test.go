package replay_test

import (
	"slices"
	"testing"
)

const byName = `version: 1
default: deny
rules:
  - {id: buy, effect: allow, action: mcp.s.buy}
limits:
  - {id: calls, action: mcp.s.*, count: true, max: 2, window: 24h}
`

// What was recorded as a hash, or masked, is decided again where nothing looks at it;
// limits too. Where something does, it is undecidable and never the same.
func TestReplayOfWhatAPolicyMasked(t *testing.T) {
	for name, log := range map[string]string{
		"hash": "log: [{action: '*', arguments: hash}]\n",
		"mask": "log: [{action: '*', mask: [$.payload]}]\n",
		"part": "log: [{action: '*', mask: [$.payload.arguments.n, $.payload.arguments.to]}]\n",
	} {
		t.Run(name, func(t *testing.T) {
			r := record(t, byName+log)
			for range 3 {
				r.call(t, "buy", `{"n":3,"to":"a","x":1}`)
			}
			r.call(t, "other", `{"n":3}`)
			lines := r.log(t)
			all := map[string]string{"hash": "$.payload", "mask": "$.payload", "part": "$.payload.arguments.n"}[name]
			to := map[string]string{"hash": "$.payload", "mask": "$.payload", "part": "$.payload.arguments.to"}[name]
			for _, tc := range []struct {
				policy string
				want   []string
			}{
				{byName, []string{"4 same"}},
				// One more is allowed, of which it is known.
				{byName[:len(byName)-len("2, window: 24h}\n")] + "3, window: 24h}\n", []string{"1 DENY->ALLOW p/buy", "3 same"}},
				// A rule, and a limit, that look at what is not there.
				{"version: 1\ndefault: deny\nrules: [{id: a, effect: allow, action: mcp.s.buy, when: {match: {path: $.payload.arguments.n, op: lt, value: 9}}}]\n",
					[]string{"2 ALLOW-> " + all + " is masked", "1 DENY-> " + all + " is masked", "1 same"}},
				{byName + "  - {id: each, action: mcp.s.buy, count: true, max: 9, per: [$.payload.arguments.to], window: 24h}\n",
					[]string{"2 ALLOW-> " + to + " is masked", "1 DENY-> " + to + " is masked", "1 same"}},
			} {
				if got := brief(run(t, lines, tc.policy)); !slices.Equal(got, tc.want) {
					t.Errorf("%s: %v, want %v", tc.policy, got, tc.want)
				}
			}
		})
	}
}
