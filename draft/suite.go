package draft

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/openleash/openleash-go/action"
	"github.com/openleash/openleash-go/approvals"
	"github.com/openleash/openleash-go/policy"
)

// A neighbour is a call that differs from the one that was asked for, and is not to be
// allowed by the rule that is made of it.
type neighbour struct {
	name    string
	payload action.Value
}

// asked returns nil when the policies in force ask for an approval of the call, and
// nothing else.
func (m maker) asked(book *policy.Book) error {
	if before := m.decide(book, m.request.Action.Payload); before.Needed() != policy.RequireApproval {
		return fmt.Errorf("no rule is made of it: the policies in force do not ask for an approval of this call now, but say %s (%s)", before.Needed(), before.By())
	}
	return nil
}

// suite says of the call and of its neighbours what is to come of them.
func (m maker) suite(book *policy.Book) string {
	var b strings.Builder
	b.WriteString("# What the rule of the same name changes, and what it does not, with all policies of the folder.\ntests:\n")
	m.groups = groupsOf(book, m.request.AgentID)
	m.test(&b, "the call that was asked for is allowed", m.request.Action.Payload, policy.Allow, RuleID)
	for _, n := range m.neighbours() {
		before := m.decide(book, n.payload)
		m.test(&b, n.name, n.payload, before.Outcome, "")
	}
	return b.String()
}

// groupsOf are the groups that an agent is in, quoted.
func groupsOf(book *policy.Book, agent string) (names []string) {
	for name, members := range book.Groups() {
		if slices.Contains(members, agent) {
			names = append(names, quote(name))
		}
	}
	slices.Sort(names)
	return names
}

func (m maker) env() policy.Env { return policy.Env{Tool: m.request.ToolInfo, Now: m.now} }

// decide asks the book, by the agent's groups there.
func (m maker) decide(book *policy.Book, payload action.Value) policy.Decision {
	req := m.request.Action
	req.Payload = payload
	return book.For(m.request.AgentID).Decide(&req, m.env())
}

func (m maker) test(b *strings.Builder, name string, payload action.Value, want policy.Outcome, rule string) {
	r := m.request
	fmt.Fprintf(b, "  - name: %s\n    agent: %s\n    at: %s\n", quote(name), quote(r.AgentID), quote(m.now.Format(time.RFC3339)))
	if len(m.groups) > 0 {
		fmt.Fprintf(b, "    groups: [%s]\n", strings.Join(m.groups, ", "))
	}
	fmt.Fprintf(b, "    action: {action_type: %s, payload: %s", quote(r.Action.ActionType), written(payload))
	party := r.Action.RelyingParty
	var fields []string
	for _, f := range []struct{ name, value string }{{"domain", party.Domain}, {"rp_id", party.RPID}, {"trust_profile", party.TrustProfile}} {
		if f.value != "" {
			fields = append(fields, f.name+": "+quote(f.value))
		}
	}
	if len(fields) > 0 {
		fmt.Fprintf(b, ", relying_party: {%s}", strings.Join(fields, ", "))
	}
	if r.ToolInfo.Kind() == action.Object {
		fmt.Fprintf(b, ", tool: %s", written(r.ToolInfo))
	}
	fmt.Fprintf(b, "}\n    want: %s\n", want)
	if rule != "" {
		fmt.Fprintf(b, "    rule: %s\n", rule)
	}
}

// neighbours are one for each bound, one with another value where nothing is bounded,
// and one with an argument more.
func (m maker) neighbours() (list []neighbour) {
	payload := m.request.Action.Payload
	for _, b := range m.bounds {
		if v, ok := outside(b, m.at(b.Path)); ok {
			list = append(list, neighbour{"out of bounds: " + b.String(), replaced(payload, payloadPath, b.Path, v)})
		}
	}
	for _, p := range approvals.Places(payload) {
		fixed := !slices.ContainsFunc(m.bounds, func(b approvals.Bound) bool { return b.Path == p.Path })
		if fixed {
			list = append(list, neighbour{"another value: " + p.Path, replaced(payload, payloadPath, p.Path, other(p.Value))})
			break
		}
	}
	return append(list, neighbour{"an argument more", more(payload)})
}

func (m maker) at(path string) action.Value {
	for _, p := range approvals.Places(m.request.Action.Payload) {
		if p.Path == path {
			return p.Value
		}
	}
	return action.Value{}
}

// outside is a value that a bound does not let through; there may be none.
func outside(b approvals.Bound, was action.Value) (action.Value, bool) {
	for _, v := range []action.Value{
		beside(b, 1), beside(b, -1), number(largest), number("-" + largest),
		action.StringValue("another"), action.StringValue(strings.Repeat("x", b.Most()+1)), action.BoolValue(true),
	} {
		if v.Kind() != action.Missing && !b.Holds(was, v) {
			return v, true
		}
	}
	return action.Value{}, false
}

// beside is the whole number next to a bound's, if that is one.
func beside(b approvals.Bound, step int64) action.Value {
	if b.Op != approvals.AtMost && b.Op != approvals.AtLeast {
		return action.Value{}
	}
	var n int64
	if _, err := fmt.Sscanf(b.Values[0].Text(), "%d", &n); err != nil || !action.IntValue(n).Equal(b.Values[0]) || n > 1<<53 || n < -1<<53 {
		return action.Value{}
	}
	return action.IntValue(n + step)
}

func number(text string) action.Value {
	v, err := action.Parse([]byte(text), action.Limits{})
	if err != nil {
		return action.Value{}
	}
	return v
}

// other is another value of the same kind.
func other(v action.Value) action.Value {
	switch {
	case v.Kind() == action.Bool:
		return action.BoolValue(!v.IsTrue())
	case v.Kind() == action.Number && v.Equal(action.IntValue(1)):
		return action.IntValue(2)
	case v.Kind() == action.Number:
		return action.IntValue(1)
	}
	return action.StringValue("not " + v.Text())
}

// replaced is v with another value at one place.
func replaced(v action.Value, path, at string, with action.Value) action.Value {
	switch {
	case path == at:
		return with
	case v.Kind() != action.Object && v.Kind() != action.Array:
		return v
	}
	members := make([]action.Member, v.Len())
	items := make([]action.Value, v.Len())
	for i := range v.Len() {
		m := v.At(i)
		items[i] = replaced(m.Value, path+v.Step(i), at, with)
		members[i] = action.Member{Key: m.Key, Value: items[i]}
	}
	if v.Kind() == action.Array {
		return action.ArrayValue(items...)
	}
	return action.ObjectValue(members...)
}

// more is a payload with an argument that was not there.
func more(payload action.Value) action.Value {
	args := payload.Get("arguments")
	if args.Kind() != action.Object {
		return grown(payload)
	}
	var members []action.Member
	for name, v := range payload.Members() {
		if name == "arguments" {
			v = grown(args)
		}
		members = append(members, action.Member{Key: name, Value: v})
	}
	return action.ObjectValue(members...)
}

func grown(v action.Value) action.Value {
	name := "another"
	for taken := true; taken; {
		if _, taken = v.GetFold(name); taken || v.Get(name).Kind() != action.Missing {
			name, taken = name+"_", true
		}
	}
	var members []action.Member
	for key, item := range v.Members() {
		members = append(members, action.Member{Key: key, Value: item})
	}
	return action.ObjectValue(append(members, action.Member{Key: name, Value: action.BoolValue(true)})...)
}
