package authz

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/openleash/openleash-go/action"
	"github.com/openleash/openleash-go/audit"
	"github.com/openleash/openleash-go/policy"
)

// A garden makes nested values in which every text and number stands once.
type garden struct {
	*rand.Rand
	n int
}

// oddNames are plain ones, odd ones, and those that look like another.
var oddNames = []string{"body", "Body ", "bоdy", "bödy", "a.b", `x"y`, "it's", "$", "[0]", "*", "to[*]", "", "\u2028", "\x01", "ſ", "日本", "password", `\`, "n"}

func (g *garden) value(depth int) action.Value {
	switch k := g.IntN(6); {
	case k < 2 && depth > 0:
		var list []action.Value
		for range g.IntN(4) {
			list = append(list, g.value(depth-1))
		}
		return action.ArrayValue(list...)
	case k < 4 && depth > 0:
		return g.object(depth)
	case k == 4:
		return action.IntValue(g.token())
	}
	return action.StringValue(fmt.Sprintf("%s t%d", []string{"", `"`, "\u2028", "é"}[g.IntN(4)], g.token()))
}

func (g *garden) object(depth int) action.Value {
	var ms []action.Member
	for _, i := range g.Perm(len(oddNames))[:1+g.IntN(5)] {
		ms = append(ms, action.Member{Key: oddNames[i], Value: g.value(depth - 1)})
	}
	return action.ObjectValue(ms...)
}

func (g *garden) token() int64 { g.n++; return int64(731_000_000 + g.n) }

// tokensOf are the digits of every text and number in a value.
func tokensOf(v action.Value) (list []string) {
	for i := range v.Len() {
		list = append(list, tokensOf(v.At(i).Value)...)
	}
	if v.Kind() == action.String || v.Kind() == action.Number {
		list = append(list, v.Text()[len(v.Text())-9:])
	}
	return list
}

// spot is a random place in a value, as a mask that may have [*].
func (g *garden) spot(v action.Value, text string) (string, action.Value) {
	if v.Len() == 0 || g.IntN(4) == 0 {
		return text, v
	}
	i := g.IntN(v.Len())
	step := v.Step(i)
	if v.Kind() == action.Array && g.IntN(2) == 0 {
		step = "[*]"
	}
	return g.spot(v.At(i).Value, text+step)
}

// Nothing of what is masked is in the entry, all else is, and what is masked is named.
func TestMaskedIsNotInTheEntry(t *testing.T) {
	g := &garden{Rand: rand.New(rand.NewPCG(6, 1))}
	hidden, shown := 0, 0
	for range 3000 {
		args := g.object(4)
		text, under := g.spot(args, "$.payload.arguments")
		mask, err := action.ParsePattern(text)
		if err != nil {
			t.Fatalf("%s: %v", text, err)
		}
		key := &MaskKey{[]byte(strings.Repeat("k", maskKeySize))}
		if g.IntN(4) == 0 {
			key = nil
		}
		// A mapped field has the very value of an argument, or an item of it.
		payload := action.ObjectValue(action.Member{Key: "arguments", Value: args}, action.Member{Key: "mapped", Value: under}, action.Member{Key: "const", Value: g.value(0)})
		req := action.Request{ActionType: "x", Payload: payload}
		r, fits := recorded(req, &Call{Info: action.ObjectValue()}, policy.Recording{Masks: []action.Pattern{mask}}, key)
		if !fits || !r.veiled {
			t.Fatalf("%s in %s: fits %v, veiled %v", text, payload.Canonical(), fits, r.veiled)
		}
		e := audit.Entry{Event: "decision"}
		r.fill(&e)
		line, err := audit.Encode(e)
		if err != nil {
			t.Fatal(err)
		}
		secrets := tokensOf(under)
		hidden += len(secrets)
		for _, secret := range secrets {
			if strings.Contains(string(line), secret) {
				t.Fatalf("mask %s: %s is in %s", text, secret, line)
			}
		}
		for _, path := range r.masked {
			p, err := action.ParsePath(path)
			if err != nil {
				t.Fatalf("%s: %v", path, err)
			}
			if v, ok := p.Lookup(req.Value()); !ok || v.Kind() == action.Missing {
				t.Fatalf("%s is named as masked, and leads nowhere in %s", path, payload.Canonical())
			}
		}
		if strings.Contains(text, "[*]") || strings.Contains(string(payload.Canonical()), `"password"`) {
			continue
		}
		for _, token := range tokensOf(args) {
			if known := slices.Contains(secrets, token); !known && !strings.Contains(string(line), token) {
				t.Fatalf("mask %s: %s is not masked, and not in %s", text, token, line)
			}
			shown++
		}
	}
	if hidden < 3000 || shown < 3000 {
		t.Errorf("only %d values were hidden, %d shown", hidden, shown)
	}
}

// What cannot be followed, and a key in other case, is masked rather than shown.
func TestMaskInDoubt(t *testing.T) {
	for _, tc := range []struct{ mask, args, want, paths string }{
		{"to[*]", `{"to":["ann","bob"]}`, `{"to":["[masked]","[masked]"]}`, ".to[0] .to[1]"},
		{"to[*]", `{"to":"ann"}`, `{"to":"[masked]"}`, ".to"},
		{"to[*]", `{"to":{"a":"ann"}}`, `{"to":"[masked]"}`, ".to"},
		{"to[1]", `{"to":["ann","bob"]}`, `{"to":["ann","[masked]"]}`, ".to[1]"},
		{"m.body", `{"m":{"body":1,"n":2}}`, `{"m":{"body":"[masked]","n":2}}`, ".m.body"},
		{"m.body", `{"m":{"BODY":1}}`, `{"m":{"BODY":"[masked]"}}`, ".m.BODY"},
		{"m.body", `{"m":[{"body":1}]}`, `{"m":"[masked]"}`, ".m"},
		{"m.body", `{"m":null}`, `{"m":"[masked]"}`, ".m"},
		{"m.body", `{"mm":{"body":1}}`, `{"mm":{"body":1}}`, ""},
		// What the mask spares is masked still if it looks like a secret.
		{"credentials.user", `{"credentials":{"user":"ann","key":"k"}}`, `{"credentials":"[masked]"}`, ".credentials"},
		{"credentials", `{"credentials":null}`, `{"credentials":"[masked]"}`, ".credentials"},
	} {
		args, err := action.Parse([]byte(tc.args), action.Limits{})
		if err != nil {
			t.Fatal(err)
		}
		mask, err := action.ParsePattern("$.payload.arguments." + tc.mask)
		if err != nil {
			t.Fatal(err)
		}
		req := action.Request{Payload: action.ObjectValue(action.Member{Key: "arguments", Value: args})}
		r, _ := recorded(req, nil, policy.Recording{Masks: []action.Pattern{mask}}, nil)
		if got := string(r.payload); got != `{"arguments":`+tc.want+`}` {
			t.Errorf("%s in %s: %s, want %s", tc.mask, tc.args, got, tc.want)
		}
		if got := strings.ReplaceAll(strings.Join(r.masked, " "), "$.payload.arguments", ""); got != tc.paths {
			t.Errorf("%s in %s: masked %s, want %s", tc.mask, tc.args, got, tc.paths)
		}
	}
}

// What the mapping has read from a masked argument is masked with it.
func TestMaskFollowsTheMapping(t *testing.T) {
	v := func(s string) action.Value { return action.StringValue(s) }
	args := action.ObjectValue(action.Member{Key: "shop", Value: v("a.example")}, action.Member{Key: "same", Value: v("a.example")})
	req := action.Request{
		RelyingParty: action.RelyingParty{Domain: "a.example", TrustProfile: "LOW"},
		Payload: action.ObjectValue(action.Member{Key: "arguments", Value: args},
			action.Member{Key: "merchant_domain", Value: v("a.example")}, action.Member{Key: "all", Value: action.ArrayValue(v("a.example"), v("b.example"))}),
	}
	mask, err := action.ParsePattern("$.payload.arguments.shop")
	if err != nil {
		t.Fatal(err)
	}
	r, _ := recorded(req, nil, policy.Recording{Masks: []action.Pattern{mask}}, nil)
	if got := string(r.payload); got != `{"all":["[masked]","b.example"],"arguments":{"same":"a.example","shop":"[masked]"},"merchant_domain":"[masked]"}` {
		t.Error(got)
	}
	if got := string(r.relyingParty); got != `{"domain":"[masked]","trust_profile":"LOW"}` {
		t.Error(got)
	}
	if got := strings.Join(r.masked, " "); got != "$.payload.arguments.shop $.payload.merchant_domain $.payload.all[0] $.relying_party.domain" {
		t.Error(got)
	}
}

// Masking costs more than sending: what has very many masked values is not kept at all.
func TestVeryManyMasksAreNoRecord(t *testing.T) {
	mask := func(text string) action.Pattern {
		m, err := action.ParsePattern(text)
		if err != nil {
			t.Fatal(err)
		}
		return m
	}
	request := func(n int) action.Request {
		args, err := action.Parse([]byte(`{"to":[`+strings.TrimSuffix(strings.Repeat("1,", n), ",")+`],"x":"shown"}`), action.Limits{})
		if err != nil {
			t.Fatal(err)
		}
		return action.Request{Payload: action.ObjectValue(action.Member{Key: "arguments", Value: args})}
	}
	for text, most := range map[string]int{"$.payload.arguments.to[*]": maxMasked, "$.payload.arguments.to": maxMasked - 1} {
		how := policy.Recording{Masks: []action.Pattern{mask(text)}}
		r, fits := recorded(request(most), nil, how, nil)
		if !fits || !strings.Contains(string(r.payload), "shown") {
			t.Errorf("%s: as many as there may be: %v, %.80s", text, fits, r.payload)
		}
		r, fits = recorded(request(most+1), nil, how, nil)
		if !fits || r.payload != nil || !r.veiled || strings.Join(r.masked, " ") != "$.payload $.relying_party" {
			t.Errorf("%s: one more: %v, %.80s, %.80v", text, fits, r.payload, r.masked)
		}
	}
}
