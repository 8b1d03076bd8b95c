package policy

import (
	"fmt"
	"math"
	"strings"
	"testing"
	"time"

	"github.com/openleash/openleash-go/action"
)

// A shape is rules that are told apart in one way, and a request that only the last
// of them is met by.
type shape struct {
	name    string
	rule    string // of its number
	kind    string // the action, of the last number
	payload string // of the last number
	flat    bool   // what a decision costs does not depend on how many rules there are
}

var shapes = []shape{
	{"many action types", "action: shop%d.purchase, constraints: {amount_max: 5000, currency: [EUR]}", "shop%d.purchase", `{"n":%d,"amount_minor":4200,"currency":"EUR"}`, true},
	{"an equality", "action: purchase, when: {match: {path: $.payload.shop, op: eq, value: s%d}}, constraints: {amount_max: 5000, currency: [EUR]}", "purchase", `{"shop":"s%d","amount_minor":4200,"currency":"EUR"}`, true},
	{"amounts", "action: purchase, constraints: {amount_min: 1%[1]d0, amount_max: 1%[1]d9, currency: [EUR]}", "purchase", `{"amount_minor":1%d7,"currency":"EUR"}`, false},
	{"gte", "action: resize, when: {match: {path: $.payload.size, op: gte, value: -%d}}", "resize", `{"size":-%d}`, false},
	{"all of gte and lt", "action: resize, when: {all: [{match: {path: $.payload.size, op: gte, value: %[1]d}}, {match: {path: $.payload.size, op: lt, value: %[1]d.5}}]}", "resize", `{"size":%d}`, false},
}

const rulesEach = 1000 // a file is at most 1 MiB

const mostRules = 10_000

// texts are policies with mostRules rules of a shape.
func (s *shape) texts() (list []string) {
	for from := 0; from < mostRules; from += rulesEach {
		text := strings.Builder{}
		text.WriteString("version: 1\ndefault: deny\nrules:\n")
		for i := from; i < from+rulesEach; i++ {
			fmt.Fprintf(&text, "- {id: r%d, effect: allow, %s}\n", i, fmt.Sprintf(s.rule, i))
		}
		list = append(list, text.String())
	}
	return list
}

func (s *shape) policies(t testing.TB) (list []*Policy) {
	t.Helper()
	for i, text := range s.texts() {
		p, err := Parse(fmt.Sprintf("p%d", i), "p.yaml", []byte(text))
		if err != nil {
			t.Fatal(err)
		}
		list = append(list, p)
	}
	return list
}

// first binds the first n rules of them.
func first(n int, policies []*Policy) *Set {
	var bindings []Binding
	for from := 0; from < n; from += rulesEach {
		p := *policies[from/rulesEach]
		p.rules = p.rules[:min(rulesEach, n-from)]
		bindings = append(bindings, Binding{&p, OwnerLayer})
	}
	return Compile(bindings)
}

// request is met by the last of n rules.
func (s *shape) request(t testing.TB, n int) *action.Request {
	t.Helper()
	payload, err := action.Parse(fmt.Appendf(nil, s.payload, n-1), action.Limits{})
	if err != nil {
		t.Fatal(err)
	}
	kind := s.kind
	if strings.Contains(kind, "%d") {
		kind = fmt.Sprintf(kind, n-1)
	}
	return &action.Request{ActionType: kind, AgentID: "bot", Payload: payload}
}

// TestShapes: a decision allocates nothing, however many rules there are; its cost
// is the same where the index tells them apart, and grows as they do where only
// ranges do.
func TestShapes(t *testing.T) {
	for _, s := range shapes {
		policies := s.policies(t)
		few, many, per := 10, mostRules, 1.0
		if !s.flat {
			few, per = mostRules/10, 10
		}
		decide := make(map[int]func())
		for _, n := range []int{few, many} {
			set, req, want := first(n, policies), s.request(t, n), fmt.Sprint("r", n-1)
			decide[n] = func() {
				if d := set.Decide(req, Env{}); d.RuleID != want {
					t.Fatalf("%s: %+v, want %s to decide", s.name, d, want)
				}
			}
			if got := leastAllocations(decide[n]); got != 0 {
				t.Errorf("%s: of %d rules a decision allocates %v times", s.name, n, got)
			}
		}
		if times := timesAsLong(decide[few], decide[many]); times > 4*per {
			t.Errorf("%s: of %d rules a decision takes %.1f times as long as of %d", s.name, many, times, few)
		}
	}
}

// leastAllocations is what one run allocates when the pool has kept something for
// it: under the race detector it now and then keeps nothing, on purpose.
func leastAllocations(run func()) float64 {
	least := math.Inf(1)
	for range 20 {
		least = min(least, testing.AllocsPerRun(1, run))
	}
	return least
}

// timesAsLong compares what two functions take at the least: whatever else the
// machine does only adds to it.
func timesAsLong(a, b func()) float64 {
	took := func(run func()) time.Duration {
		const runs = 20
		begun := time.Now()
		for range runs {
			run()
		}
		return time.Since(begun)
	}
	leastA, leastB := took(a), took(b)
	for range 10 {
		leastA, leastB = min(leastA, took(a)), min(leastB, took(b))
	}
	return float64(leastB) / float64(leastA)
}

func BenchmarkShapes(b *testing.B) {
	for _, s := range shapes {
		policies := s.policies(b)
		for n := 10; n <= mostRules; n *= 10 {
			set, req := first(n, policies), s.request(b, n)
			b.Run(fmt.Sprintf("%s/%d", s.name, n), func(b *testing.B) {
				b.ReportAllocs()
				for b.Loop() {
					set.Decide(req, Env{})
				}
				b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*n), "ns/rule")
			})
		}
	}
}
