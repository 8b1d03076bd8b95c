package draft

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/openleash/openleash-go/action"
	"github.com/openleash/openleash-go/approvals"
)

type maker struct {
	request approvals.Request
	bounds  []approvals.Bound
	now     time.Time
	expires time.Time
	groups  []string // of the agent, quoted
}

// Name is that of the policy which is made of a request: of its tool's name, and of its
// id so that no two are the same.
func Name(r approvals.Request) string {
	what := r.Tool
	if what == "" {
		what = r.Action.ActionType
	}
	plain := strings.Map(func(r rune) rune {
		switch {
		case 'a' <= r && r <= 'z' || '0' <= r && r <= '9':
			return r
		case 'A' <= r && r <= 'Z':
			return r + 'a' - 'A'
		}
		return '-'
	}, what)
	plain = strings.Trim(plain[:min(len(plain), 40)], "-")
	id := strings.Map(func(r rune) rune {
		if 'a' <= r && r <= 'z' || '0' <= r && r <= '9' {
			return r
		}
		return -1
	}, r.ID)
	return "rules/" + strings.TrimLeft(plain+"-"+id[:min(len(id), 8)], "-")
}

func (m maker) policy() (string, error) {
	r := m.request
	if strings.Contains(r.Action.ActionType, "*") {
		return "", fmt.Errorf("no rule can be made of it: its action type %q has a * in it, which stands for others in a policy", r.Action.ActionType)
	}
	party := r.Action.RelyingParty
	if !utf8.ValidString(r.AgentID + r.Server + r.Tool + r.Action.ActionType + party.Domain + party.RPID + party.TrustProfile) {
		return "", errors.New("no rule can be made of it: a name in it is not UTF-8")
	}
	matches, err := m.matches()
	if err != nil {
		return "", err
	}
	var b strings.Builder
	fmt.Fprintf(&b, "# Made from an approval request. Everything that is not bounded here is as it was in that call.\n")
	fmt.Fprintf(&b, "version: 1\napplies_to: {agent: %s}\ndefault: passthrough\nrules:\n", quote(r.AgentID))
	fmt.Fprintf(&b, "  - id: %s\n    description: %s\n", RuleID, quote("As in approval request "+r.ID+"."))
	fmt.Fprintf(&b, "    effect: allow\n    action: %s\n    expires: %s\n    when:\n      all:\n", quote(r.Action.ActionType), m.expires.Format(time.RFC3339))
	for _, match := range matches {
		fmt.Fprintf(&b, "        - %s\n", match)
	}
	return b.String(), nil
}

// matches are the conditions, one a line.
func (m maker) matches() (list []string, err error) {
	r := m.request
	if r.Tool != "" {
		list = append(list, is("$.tool.server", action.StringValue(r.Server)), is("$.tool.name", action.StringValue(r.Tool)))
		if hash := r.ToolInfo.Get("definition_hash"); hash.Kind() != action.Missing {
			list = append(list, is("$.tool.definition_hash", hash))
		}
	}
	party := r.Action.RelyingParty
	for _, f := range []struct{ path, value string }{
		{"$.relying_party.domain", party.Domain}, {"$.relying_party.rp_id", party.RPID}, {"$.relying_party.trust_profile", party.TrustProfile},
	} {
		if f.value == "" {
			list = append(list, fmt.Sprintf("not: {match: {path: %s, op: exists}}", f.path))
			continue
		}
		list = append(list, is(f.path, action.StringValue(f.value)))
	}
	return m.value(list, payloadPath, r.Action.Payload)
}

const payloadPath = "$.payload"

// value adds what holds a value: all of it, but for the bounds in it.
func (m maker) value(list []string, path string, v action.Value) ([]string, error) {
	inside := slices.ContainsFunc(m.bounds, func(b approvals.Bound) bool {
		rest, ok := strings.CutPrefix(b.Path, path)
		return ok && rest != "" && (rest[0] == '.' || rest[0] == '[')
	})
	switch {
	case inside && v.Kind() == action.Array:
		return nil, fmt.Errorf("no rule can be made of it: %s is a list, and a policy cannot bound a value in a list whose other items are to stay as they are; leave its bounds out", path)
	case inside:
		return m.object(list, path, v)
	}
	bounded := false
	for _, b := range m.bounds {
		if b.Path == path {
			text, err := bound(b, v)
			if err != nil {
				return nil, err
			}
			list, bounded = append(list, text...), true
		}
	}
	if !bounded {
		list = append(list, is(path, v))
	}
	return list, nil
}

func (m maker) object(list []string, path string, v action.Value) (_ []string, err error) {
	var names []string
	for name := range v.Members() {
		names = append(names, quote(name))
	}
	list = append(list, match(path, "keys", "["+strings.Join(names, ", ")+"]"))
	for i := range v.Len() {
		if list, err = m.value(list, path+v.Step(i), v.At(i).Value); err != nil {
			return nil, err
		}
	}
	return list, nil
}

func match(path, op, value string) string {
	return fmt.Sprintf("match: {path: %s, op: %s, value: %s}", quote(path), op, value)
}

func is(path string, v action.Value) string { return match(path, "is", written(v)) }

// maxText is the longest text that a pattern is made for.
const maxText = 10_000

// largest is the largest number that there is: every number is between it and its negative.
const largest = "1.7976931348623157e+308"

func bound(b approvals.Bound, v action.Value) ([]string, error) {
	switch {
	case b.Op == approvals.AtMost:
		return []string{match(b.Path, "lte", written(b.Values[0]))}, nil
	case b.Op == approvals.AtLeast:
		return []string{match(b.Path, "gte", written(b.Values[0]))}, nil
	case b.Op == approvals.OneOf:
		return []string{match(b.Path, "in", written(action.ArrayValue(b.Values...)))}, nil
	case v.Kind() == action.Bool:
		return []string{match(b.Path, "in", "[true, false]")}, nil
	case v.Kind() == action.Number:
		return []string{match(b.Path, "lte", largest)}, nil
	}
	most := b.Most()
	if most > maxText {
		return nil, fmt.Errorf("no rule can be made of it: %s: a policy can bound texts to %d characters at most, not to %d", b.Path, maxText, most)
	}
	// RE2 repeats nothing more than 1000 times.
	pattern := `^(?s:` + strings.Repeat(".{0,1000}", most/1000) + fmt.Sprintf(".{0,%d}", most%1000) + `)$`
	return []string{match(b.Path, "regex", quote(pattern))}, nil
}
