package authz

import (
	"regexp"
	"slices"
	"strings"

	"github.com/openleash/openleash-go/action"
	"github.com/openleash/openleash-go/audit"
	"github.com/openleash/openleash-go/policy"
)

// A record is what the log keeps of what was decided on: the payload whole, so that
// it can be decided again (replay), but for what looks like a secret, and what the
// policies want masked. Nothing is decided by it.
type record struct {
	marks
	relyingParty, payload, toolInfo []byte
	open                            bool
}

// recorded makes the record of a request. It is false when there is too much of it
// for the log.
func recorded(req action.Request, call *Call, how policy.Recording, key *MaskKey) (r record, fits bool) {
	r.key = key
	if how.Hash || !r.keep(req.Value(), how.Masks) {
		r = record{marks: marks{masked: []string{"$.payload", "$.relying_party"}, veiled: true, key: key}}
	}
	if call != nil {
		// The description is long, and the same in every line.
		tool, dropped := without(call.Info, "description")
		tool, paths := new(masker).value(tool, nil)
		r.open, r.toolInfo = call.Open, tool.Canonical()
		r.masked = append(r.masked, under("$.tool", append(dropped, paths...))...)
	}
	return r, len(r.relyingParty)+len(r.payload)+len(r.toolInfo) <= audit.MaxPayload
}

// keep records the arguments, and what was made of them. It is false when too much of
// them is masked.
func (r *record) keep(doc action.Value, masks []action.Pattern) bool {
	m := masker{key: r.key}
	payload, p := m.value(doc.Get("payload"), intoMember(masks, doc, "payload"))
	party, q := m.value(doc.Get("relying_party"), intoMember(masks, doc, "relying_party"))
	if r.veiled = m.wanted; r.veiled {
		var more []string
		payload, more = m.followers(payload, "arguments")
		p = append(p, more...)
		party, more = m.followers(party, "")
		q = append(q, more...)
	}
	r.payload, r.relyingParty = payload.Canonical(), party.Canonical()
	r.masked = append(under("$.payload", p), under("$.relying_party", q)...)
	return m.masked <= maxMasked
}

// maxMasked bounds how many texts and numbers are masked one by one: each costs more
// than the agent had to send.
const maxMasked = 10_000

// intoMember are the patterns that lead into a member of an object.
func intoMember(at []action.Pattern, v action.Value, key string) []action.Pattern {
	for i := range v.Len() {
		if v.At(i).Key == key {
			return into(at, v, i)
		}
	}
	return nil
}

func under(root string, paths []string) (list []string) {
	for _, path := range paths {
		list = append(list, root+path)
	}
	return list
}

func (r *record) fill(e *audit.Entry) {
	e.Open, e.Masked = r.open, r.masked
	e.RelyingParty, e.Payload, e.ToolInfo = r.relyingParty, r.payload, r.toolInfo
}

// Mask stands in the log for what looks like a secret.
const Mask = "[masked]"

// without takes a member of $.tool away, and tells its path.
func without(info action.Value, key string) (action.Value, []string) {
	if info.Get(key).Kind() == action.Missing {
		return info, nil
	}
	var kept []action.Member
	for name, v := range info.Members() {
		if name != key {
			kept = append(kept, action.Member{Key: name, Value: v})
		}
	}
	return action.ObjectValue(kept...), []string{"." + key}
}

// A masker takes out of values what the log does not keep.
type masker struct {
	key    *MaskKey
	wanted bool            // something was masked because a policy wants it
	masked int             // how much of that there was: values, and what is in them
	hidden map[string]bool // the texts and numbers in them, as JSON
}

// value gives a value without its secrets, which are what stands under the name of one
// and what has the form of one, and without what patterns lead to; and the paths of both
// from it. Where a pattern cannot be followed (a text stands where a list was meant)
// what stands there is masked.
func (m *masker) value(v action.Value, at []action.Pattern) (action.Value, []string) {
	if stops(at, v) && v.Kind() != action.Missing {
		if m.hide(v); m.masked > maxMasked {
			return action.StringValue(Mask), []string{""} // it is not kept
		}
		return action.StringValue(m.key.Text(v)), []string{""}
	}
	if v.Kind() == action.String {
		return maskedText(v)
	}
	return each(v, func(i int) (action.Value, []string) { return m.part(v.At(i), into(at, v, i)) })
}

// each changes the members or items of v, and tells the paths at which there was a
// change.
func each(v action.Value, change func(i int) (action.Value, []string)) (action.Value, []string) {
	var paths []string
	var parts []action.Member // a copy; nil: nothing has changed so far
	for i := range v.Len() {
		part, below := change(i)
		if below == nil {
			continue
		}
		if parts == nil {
			parts = copied(v)
		}
		parts[i].Value = part
		for _, path := range below {
			paths = append(paths, v.Step(i)+path)
		}
	}
	if parts == nil {
		return v, nil
	}
	return like(v, parts), paths
}

// hide notes what is in a value that a policy wants masked.
func (m *masker) hide(v action.Value) {
	m.wanted = true
	if m.masked++; m.masked > maxMasked {
		return
	}
	for i := range v.Len() {
		m.hide(v.At(i).Value)
	}
	if v.Kind() == action.Number || v.Kind() == action.String && v.Text() != "" {
		if m.hidden == nil {
			m.hidden = make(map[string]bool)
		}
		m.hidden[string(v.Canonical())] = true
	}
}

// followers masks in what the mapping has made of the arguments what was masked in
// them: a field that has the very same value was read there. but is a member that is
// left as it is.
func (m *masker) followers(v action.Value, but string) (action.Value, []string) {
	if (v.Kind() == action.String || v.Kind() == action.Number) && m.hidden[string(v.Canonical())] {
		return action.StringValue(m.key.Text(v)), []string{""}
	}
	return each(v, func(i int) (action.Value, []string) {
		if but != "" && v.At(i).Key == but {
			return v.At(i).Value, nil
		}
		return m.followers(v.At(i).Value, "")
	})
}

// stops reports whether one of the patterns means v, or cannot be followed in it.
func stops(at []action.Pattern, v action.Value) bool {
	return slices.ContainsFunc(at, func(p action.Pattern) bool { return p.Ends() || !p.Fits(v) })
}

// into are the patterns that lead into the i-th member or item of v.
func into(at []action.Pattern, v action.Value, i int) (below []action.Pattern) {
	for _, p := range at {
		if rest, leads := p.Into(v, i); leads {
			below = append(below, rest)
		}
	}
	return below
}

func maskedText(v action.Value) (action.Value, []string) {
	if text := maskText(v.Text()); text != v.Text() {
		return action.StringValue(text), []string{""}
	}
	return v, nil
}

func (m *masker) part(part action.Member, at []action.Pattern) (action.Value, []string) {
	if !stops(at, part.Value) && isSecretName(part.Key) && isSecretValue(part.Value) {
		if len(at) > 0 {
			m.hide(part.Value)
		}
		return action.StringValue(Mask), []string{""}
	}
	return m.value(part.Value, at)
}

func copied(v action.Value) []action.Member {
	parts := make([]action.Member, v.Len())
	for i := range parts {
		parts[i] = v.At(i)
	}
	return parts
}

// like makes an array or an object, as v is one.
func like(v action.Value, parts []action.Member) action.Value {
	if v.Kind() == action.Object {
		return action.ObjectValue(parts...)
	}
	items := make([]action.Value, len(parts))
	for i, part := range parts {
		items[i] = part.Value
	}
	return action.ArrayValue(items...)
}

// isSecretValue is false for what keeps no secret: nothing, and a switch.
func isSecretValue(v action.Value) bool {
	return v.Kind() != action.Null && v.Kind() != action.Bool && v.Kind() != action.Missing && !(v.Kind() == action.String && v.Text() == "")
}

// secretNames are the ends of names, in lower case and without what is no letter or
// digit, under which people keep secrets.
var secretNames = []string{
	"password", "passwd", "pwd", "passphrase", "passcode", "secret", "apikey", "accesskey", "secretkey", "privatekey", "encryptionkey",
	"accesstoken", "refreshtoken", "authtoken", "sessiontoken", "idtoken", "bearertoken", "apitoken", "securitytoken", "csrftoken",
	"authorization", "cookie", "setcookie", "credential", "credentials", "cvv", "cvc", "otp", "totp", "mfacode", "mnemonic", "seedphrase", "pin",
}

// A short name is one only by itself: "pin" is, "spin" is not.
const shortName = 4

func isSecretName(name string) bool {
	if name == "" {
		return false
	}
	name = strings.ToLower(strings.Map(func(r rune) rune {
		if r == '_' || r == '-' || r == '.' || r == ' ' {
			return -1
		}
		return r
	}, name))
	return name == "token" || slices.ContainsFunc(secretNames, func(s string) bool {
		return name == s || len(s) > shortName && strings.HasSuffix(name, s)
	})
}

// isSecretPlace reports whether a name of a secret stands in one of the paths.
func isSecretPlace(paths []action.Path) bool {
	return slices.ContainsFunc(paths, func(p action.Path) bool {
		return slices.ContainsFunc(strings.FieldsFunc(p.String(), func(r rune) bool { return strings.ContainsRune(`.[]"'$`, r) }), isSecretName)
	})
}

// A form is how some kind of secret is written. Only a text that has its mark in it is
// searched.
type form struct {
	mark string
	re   *regexp.Regexp
}

var forms = []form{
	{"PRIVATE KEY-----", regexp.MustCompile(`-----BEGIN [A-Z ]*PRIVATE KEY-----(?s:.*?)(-----END [A-Z ]*PRIVATE KEY-----|$)`)},
	{"ol", regexp.MustCompile(`\bol[a-z]_[A-Za-z0-9_.-]{20,}`)}, // our own
	{"gh", regexp.MustCompile(`\bgh[pousr]_[A-Za-z0-9]{20,}`)},
	{"github_pat_", regexp.MustCompile(`\bgithub_pat_[A-Za-z0-9_]{20,}`)},
	{"glpat-", regexp.MustCompile(`\bglpat-[A-Za-z0-9_-]{16,}`)},
	{"sk-", regexp.MustCompile(`\bsk-[A-Za-z0-9_-]{20,}`)},
	{"k_", regexp.MustCompile(`\b[rs]k_(live|test)_[A-Za-z0-9]{10,}`)},
	{"xox", regexp.MustCompile(`\bxox[abeprs]-[A-Za-z0-9-]{10,}`)},
	{"npm_", regexp.MustCompile(`\bnpm_[A-Za-z0-9]{30,}`)},
	{"KIA", regexp.MustCompile(`\bAKIA[0-9A-Z]{16}\b`)},
	{"SIA", regexp.MustCompile(`\bASIA[0-9A-Z]{16}\b`)},
	{"AIza", regexp.MustCompile(`\bAIza[0-9A-Za-z_-]{35}`)},
	{"eyJ", regexp.MustCompile(`\beyJ[A-Za-z0-9_-]{8,}\.eyJ[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]*`)},
	{"earer ", regexp.MustCompile(`\b[Bb]earer +[A-Za-z0-9+/_.=-]{16,}`)},
	{"uthorization:", regexp.MustCompile(`\b[Aa]uthorization: *[A-Za-z]+ +[^\s"',]+`)},
	{"://", regexp.MustCompile(`://[^/\s:@?#"]*:[^/\s@?#"]+@`)}, // a password in a URL
}

func maskText(s string) string {
	for _, f := range forms {
		if strings.Contains(s, f.mark) {
			s = f.re.ReplaceAllLiteralString(s, Mask)
		}
	}
	return s
}
