package proxy

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/openleash/openleash-go/action"
	"github.com/openleash/openleash-go/authz"
	"github.com/openleash/openleash-go/internal/currency"
)

// A Mapping turns tool calls into actions: the rules of the config file, then
// those of the profile of a server, then the default. Immutable.
type Mapping struct {
	rules   []Rule
	profile *Profile // nil: the server is none that we know
}

// NewMapping puts the config's rules before those of the profile, which may be nil.
func NewMapping(rules []Rule, profile *Profile) *Mapping {
	m := &Mapping{rules: slices.Clone(rules), profile: profile}
	if profile != nil {
		m.rules = append(m.rules, profile.rules...)
	}
	return m
}

// Mapped is the action of a tool call.
type Mapped struct {
	ActionType   string       // default mcp.<server>.<tool>
	Payload      action.Value // the mapped fields plus "arguments", whole
	RelyingParty action.RelyingParty
	Profile      string // the profile's name, or empty
	Reads        bool   // the profile says that this tool only reads
	Destroys     bool   // the profile says that this tool deletes, overwrites, spends or sends
}

// Map translates a call. An error refuses the call: a field that the rule needs
// cannot be had from these arguments in a way that leaves no doubt.
func (m *Mapping) Map(server, tool string, arguments action.Value) (Mapped, error) {
	switch arguments.Kind() {
	case action.Missing:
		arguments = action.ObjectValue()
	case action.Object:
	default:
		return Mapped{}, fmt.Errorf("arguments: want an object, got %s", arguments.Kind())
	}
	mapped, rule := m.describe(server, tool)
	members := []action.Member{{Key: "arguments", Value: arguments}}
	if rule == nil && authz.IsOpenType(tool) {
		return mapped, fmt.Errorf("a tool named %s would have the action type %s, which is that of what is no tool call: the owner can give it another under mapping: in the configuration", tool, mapped.ActionType)
	}
	if rule != nil {
		var err error
		if members, err = rule.apply(&mapped, members); err != nil {
			return Mapped{}, fmt.Errorf("mapping rule %s: %w", rule.place, err)
		}
	}
	mapped.Payload = action.ObjectValue(members...)
	return mapped, nil
}

// describe tells what is known of a tool without a call: its action type, what
// its profile says, and the rule that will be applied, nil when there is none.
func (m *Mapping) describe(server, tool string) (Mapped, *Rule) {
	mapped := Mapped{ActionType: "mcp." + server + "." + tool}
	if p := m.profile; p != nil {
		mapped.Profile, mapped.Reads, mapped.Destroys = p.Name, p.reads[tool], p.destroys[tool]
	}
	rule := m.find(server, tool)
	if rule != nil {
		mapped.ActionType = rule.actionType
	}
	return mapped, rule
}

func (m *Mapping) find(server, tool string) *Rule {
	for i := range m.rules {
		if r := &m.rules[i]; r.server.match(server) && r.tool.match(tool) {
			return r
		}
	}
	return nil
}

// apply adds the rule's fields to members, whose first is the arguments.
func (r *Rule) apply(mapped *Mapped, members []action.Member) ([]action.Member, error) {
	arguments := members[0].Value
	mapped.RelyingParty.TrustProfile = r.trust
	if r.domain != nil {
		v, err := r.domain(arguments)
		if err == nil {
			mapped.RelyingParty.Domain, err = oneDomain(v)
		}
		if err != nil {
			return nil, fmt.Errorf("relying_party.domain: %w", err)
		}
	}
	for _, f := range r.payload {
		v, err := f.from(arguments)
		if err != nil {
			return nil, fmt.Errorf("payload.%s: %w", f.name, err)
		}
		if v.Kind() != action.Missing {
			members = append(members, action.Member{Key: f.name, Value: v})
		}
	}
	return members, nil
}

// oneDomain reads the counterparty: a text, or a list that names only one.
// Where there are several there is no one counterparty, and where it is in doubt
// (readDomain has put it into quotes) none is named: an allow that speaks of the
// counterparty then does not match. payload has them all.
func oneDomain(v action.Value) (string, error) {
	switch v.Kind() {
	case action.Missing:
		return "", nil
	case action.String:
		return v.Text(), nil
	case action.Array:
	default:
		return "", fmt.Errorf("want a text, got %s", v.Kind())
	}
	for _, item := range v.Items() {
		if item.Kind() != action.String {
			return "", fmt.Errorf("want texts in the list, got %s", item.Kind())
		}
		if item.Text() != v.Index(0).Text() || strings.HasPrefix(item.Text(), `"`) {
			return "", nil
		}
	}
	return v.Index(0).Text(), nil
}

// A source takes a value from the arguments. Missing means: leave the field out.
type source func(arguments action.Value) (action.Value, error)

func constant(v action.Value) source {
	return func(action.Value) (action.Value, error) { return v, nil }
}

func readPath(path action.Path, optional bool) source {
	return func(arguments action.Value) (action.Value, error) {
		v, ok := path.Lookup(arguments)
		switch {
		case !ok:
			return v, fmt.Errorf("%s cannot be read without doubt in the arguments (%s): "+
				"a key on the way is written in another case, or is no object", path, keysOf(arguments))
		case v.Kind() == action.Missing && !optional:
			return v, fmt.Errorf("%s is not in the arguments (%s): call again with it, "+
				"or let the owner make the field optional in the rule", path, keysOf(arguments))
		}
		return v, nil
	}
}

// readDecimal derives minor units. A currency that is missing or unknown, and an
// amount of which minorUnits is not sure, leave the amount's own text.
func readDecimal(path action.Path, currency source) source {
	amount := readPath(path, true)
	return func(arguments action.Value) (action.Value, error) {
		v, err := amount(arguments)
		if err != nil || v.Kind() == action.Missing {
			return v, err
		}
		code, err := currency(arguments)
		if err != nil {
			return v, fmt.Errorf("currency: %w", err)
		}
		if minor, ok := deriveMinor(v, code); ok {
			return action.IntValue(minor), nil
		}
		return action.StringValue(textOf(v)), nil
	}
}

func deriveMinor(amount, code action.Value) (int64, bool) {
	if code.Kind() != action.String || amount.Kind() != action.String && amount.Kind() != action.Number {
		return 0, false
	}
	digits, ok := currency.MinorDigits(code.Text())
	if !ok {
		return 0, false
	}
	return minorUnits(amount.Text(), digits)
}

// textOf gives a value as text: a string's or a number's own, else its JSON.
func textOf(v action.Value) string {
	if v.Kind() == action.String || v.Kind() == action.Number {
		return v.Text()
	}
	return string(v.Canonical())
}

// readDomain derives the domain of a text, or of each text of a list. A text
// that has none is kept in quotes, which no domain has, and in a list, so that
// comparisons with a text are not true of it either: no rule that allows is met
// by it, and none that denies is dodged.
func readDomain(path action.Path, optional bool, domainOf func(string) (string, bool)) source {
	read := readPath(path, optional)
	return func(arguments action.Value) (action.Value, error) {
		v, err := read(arguments)
		switch {
		case err != nil:
			return v, err
		case v.Kind() == action.String:
			if domain, ok := domainOf(v.Text()); ok {
				return action.StringValue(domain), nil
			}
			return action.ArrayValue(inQuotes(v)), nil
		case v.Kind() == action.Array:
			return domainsOf(v, domainOf), nil
		}
		return v, nil
	}
}

func domainsOf(list action.Value, domainOf func(string) (string, bool)) action.Value {
	domains := make([]action.Value, 0, list.Len())
	for _, item := range list.Items() {
		if item.Kind() == action.String {
			if domain, ok := domainOf(item.Text()); ok {
				item = action.StringValue(domain)
			} else {
				item = inQuotes(item)
			}
		}
		domains = append(domains, item)
	}
	return action.ArrayValue(domains...)
}

func inQuotes(v action.Value) action.Value { return action.StringValue(strconv.Quote(v.Text())) }

// keysOf lists what the arguments had, for a message.
func keysOf(arguments action.Value) string {
	const most = 20
	var keys []string
	for key := range arguments.Members() {
		if len(keys) == most {
			keys = append(keys, "…")
			break
		}
		keys = append(keys, fmt.Sprintf("%.40q", key))
	}
	if len(keys) == 0 {
		return "they are empty"
	}
	return "they have " + strings.Join(keys, ", ")
}
