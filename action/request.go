package action

import (
	"fmt"
	"maps"
	"math"
	"slices"
	"strings"
)

// A Request is one action that an agent asks for (wire.md §2).
type Request struct {
	ActionID     string // UUID
	ActionType   string
	RequestedAt  string // as the agent wrote it
	AgentID      string // principal.agent_id: the agent's name
	SubjectID    string // subject.principal_id: the owner's UUID
	RelyingParty RelyingParty
	Payload      Value // an object; Missing counts as {}
}

// RelyingParty is the counterparty. The zero value means none was named.
type RelyingParty struct {
	RPID         string
	Domain       string
	TrustProfile string // LOW, MEDIUM, HIGH, REGULATED or empty

	// Blank is set when the agent sent a relying_party that names nothing: it is
	// hashed as {}, as the agent's own hash has it.
	Blank bool
}

// RequestError says what is wrong with the fields of a request, all at once.
type RequestError struct {
	Fields map[string]string // "principal.agent_id" → what came and what was wanted
}

func (e *RequestError) Error() string {
	var b strings.Builder
	b.WriteString("action request")
	sep := ": "
	for _, field := range slices.Sorted(maps.Keys(e.Fields)) {
		fmt.Fprintf(&b, "%s%s: %s", sep, field, e.Fields[field])
		sep = "; "
	}
	return b.String()
}

// ParseRequest reads an ActionRequest body strictly. Unknown keys at the top
// and in principal, subject and relying_party are dropped as the public
// version drops them, and so is a key __proto__ at the top of the payload;
// what is dropped is neither decided on nor hashed. Everything odd is refused:
// by a *ParseError when the text is not JSON that all readers agree on, by a
// *RequestError when a field is missing or wrong, is named in another case, or
// is a number that a double cannot hold.
//
// Inside the payload keys may differ only in case: the published hashes do.
func ParseRequest(body []byte) (Request, error) {
	v, err := Parse(body, Limits{CaseTwins: true})
	if err != nil {
		return Request{}, err
	}
	return RequestFromValue(v)
}

// RequestFromValue is ParseRequest for a value that was parsed already.
func RequestFromValue(v Value) (Request, error) {
	r := requestReader{}
	req := r.request(v)
	req.Payload = withoutProto(req.Payload)
	if path, text, ok := req.Payload.inexact(); !ok {
		r.fault("payload"+path, "%s is more than a double holds, send it as a string", shorten(text))
	}
	if err := r.err(); err != nil {
		return Request{}, err
	}
	return req, nil
}

// ReadRequest reads back what Canonical wrote, as a store does: nothing is
// dropped, and the numbers of tool calls may be more than a double holds.
// Anything that Canonical would not have written is refused, so the hash of
// the request is the hash of the bytes.
func ReadRequest(canonical []byte) (Request, error) {
	v, err := Parse(canonical, Limits{Bytes: math.MaxInt, Values: math.MaxInt, Depth: 4 * defaultDepth, CaseTwins: true})
	if err != nil {
		return Request{}, err
	}
	r := requestReader{stored: true}
	req := r.request(v)
	if err := r.err(); err != nil {
		return Request{}, err
	}
	if string(req.Canonical()) != string(canonical) {
		return Request{}, &RequestError{map[string]string{"$": "want the canonical form of a request, got something else"}}
	}
	return req, nil
}

// A requestReader reads fields and collects what is wrong with them.
type requestReader struct {
	stored bool // the request was accepted before: built in code, its fields have any text
	faults map[string]string
}

func (r *requestReader) fault(field, format string, args ...any) {
	if r.faults == nil {
		r.faults = make(map[string]string)
	}
	if _, ok := r.faults[field]; !ok {
		r.faults[field] = fmt.Sprintf(format, args...)
	}
}

func (r *requestReader) err() error {
	if len(r.faults) == 0 {
		return nil
	}
	return &RequestError{r.faults}
}

func (r *requestReader) request(v Value) Request {
	if v.Kind() != Object {
		r.fault("$", "want an object, got %s", v.Kind())
		return Request{}
	}
	// The API takes approval_token from the same object.
	r.sameCase(v, "", "approval_token")
	principal, _ := r.field(v, "", "principal", Object, true)
	subject, _ := r.field(v, "", "subject", Object, true)
	payload, _ := r.field(v, "", "payload", Object, true)
	return Request{
		ActionID:     r.uuid(v, "", "action_id", true),
		ActionType:   r.text(v, "", "action_type", true),
		RequestedAt:  r.requestedAt(v),
		AgentID:      r.text(principal, "principal.", "agent_id", true),
		SubjectID:    r.uuid(subject, "subject.", "principal_id", true),
		RelyingParty: r.relyingParty(v),
		Payload:      payload,
	}
}

// requestedAt is any text, also the empty one: nothing hangs on it.
func (r *requestReader) requestedAt(v Value) string {
	at, _ := r.field(v, "", "requested_at", String, true)
	return at.Text()
}

func (r *requestReader) relyingParty(v Value) RelyingParty {
	obj, ok := r.field(v, "", "relying_party", Object, false)
	if !ok {
		return RelyingParty{}
	}
	const in = "relying_party."
	rp := RelyingParty{
		RPID:         r.uuid(obj, in, "rp_id", false),
		Domain:       r.text(obj, in, "domain", false),
		TrustProfile: r.text(obj, in, "trust_profile", false),
	}
	rp.Blank = rp == RelyingParty{}
	switch rp.TrustProfile {
	case "", "LOW", "MEDIUM", "HIGH", "REGULATED":
	default:
		if r.stored {
			break
		}
		r.fault(in+"trust_profile", "want LOW, MEDIUM, HIGH or REGULATED, got %s", shortQuote(rp.TrustProfile))
	}
	return rp
}

// field reads obj's member key. ok is false when it is absent or faulty. An
// absent obj is silent: its own absence was told already.
func (r *requestReader) field(obj Value, in, key string, want Kind, required bool) (v Value, ok bool) {
	if obj.Kind() == Missing || !r.sameCase(obj, in, key) {
		return Value{}, false
	}
	v = obj.Get(key)
	switch {
	case v.Kind() == want:
		return v, true
	case v.Kind() == Missing && required:
		r.fault(in+key, "missing, want %s", want)
	case v.Kind() != Missing && required:
		r.fault(in+key, "want %s, got %s", want, v.Kind())
	case v.Kind() != Missing:
		r.fault(in+key, "want %s, got %s: leave it out if there is none", want, v.Kind())
	}
	return Value{}, false
}

// sameCase refuses a key that some readers would take for key.
func (r *requestReader) sameCase(obj Value, in, key string) bool {
	name, twin := obj.GetFold(key)
	if twin {
		r.fault(in+key, "the key %s differs from it only in case, write %q and only once", shortQuote(name), key)
	}
	return !twin
}

// text reads a string that is not empty.
func (r *requestReader) text(obj Value, in, key string, required bool) string {
	v, ok := r.field(obj, in, key, String, required)
	if ok && v.Text() == "" && !(r.stored && required) {
		advice := ""
		if !required {
			advice = ": leave it out if there is none"
		}
		r.fault(in+key, "want text, got an empty string%s", advice)
	}
	return v.Text()
}

func (r *requestReader) uuid(obj Value, in, key string, required bool) string {
	id := r.text(obj, in, key, required)
	if id != "" && !isUUID(id) && !r.stored {
		r.fault(in+key, "want a UUID like 5b1c8ae7-27a3-4a77-bb9c-73e0d68d03ae, got %s", shortQuote(id))
	}
	return id
}

// isUUID reports whether s has the shape of RFC 9562, section 4: 8-4-4-4-12
// hexadecimal digits. Any version and variant will do.
func isUUID(s string) bool {
	if len(s) != 36 {
		return false
	}
	for i := range len(s) {
		switch i {
		case 8, 13, 18, 23:
			if s[i] != '-' {
				return false
			}
		default:
			if _, ok := unhex(s[i]); !ok {
				return false
			}
		}
	}
	return true
}

// withoutProto drops a key __proto__ at the top of the payload, which the
// public version does not read, and which its hashes do not cover.
func withoutProto(payload Value) Value {
	if payload.Get("__proto__").Kind() == Missing {
		return payload
	}
	kept := slices.DeleteFunc(slices.Clone(payload.list()), func(m Member) bool { return m.Key == "__proto__" })
	return ObjectValue(kept...)
}

// Value returns the request as the object that is hashed.
func (r Request) Value() Value {
	return ObjectValue(
		Member{"action_id", StringValue(r.ActionID)},
		Member{"action_type", StringValue(r.ActionType)},
		Member{"payload", orEmpty(r.Payload)},
		Member{"principal", ObjectValue(Member{"agent_id", StringValue(r.AgentID)})},
		Member{"relying_party", r.RelyingParty.value()},
		Member{"requested_at", StringValue(r.RequestedAt)},
		Member{"subject", ObjectValue(Member{"principal_id", StringValue(r.SubjectID)})},
	)
}

// value gives Missing when no relying party was named.
func (rp RelyingParty) value() Value {
	if rp == (RelyingParty{}) {
		return Value{}
	}
	return ObjectValue(
		Member{"domain", textOrMissing(rp.Domain)},
		Member{"rp_id", textOrMissing(rp.RPID)},
		Member{"trust_profile", textOrMissing(rp.TrustProfile)},
	)
}

func textOrMissing(s string) Value {
	if s == "" {
		return Value{}
	}
	return StringValue(s)
}

// Canonical returns the canonical bytes of the request.
func (r Request) Canonical() []byte { return r.Value().Canonical() }

// Hash returns the action hash: sha256 over Canonical. It does the whole work
// each time: a caller that needs it twice keeps it.
func (r Request) Hash() Hash { return hashOf(r.Value()) }
