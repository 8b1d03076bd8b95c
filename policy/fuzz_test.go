package policy

import (
	"cmp"
	"errors"
	"fmt"
	"math/big"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	gocmp "github.com/google/go-cmp/cmp"

	"github.com/openleash/openleash-go/action"
	"github.com/openleash/openleash-go/internal/strictyaml"
)

// A dice makes policies and requests out of the fuzzer's bytes. What it makes is
// narrow on purpose: few names and values, so that they meet.
type dice struct {
	data   []byte
	shared []string // conditions that many rules have, also of different policies
	near   []string // some of numbers
}

func (d *dice) roll(n int) int {
	if len(d.data) == 0 {
		return 0
	}
	b := d.data[0]
	d.data = d.data[1:]
	return int(b) % n
}

func (d *dice) pick(from ...string) string { return from[d.roll(len(from))] }

func (d *dice) policy() string {
	var b strings.Builder
	fmt.Fprintf(&b, "version: 1\ndefault: %s\nrules:\n", d.pick("allow", "deny", "passthrough", "require_approval"))
	n := d.roll(8)
	if d.roll(4) == 0 {
		n += 20
	}
	for i := range n {
		fmt.Fprintf(&b, "- {id: r%d%s}\n", i, d.rule(i))
	}
	text := b.String()
	if n == 0 {
		text = strings.TrimSuffix(text, "\n") + " []\n"
	}
	for i := range d.roll(3) {
		if i == 0 {
			text += "limits:\n"
		}
		text += fmt.Sprintf("- {id: l%d%s%s}\n", i, d.pick("", ", action: a.*", ", action: a.b", ", action: b"), d.limit())
	}
	return text
}

// folder makes policies for everyone, for agents and for groups, said by places, by
// headers or by both.
func (d *dice) folder() (sources []Source, groups Groups) {
	groups = Groups{}
	for _, group := range []string{"g", "h"} {
		groups[group] = [][]string{{"bot"}, {"bot"}, {"bot", "other"}, {"other"}}[d.roll(4)]
	}
	for i := range 1 + d.roll(3) {
		place := d.pick("", "", "", "agents/bot/", "agents/bot/", "agents/other/", "groups/g/", "groups/h/", "groups/none/", "a/tree/")
		whom := d.pick("", "", "owner", "{agent: bot}", "{agent: other}", "{group: g}", "{group: h}")
		if kind, name, found := strings.Cut(strings.TrimSuffix(place, "/"), "/"); found && kind != "a" && whom != "" {
			whom = fmt.Sprintf("{%s: %s}", strings.TrimSuffix(kind, "s"), name) // or else it contradicts the place
		} else if kind == "a" && whom == "" {
			whom = "owner"
		}
		text := d.policy()
		if whom != "" {
			text = "applies_to: " + whom + "\n" + text
		}
		if rank := d.pick("", "", "0", "99", "100", "200"); rank != "" {
			text = "rank: " + rank + "\n" + text
		}
		sources = append(sources, Source{fmt.Sprintf("%sp%d.yaml", place, 2-i), text})
	}
	return sources, groups
}

// naiveSet is what binds the bot, found by looking at one policy after the other.
func naiveSet(t *testing.T, sources []Source, groups Groups) *Set {
	t.Helper()
	type entry struct {
		layer       Layer
		rank        int
		group, name string
		policy      *Policy
	}
	var list []entry
	for _, src := range sources {
		p, err := Parse(strings.TrimSuffix(src.Name, ".yaml"), src.Name, []byte(src.Text))
		if err != nil {
			t.Fatal(err)
		}
		whom := p.Scope.String()
		if parts := strings.Split(src.Name, "/"); p.Scope == (Scope{}) {
			whom = "every agent"
			if len(parts) == 3 {
				whom = strings.TrimSuffix(parts[0], "s") + " " + parts[1]
			}
		}
		group, _ := strings.CutPrefix(whom, "group ")
		switch {
		case whom == "agent bot":
			list = append(list, entry{AgentLayer, p.Rank, "", src.Name, p})
		case whom == "every agent":
			list = append(list, entry{OwnerLayer, p.Rank, "", src.Name, p})
		case slices.Contains(groups[group], "bot"):
			list = append(list, entry{GroupLayer, p.Rank, group, src.Name, p})
		}
	}
	slices.SortFunc(list, func(a, b entry) int {
		return cmp.Or(int(a.layer)-int(b.layer), a.rank-b.rank, strings.Compare(a.group, b.group), strings.Compare(a.name, b.name))
	})
	var bound []Binding
	for _, e := range list {
		bound = append(bound, Binding{e.policy, e.layer})
	}
	set := Compile(bound)
	if len(bound) == 0 {
		set.fallback.Reason = "No policy is bound to this agent, so everything is denied: put a policy file into p."
	}
	return set
}

func (d *dice) limit() string {
	return ", max: 5, window: 1h" + d.pick(", count: true", ", sum: $.payload.amount_minor, currency: EUR", ", sum: $.payload.x", ", sum: '$.payload[\"x\"]'") +
		d.pick("", "", ", per: [agent]", ", per: [vendor, owner]", ", per: [$.payload.x]", ", per: [$.payload.x.y, $.tool.reads]", ", per: [$.relying_party.domain]", ", per: [$.payload.domain, $.payload.currency]")
}

func (d *dice) rule(n int) string {
	s := ", action: " + d.pick("a", "a", "a.b", "a.*", "a.b.*", `"*"`, "b")
	if d.roll(2) == 0 {
		s += ", effect: deny" + d.pick("", "", ", final: true")
	} else {
		s += ", effect: allow" + d.pick("", "", ", obligations: [{type: HUMAN_APPROVAL, n: 1}]", ", obligations: [{type: DEPOSIT}, {type: COUNTERPARTY_ATTESTATION}]",
			", requirements: {min_assurance_level: HIGH}", ", proof: {required: false, ttl_seconds: 9}")
	}
	switch d.roll(6) {
	case 0:
	case 1, 2:
		s += ", when: " + d.common()
	default:
		s += ", when: " + d.condition(3)
	}
	if d.roll(3) == 0 {
		s += ", constraints: {" + d.pick("amount_max: 5", "amount_max: 5", "amount_min: 6", "amount_min: 9223372036854775807", "amount_min: 1000, amount_max: 9007199254740993", "amount_min: 1, amount_max: 5", "currency: [EUR]", "merchant_domain: [a.com]",
			"allowed_domains: [a.com, '*.b.com']", "blocked_domains: [a.com]", "amount_min: 5, blocked_domains: ['*.a.com'], currency: [EUR, USD]", "") + "}"
	}
	if d.roll(5) == 0 {
		s += ", schedule: {timezone: UTC, " + d.pick("days: [mon]", `hours: "22:00-06:00"`, `days: [sun], hours: ["00:00-12:00"]`) + "}"
	}
	if d.roll(6) == 0 {
		s += ", expires: " + d.pick(`"2026-11-23T00:00:00Z"`, `"2026-11-24T00:00:00Z"`, `"2026-11-23T12:00:00.2Z"`, `"2026-11-23T12:00:00.8Z"`)
	}
	if strings.Contains(s, "effect: allow") && d.roll(4) == 0 {
		s += fmt.Sprintf(", limits: [{id: r%d%s}]", n, d.limit())
	}
	return s
}

// common is one of few conditions, or several of them at once.
func (d *dice) common() string {
	if d.shared == nil {
		for range 4 {
			d.shared = append(d.shared, "{match: {path: "+d.pick("$.payload.x", "$.payload.x", "'$.payload.x[*]'", "$.payload.amount_minor")+", op: "+d.order()+"}}")
		}
	}
	one := func() string { return d.pick(d.shared...) }
	switch d.roll(4) {
	case 0:
		return "{all: [" + one() + ", " + one() + "]}"
	case 1:
		return "{any: [" + one() + ", {not: " + one() + "}]}"
	case 2:
		return "{not: " + one() + "}"
	}
	return one()
}

// numbers are those that neighbours of may be mistaken for: written otherwise, or on
// the other side of what a double and an int64 hold.
var numbers = []string{"5", "5.0", "50e-1", "4.999", "5.25", "5.5", "6", "-6", "-5.5", "-5", "-0.1", "-0", "0", "0.1", "999", "1e3", "1000", "-1e3",
	"9007199254740992", "9007199254740993", "9223372036854775807", "9223372036854775808", "-9223372036854775808", "-9223372036854775809",
	"999999999999999999", "1000000000000000000", "1e18", "1000000000000000000.5", "123456789012345678901234567890", "123456789012345678901234567891", "-123456789012345678901234567890"}

func (d *dice) number() string {
	if d.near == nil {
		at := d.roll(len(numbers) - 2)
		d.near = numbers[at : at+3]
	}
	return d.pick(d.near...)
}

func (d *dice) order() string { return d.pick("lt", "lte", "gt", "gte") + ", value: " + d.number() }

func (d *dice) condition(depth int) string {
	switch n := d.roll(8); {
	case depth == 0 || n < 4:
		return "{match: {path: " + d.path() + ", op: " + d.operator() + "}}"
	case n == 4:
		return "{not: " + d.condition(depth-1) + "}"
	case n < 7:
		return "{all: [" + d.conditions(depth-1) + "]}"
	}
	return "{any: [" + d.conditions(depth-1) + "]}"
}

func (d *dice) conditions(depth int) string {
	list := make([]string, d.roll(4))
	for i := range list {
		list[i] = d.condition(depth)
	}
	return strings.Join(list, ", ")
}

func (d *dice) path() string {
	return d.pick("$.payload.x", "$.payload.x", "$.payload.x", "$.payload.y", "$.payload.x.y", "'$.payload.x[*]'", "'$.payload.x[*].y'", "'$.payload.y[*][*]'", `'$.payload.x[0]'`, `'$.payload["x"]'`, "$.payload.amount_minor", "$.payload.domain",
		"$.payload", "$.tool.reads", "$.tool", "$.action_type", "$.relying_party.domain", "$.relying_party", "$.principal.agent_id", "$.subject.principal_id")
}

func (d *dice) operator() string {
	return d.pick("exists", "eq, value: s", "eq, value: s", "eq, value: t", "eq, value: 5", "eq, value: true", "eq, value: null", "neq, value: s", "neq, value: 5",
		"in, value: [s, t]", "in, value: [s, s, 5]", "nin, value: [t]", "lt, value: 5", "lte, value: 5", d.order(), d.order(), d.order(), "eq, value: "+d.number(), "nin, value: ["+d.number()+", "+d.number()+"]", "regex, value: ^s", "eq, value: a.b",
		"domain, value: [a.com, '*.b.com']", "domain, value: s", "email, value: '*@a.com'", "url, value: 'https://a.com/s/**'", "file, value: [/s/**, 'C:/s']")
}

func (d *dice) request() (action.Request, Env) {
	var members []string
	for _, key := range []string{"x", "y", "amount_minor", "domain", "merchant_domain", "currency", "X"} {
		value := d.pick("", "", d.number(), d.number(), d.number(), d.number(), d.number(), `"`+d.number()+`"`, "1e300", "-1e-300", "0e99999999999", `"s"`, `"t"`, "5", "5.0", "-5", "5.5", "null", "true", `"5"`, `["s"]`, `["s","t"]`, `[{"y":"s"},{}]`, "[[5],[]]", "[]", `{"y":"s"}`, `"a.com"`, `"x.B.com."`, `["a.com","evil.com"]`, `"S@A.com"`, `"https://a.com/s/t"`, `["https://a.com/S"]`, `"/s/../t"`, `["/s/t","/S"]`, `"EUR"`, `"eur"`)
		if value != "" {
			members = append(members, fmt.Sprintf("%q:%s", key, value))
		}
	}
	req := action.Request{
		ActionType: d.pick("a", "a", "a.b", "a.b.c", "ab", "b", "c"), AgentID: d.pick("bot", "s"), SubjectID: "s",
		RelyingParty: action.RelyingParty{Domain: d.pick("", "a.com", "s")},
	}
	if d.roll(10) != 0 {
		req.Payload, _ = action.Parse([]byte("{"+strings.Join(members, ",")+"}"), action.Limits{CaseTwins: true})
	}
	env := Env{Open: d.roll(4) == 1}
	if at := d.pick("", "2026-11-22T23:30:00Z", "2026-11-23T05:59:59Z", "2026-11-23T12:00:00.5Z"); at != "" {
		env.Now, _ = time.Parse(time.RFC3339, at)
	}
	if tool := d.pick("", `{}`, `{"reads":true}`, `{"reads":"true"}`, `"s"`); tool != "" {
		env.Tool, _ = action.Parse([]byte(tool), action.Limits{})
	}
	return req, env
}

// FuzzDecide: the fast evaluator says what the simple one says, for several
// requests with one Set, which reuses its scratch space.
func FuzzDecide(f *testing.F) {
	for i := range 40 {
		f.Add([]byte(strings.Repeat(fmt.Sprintf("%c%c%d", 'a'+i, 'z'-i, i*7919), 30)))
	}
	f.Fuzz(func(t *testing.T, data []byte) { agree(t, &dice{data: data}) })
}

// TestDecideAgreesWithTrace does what FuzzDecide does, each time the tests run,
// and makes sure that all outcomes come up.
func TestDecideAgreesWithTrace(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	seen, charged, doubted := make(map[Outcome]int), 0, 0
	data := make([]byte, 2000)
	for range 1000 {
		for i := range data {
			data[i] = byte(random.Uint32())
		}
		for _, d := range agree(t, &dice{data: data}) {
			seen[d.Outcome]++
			for _, c := range d.Charges {
				if charged++; c.Doubt != "" {
					doubted++
				}
			}
		}
	}
	if charged-doubted < 60 || doubted < 200 {
		t.Errorf("of %d charges %d could not be counted", charged, doubted)
	}
	for o := Deny; o <= RequireDeposit; o++ {
		if seen[o] < 20 {
			t.Errorf("%v came up %d times", o, seen[o])
		}
	}
}

// TestRangesAreExact holds what is decided of every pair of numbers against big.Rat,
// also when the number was read already, for the rule before.
func TestRangesAreExact(t *testing.T) {
	for op, holds := range map[string]func(c int) bool{
		"lt": func(c int) bool { return c < 0 }, "lte": func(c int) bool { return c <= 0 },
		"gt": func(c int) bool { return c > 0 }, "gte": func(c int) bool { return c >= 0 },
	} {
		for _, bound := range numbers {
			p, err := Parse("p", "p.yaml", fmt.Appendf(nil, `version: 1
default: deny
rules:
- {id: before, effect: allow, action: a, when: {match: {path: $.payload.x, op: eq, value: 77}}}
- {id: it, effect: allow, action: a, when: {match: {path: $.payload.x, op: %s, value: %s}}}
`, op, bound))
			if err != nil {
				t.Fatal(err)
			}
			set := Compile([]Binding{{p, OwnerLayer}})
			for _, number := range numbers {
				payload, _ := action.Parse([]byte(`{"x":`+number+`}`), action.Limits{})
				x, _ := new(big.Rat).SetString(number)
				y, _ := new(big.Rat).SetString(bound)
				d := set.Decide(&action.Request{ActionType: "a", Payload: payload}, Env{})
				if want := holds(x.Cmp(y)); (d.Outcome == Allow) != want {
					t.Errorf("%s %s %s: %v, want %v", number, op, bound, d.Outcome, want)
				}
			}
		}
	}
}

func agree(t *testing.T, d *dice) (decisions []Decision) {
	t.Helper()
	sources, groups := d.folder()
	var texts []string
	for _, src := range sources {
		texts = append(texts, src.Name+"\n"+src.Text)
	}
	texts = append(texts, groups.String())
	book, err := NewBook("p", sources, groups)
	if err != nil {
		t.Fatalf("%v in\n%s", err, strings.Join(texts, "\n"))
	}
	for _, p := range book.Policies() {
		for _, r := range p.rules {
			for test := range testsOf(r) {
				if test.text == "" {
					t.Fatalf("a test of rule %q has no text, which would make it one with others, in\n%s", r.id, strings.Join(texts, "\n"))
				}
			}
		}
	}
	set, naive := book.For("bot"), naiveSet(t, sources, groups)
	for range 4 {
		req, env := d.request()
		fast := set.Decide(&req, env)
		slow, _ := naive.Trace(&req, env)
		if diff := gocmp.Diff(plain(slow), plain(fast)); diff != "" {
			t.Fatalf("-Trace +Decide:\n%s\non %s, tool %s, of\n%s", diff, req.Canonical(), env.Tool.Raw(), strings.Join(texts, "\n"))
		}
		if fast.Outcome != Deny && set.DeniesOutright(req.ActionType, env) {
			t.Fatalf("%v, though it is denied outright: %s, tool %s, of\n%s", fast.Outcome, req.Canonical(), env.Tool.Raw(), strings.Join(texts, "\n"))
		}
		if fast.Outcome == Deny && len(fast.Charges) > 0 {
			t.Fatalf("a deny is charged: %v", fast.Charges)
		}
		if fast.Outcome != obliges(fast.Obligations) && fast.Outcome != Deny {
			t.Fatalf("%v with %v", fast.Outcome, fast.Obligations)
		}
		decisions = append(decisions, fast)
	}
	return decisions
}

// plain is a decision in comparable form.
func plain(d Decision) map[string]any {
	var duties []string
	for _, o := range d.Obligations {
		duties = append(duties, fmt.Sprintf("%s %s", o.Type, o.Params.Canonical()))
	}
	var charges []string
	for _, c := range d.Charges {
		charges = append(charges, fmt.Sprint(c.Limit.ID, " ", c.Key, " ", c.Amount, " ", c.Doubt))
	}
	return map[string]any{"charges": charges, "outcome": d.Outcome.String(), "policy": d.PolicyID, "rule": d.RuleID, "reason": d.Reason, "duties": duties,
		"final": d.Final, "no proof": d.NoProof, "ttl": d.ProofTTL, "errors": d.Errors}
}

// FuzzParse: no text makes the parser panic; an error is a list of places inside
// the text; what is accepted can be decided on.
func FuzzParse(f *testing.F) {
	random := rand.New(rand.NewPCG(3, 4))
	for range 20 {
		data := make([]byte, 200)
		for i := range data {
			data[i] = byte(random.Uint32())
		}
		f.Add((&dice{data: data}).policy())
	}
	f.Add("version: 1\ndefault: deny\nrules:\n  - {id: a, effect: allow, action: a, when: {match: {path: $.payload.x, op: regex, value: '(?=)'}}}\n")
	f.Add("version: 1\ndefault: deny\nrules: &a\n  - *a\n")
	f.Add("version: 1\ndefault: deny\nrules: []\nlog:\n  - {mask: ['$.payload.a[*].b', \"$.payload['c d'][0]\", $.relying_party], action: a.*}\n  - {action: a, arguments: hash}\n")
	f.Fuzz(func(t *testing.T, text string) {
		p, err := Parse("p", "p.yaml", []byte(text))
		if formatted, lost := Format("p.yaml", []byte(text)); lost == nil {
			if again, err := Parse("p", "p.yaml", formatted); err != nil || len(again.rules) != len(p.rules) || len(again.log) != len(p.log) {
				t.Fatalf("formatted it is another policy: %v\n%s", err, formatted)
			}
		}
		if err != nil {
			var list strictyaml.ErrorList
			if !errors.As(err, &list) || len(list) == 0 || p != nil {
				t.Fatalf("%T %v", err, err)
			}
			lines := strings.Count(text, "\n") + 1
			for _, e := range list {
				if e.Line < 1 || e.Line > lines || e.Column < 1 || e.Message == "" || e.File != "p.yaml" {
					t.Fatalf("%+v in %d lines", e, lines)
				}
			}
			return
		}
		set := Compile([]Binding{{p, OwnerLayer}})
		req := action.Request{ActionType: "a"}
		if d := set.Decide(&req, Env{}); strings.Contains(d.Reason, "could not be evaluated") {
			t.Fatalf("%v", d.Errors)
		}
		for _, m := range set.AnyRecording().Masks {
			if again, err := action.ParsePattern(m.String()); err != nil || again.String() != m.String() {
				t.Fatalf("mask %s: %v", m, err)
			}
		}
	})
}

// FuzzNumber holds the comparison, and what is in an interval, against big.Rat.
func FuzzNumber(f *testing.F) {
	for _, pair := range [][2]string{{"1", "1.0"}, {"-0", "0"}, {"9007199254740993", "9007199254740992"}, {"1e2", "100"}, {"0.1", "1E-1"}, {"-1.5", "-1.25"}, {"0e99", "-0.0E00010000100000"}, {"999999999999999999", "1000000000000000000"}, {"-999999999999999999.5", "-1e18"}, {"5.5", "5.25"}, {"012", "1"}, {"1.", "1"}, {"1e", "1"}, {"-", "+1"}} {
		f.Add(pair[0], pair[1])
	}
	f.Fuzz(func(t *testing.T, a, b string) {
		x, okX := parseNumber(a)
		y, okY := parseNumber(b)
		_, jsonErr := action.Parse([]byte(a), action.Limits{})
		if isNumber := strings.Trim(a, "0123456789+-.eE") == "" && a != ""; isNumber && jsonErr == nil && !okX {
			t.Fatalf("%q is a number of JSON", a)
		}
		if !okX || !okY || max(abs(x.exp), abs(y.exp)) > 400 {
			return
		}
		r, ok1 := new(big.Rat).SetString(a)
		s, ok2 := new(big.Rat).SetString(b)
		if !ok1 || !ok2 {
			t.Fatalf("%q or %q is no number", a, b)
		}
		if x.compare(&y) != r.Cmp(s) || x.isWhole() != r.IsInt() || x.sign() != r.Sign() {
			t.Fatalf("%q, %q: %+v, %+v", a, b, x, y)
		}
		at := end{at: y, there: true}
		open := end{at: y, there: true, open: true}
		for _, c := range []struct {
			interval interval
			want     bool
		}{
			{interval{low: at}, r.Cmp(s) >= 0}, {interval{low: open}, r.Cmp(s) > 0},
			{interval{high: at}, r.Cmp(s) <= 0}, {interval{high: open}, r.Cmp(s) < 0},
			{interval{low: at, high: at}, r.Cmp(s) == 0}, {interval{low: open, high: at}, false},
		} {
			if got := c.interval.judge(&x); got != truthOf(c.want) {
				t.Fatalf("%q in %+v: %v", a, c.interval, got)
			}
		}
	})
}

func abs(n int) int { return max(n, -n) }
