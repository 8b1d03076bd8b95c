package proxy

import (
	"fmt"
	"strings"

	"gopkg.in/yaml.v3"

	"github.com/openleash/openleash-go/action"
	"github.com/openleash/openleash-go/internal/currency"
	"github.com/openleash/openleash-go/internal/strictyaml"
)

// A Rule says how the calls of some tools are read as actions. In YAML:
//
//	mapping:
//	  - server: shop            # a glob of * and ?; left out: every server
//	    tool: "buy_*"           # a glob
//	    action_type: purchase
//	    relying_party: {domain: $.shop, trust_profile: LOW}
//	    payload:
//	      item: $.item                                            # must be there
//	      quantity: {path: $.n, optional: true}                   # or left out
//	      channel: {value: web}                                   # a constant
//	      amount_minor: {decimal: $.price, currency: $.currency}  # money.go
//	      domain: {email_domain: $.to}                            # domain.go
//	      host: {url_host: $.url, optional: true}
//
// Paths are read in the call's arguments. A path whose key is missing refuses
// the call, unless it is optional; so does one whose key is there in another
// case. The domain of relying_party is a path, one of the forms above, or a
// constant as it stands. The payload has "arguments", whole, besides the fields.
//
// What cannot be derived without doubt stays as it was written, in a type on
// which no condition of a policy is true: an amount as text, where a number is
// wanted; an address or URL that is not plain as a list with the text in quotes,
// where a domain is wanted. An amount that is not there at all is left out.
type Rule struct {
	place        string // file:line, for messages
	server, tool glob
	actionType   string
	domain       source // nil: none
	trust        string
	payload      []field
}

type field struct {
	name string
	from source
}

// covers reports whether r takes every call that other would take, as far as
// equal patterns and * tell.
func (r Rule) covers(other Rule) bool {
	return (r.server.pattern == "*" || r.server == other.server) && (r.tool.pattern == "*" || r.tool == other.tool)
}

// ParseMapping reads a list of rules; nil is no rules. Faults are noted in d.
func ParseMapping(d *strictyaml.Doc, n *yaml.Node) []Rule {
	var rules []Rule
	for _, item := range d.List(n, "mapping") {
		rule := parseRule(d, item)
		for _, earlier := range rules {
			if earlier.covers(rule) {
				d.Errorf(item, "rule: never used, because the rule at %s takes the same calls and stands before it", earlier.place)
				break
			}
		}
		rules = append(rules, rule)
	}
	return rules
}

func parseRule(d *strictyaml.Doc, n *yaml.Node) Rule {
	fields := d.Fields(n, "rule", "server", "tool", "action_type", "relying_party", "payload")
	r := Rule{
		place:      fmt.Sprintf("%s:%d", d.File, n.Line),
		server:     parseGlob(d, fields["server"], "server"),
		tool:       parseGlob(d, fields["tool"], "tool"),
		actionType: parseActionType(d, n, fields["action_type"]),
		payload:    parsePayload(d, fields["payload"]),
	}
	if fields["tool"] == nil && fields != nil {
		d.Errorf(n, `rule: want a tool: a name or a pattern like "buy_*"`)
	}
	r.parseRelyingParty(d, fields["relying_party"])
	return r
}

func parseGlob(d *strictyaml.Doc, n *yaml.Node, what string) glob {
	if n == nil {
		return newGlob("*")
	}
	pattern, ok := d.String(n, what)
	if ok && pattern == "" {
		d.Errorf(n, `%s: want a name or a pattern like "buy_*", got nothing`, what)
	}
	return newGlob(pattern)
}

func parseActionType(d *strictyaml.Doc, rule, n *yaml.Node) string {
	if n == nil {
		d.Errorf(rule, "rule: want an action_type, like purchase or communication.email")
		return ""
	}
	s, ok := d.String(n, "action_type")
	if ok && (s == "" || strings.Trim(s, letters+"0123456789._:-") != "") {
		d.Errorf(n, "action_type: want letters, digits, . _ : and -, got %q", s)
	}
	return s
}

func (r *Rule) parseRelyingParty(d *strictyaml.Doc, n *yaml.Node) {
	if n == nil {
		return
	}
	fields := d.Fields(n, "relying_party", "domain", "trust_profile")
	if at := fields["domain"]; at != nil {
		r.domain = parseDomain(d, at)
	}
	if at := fields["trust_profile"]; at != nil {
		r.trust, _ = d.OneOf(at, "trust_profile", "LOW", "MEDIUM", "HIGH", "REGULATED")
	}
}

func parseDomain(d *strictyaml.Doc, n *yaml.Node) source {
	if n.Kind == yaml.MappingNode || strings.HasPrefix(n.Value, "$") {
		return parseSource(d, n, "domain")
	}
	name, ok := d.String(n, "domain")
	if ok && name == "" {
		d.Errorf(n, "domain: want a path like $.shop or a domain, got nothing")
	}
	return constant(action.StringValue(name))
}

func parsePayload(d *strictyaml.Doc, n *yaml.Node) []field {
	var fields []field
	for _, e := range d.Entries(n, "payload") {
		checkFieldName(d, e, fields)
		fields = append(fields, field{e.Key, parseSource(d, e.Value, "payload."+e.Key)})
	}
	return fields
}

func checkFieldName(d *strictyaml.Doc, e strictyaml.Entry, before []field) {
	switch {
	case e.Key == "":
		d.Errorf(e.KeyNode, "payload: want a field name, got nothing")
	case strings.EqualFold(e.Key, "arguments"):
		d.Errorf(e.KeyNode, `payload: "arguments" is taken: it always holds the arguments of the call, whole`)
	}
	for _, f := range before {
		if strings.EqualFold(f.name, e.Key) {
			d.Errorf(e.KeyNode, "payload: %q and %q differ only in case; a policy could read one for the other", f.name, e.Key)
		}
	}
}

// parseSource reads one way of getting a value. After a fault it returns
// something harmless; the document as a whole is refused.
func parseSource(d *strictyaml.Doc, n *yaml.Node, what string) source {
	if n.Kind != yaml.MappingNode {
		return readPath(parsePath(d, n, what), false)
	}
	fields := d.Fields(n, what, "path", "value", "decimal", "currency", "email_domain", "url_host", "optional")
	form := soleForm(d, n, what, fields)
	optional, _ := d.Bool(fields["optional"], what+": optional")
	switch at := fields[form]; form {
	case "path":
		return readPath(parsePath(d, at, what), optional)
	case "value":
		return constant(parseConstant(d, at, what))
	case "decimal":
		return readDecimal(parsePath(d, at, what), parseCurrency(d, n, fields["currency"], what))
	case "email_domain":
		return readDomain(parsePath(d, at, what), optional, emailDomain)
	case "url_host":
		return readDomain(parsePath(d, at, what), optional, urlHost)
	}
	return constant(action.NullValue())
}

// soleForm finds which of the forms a source has, and checks what stands by it.
func soleForm(d *strictyaml.Doc, n *yaml.Node, what string, fields map[string]*yaml.Node) string {
	var found []string
	for _, form := range []string{"path", "value", "decimal", "email_domain", "url_host"} {
		if fields[form] != nil {
			found = append(found, form)
		}
	}
	if len(found) != 1 {
		if fields != nil {
			d.Errorf(n, "%s: want one of path, value, decimal, email_domain and url_host, got %d of them", what, len(found))
		}
		return ""
	}
	if at := fields["currency"]; at != nil && found[0] != "decimal" {
		d.Errorf(at, "%s: currency goes with decimal only", what)
	}
	if at := fields["optional"]; at != nil && (found[0] == "decimal" || found[0] == "value") {
		d.Errorf(at, "%s: optional does not go with %s; an amount that is missing is left out anyway", what, found[0])
	}
	return found[0]
}

func parsePath(d *strictyaml.Doc, n *yaml.Node, what string) action.Path {
	text, ok := d.String(n, what)
	if !ok {
		return action.Path{}
	}
	if !strings.HasPrefix(text, "$") {
		d.Errorf(n, "%s: want a path into the arguments, like $.price, got %q; a constant is written {value: %s}", what, text, text)
		return action.Path{}
	}
	path, err := action.ParsePath(text)
	if err != nil {
		d.Errorf(n, "%s: %v", what, err)
	}
	return path
}

func parseConstant(d *strictyaml.Doc, n *yaml.Node, what string) action.Value {
	switch n.ShortTag() {
	case "!!int":
		i, _ := d.Int(n, what)
		return action.IntValue(i)
	case "!!bool":
		b, _ := d.Bool(n, what)
		return action.BoolValue(b)
	}
	s, _ := d.String(n, what)
	return action.StringValue(s)
}

// parseCurrency reads the currency of an amount: a path, or a known code.
func parseCurrency(d *strictyaml.Doc, decimal, n *yaml.Node, what string) source {
	if n == nil {
		d.Errorf(decimal, "%s: want a currency beside decimal: a path like $.currency or a code like EUR", what)
		return nil
	}
	if strings.HasPrefix(n.Value, "$") {
		return readPath(parsePath(d, n, what), true)
	}
	code, ok := d.String(n, what+": currency")
	if _, known := currency.MinorDigits(code); ok && !known {
		d.Errorf(n, "%s: want a currency of ISO 4217, like EUR, or a path like $.currency, got %q", what, code)
	}
	return constant(action.StringValue(code))
}
