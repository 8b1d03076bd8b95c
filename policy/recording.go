package policy

import (
	"errors"
	"slices"
	"strings"

	"gopkg.in/yaml.v3"

	"github.com/openleash/openleash-go/action"
)

// A Recording is what the log keeps of an action's arguments. The zero Recording keeps
// them whole. No decision depends on it.
type Recording struct {
	Hash  bool             // nothing but the hashes of the action
	Masks []action.Pattern // what stands there is masked; below $.payload and $.relying_party
}

// None reports whether it keeps all.
func (r Recording) None() bool { return !r.Hash && len(r.Masks) == 0 }

// Touches reports whether it keeps what stands at one of the paths, or a part of it,
// out of the log.
func (r Recording) Touches(paths ...action.Path) bool {
	for _, path := range paths {
		if first := firstKey(path); r.Hash && (first == "payload" || first == "relying_party") {
			return true
		}
		for _, m := range r.Masks {
			if m.Touches(path) {
				return true
			}
		}
	}
	return false
}

// A recorded is one entry of log: how actions are recorded.
type recorded struct {
	Recording
	pattern pattern
}

// recordings are those of all policies that are bound, also of those in the shadow:
// what is in the log once stays there.
func recordings(bindings []Binding) (list []recorded) {
	for _, b := range bindings {
		list = append(list, b.Policy.log...)
	}
	return list
}

// Recording is what the log keeps of the arguments of an action: all entries that are
// about it together, so that the strictest holds.
func (s *Set) Recording(actionType string) Recording {
	return s.recording(func(p pattern) bool { return p.matches(actionType) })
}

// AnyRecording is that of an action of which nobody knows what it is.
func (s *Set) AnyRecording() Recording {
	return s.recording(func(pattern) bool { return true })
}

func (s *Set) recording(about func(pattern) bool) (r Recording) {
	for _, l := range s.log {
		if about(l.pattern) {
			r.Hash = r.Hash || l.Hash
			r.Masks = append(r.Masks, l.Masks...)
		}
	}
	return r
}

// log reads how actions are recorded.
func (p *parser) log(n *yaml.Node) (list []recorded) {
	for _, item := range p.List(n, "log") {
		list = append(list, p.recorded(item))
	}
	return list
}

func (p *parser) recorded(n *yaml.Node) (r recorded) {
	const what = "log"
	f := p.Fields(n, what, keysIn[logForm]()...)
	if f == nil {
		return r
	}
	p.require(n, f, what, "action")
	r.pattern = p.pattern(f["action"], what)
	if (f["arguments"] == nil) == (f["mask"] == nil) {
		p.Errorf(n, "%s: want one of arguments: hash, and mask (a list of paths)", what)
	}
	_, r.Hash = p.OneOf(f["arguments"], what+": arguments", recordedAs...)
	items := p.List(f["mask"], what+": mask")
	if f["mask"] != nil && f["mask"].Kind == yaml.SequenceNode && len(items) == 0 {
		p.Errorf(f["mask"], "%s: mask: the list is empty; name what is to be masked, like $.payload.arguments.body", what)
	}
	for _, item := range items {
		if m, ok := p.mask(item, what+": mask"); ok {
			r.Masks = append(r.Masks, m)
		}
	}
	return r
}

// partyPlaces are what can be masked beside the payload.
var partyPlaces = []string{"$.relying_party", "$.relying_party.domain", "$.relying_party.rp_id", "$.relying_party.trust_profile"}

// isMasked reports whether a pattern leads to what can be masked.
func isMasked(text string) bool {
	name := strings.TrimPrefix(text, "$.")
	if i := strings.IndexAny(name, ".["); i >= 0 {
		name = name[:i]
	}
	return name == "payload" || slices.Contains(partyPlaces, text)
}

// mask reads a path of what an agent says: what the server says of its tool is no
// secret of the owner's, and the rest is how an entry is found.
func (p *parser) mask(n *yaml.Node, what string) (m action.Pattern, ok bool) {
	text, ok := p.String(n, what)
	if !ok {
		return m, false
	}
	m, err := action.ParsePattern(text)
	if fault := new(action.PathError); errors.As(err, &fault) {
		p.Errorf(within(n, fault.Offset), "%s: %v", what, err)
		return m, false
	}
	if !isMasked(text) {
		p.Errorf(n, "%s: want a path into $.payload, like $.payload.arguments.body, or one of %s, got %s", what, strings.Join(partyPlaces, ", "), short(text))
	}
	return m, true
}
