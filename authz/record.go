package authz

import (
	"regexp"
	"slices"
	"strings"

	"github.com/openleash/openleash-go/action"
	"github.com/openleash/openleash-go/audit"
)

// A record is what the log keeps of what was decided on: the payload whole, so that
// it can be decided again (replay), but for what looks like a secret.
type record struct {
	relyingParty, payload, toolInfo []byte
	masked                          []string
	open                            bool
}

// recorded makes the record of a request. It is false when there is too much of it
// for the log.
func recorded(req action.Request, call *Call) (r record, fits bool) {
	doc := req.Value()
	payload, paths := masked(doc.Get("payload"))
	r.relyingParty, r.payload = doc.Get("relying_party").Canonical(), payload.Canonical()
	r.masked = under("$.payload", paths)
	if call != nil {
		// The description is long, and the same in every line.
		tool, dropped := without(call.Info, "description")
		tool, paths = masked(tool)
		r.open, r.toolInfo = call.Open, tool.Canonical()
		r.masked = append(r.masked, under("$.tool", append(dropped, paths...))...)
	}
	return r, len(r.payload)+len(r.toolInfo) <= audit.MaxPayload
}

func under(root string, paths []string) (list []string) {
	for _, path := range paths {
		list = append(list, root+path)
	}
	return list
}

func (r record) fill(e *audit.Entry) {
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

// masked gives a value without its secrets, which are what stands under the name of
// one and what has the form of one, and their paths from it.
func masked(v action.Value) (action.Value, []string) {
	if v.Kind() == action.String {
		return maskedText(v)
	}
	var paths []string
	var parts []action.Member // a copy; nil: nothing is masked so far
	for i := range v.Len() {
		part, below := maskedPart(v.At(i))
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

func maskedText(v action.Value) (action.Value, []string) {
	if text := maskText(v.Text()); text != v.Text() {
		return action.StringValue(text), []string{""}
	}
	return v, nil
}

func maskedPart(part action.Member) (action.Value, []string) {
	if isSecretName(part.Key) && isSecretValue(part.Value) {
		return action.StringValue(Mask), []string{""}
	}
	return masked(part.Value)
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
