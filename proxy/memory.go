package proxy

import (
	"errors"
	"fmt"
	"maps"
	"slices"

	"github.com/rs/zerolog"
)

const (
	// maxSubscriptions bounds how many subscriptions to resources are remembered,
	maxSubscriptions = 1000
	// and maxSubscription how long the request for one may be.
	maxSubscription = 16 << 10
)

// memory is what an upstream knows in a session, so that one that has forgotten
// it, a process that was started again or a server over HTTP, can be told behind
// the host's back. Its owner's mutex guards it. The stateless era has none.
type memory struct {
	questions
	log zerolog.Logger

	hello      *Message           // the host's initialize, once it was accepted
	ready      *Message           // its notifications/initialized
	protocol   string             // what was agreed on
	news       []string           // the notifications of changed lists that the upstream has announced
	level      *Message           // the host's logging/setLevel
	subscribed map[string]Message // and its subscriptions, by URI
	telling    map[string]Message // what is remembered once it is accepted, by id
	repeated   map[string]string  // methods of what is said again, by our id
}

func newMemory(log zerolog.Logger, server string) memory {
	return memory{
		questions: newQuestions(), log: log.With().Str("server", server).Logger(),
		subscribed: map[string]Message{}, telling: map[string]Message{}, repeated: map[string]string{},
	}
}

// said notes a message that goes to the upstream.
func (s *memory) said(m Message) {
	switch {
	case m.Method == "notifications/initialized":
		s.ready = &m
	case m.Method == "notifications/cancelled":
		delete(s.telling, idAt(m.Raw, "params", "requestId"))
	case !m.IsRequest() || s.isOurs(m.ID):
	case m.Method == "initialize":
		s.ready, s.telling[m.ID] = nil, m
	case m.Method == "logging/setLevel", m.Method == "resources/subscribe", m.Method == "resources/unsubscribe":
		s.telling[m.ID] = m
	}
}

// heard notes a message of the upstream, and returns it as the host gets it. It is
// false for an answer to what we have said again, of which the host hears nothing.
func (s *memory) heard(m Message) (Message, bool) {
	switch {
	case m.IsResponse() && s.isOurs(m.ID):
		s.taken(m)
		return m, false
	case m.IsResponse():
		s.accept(m)
	case m.IsRequest():
		m = s.ask(m)
	case m.Method == "notifications/cancelled":
		m = s.takeBack(m)
	case m.Method == "notifications/progress":
		return m, !s.isOurs(idAt(m.Raw, "params", "progressToken"))
	}
	return m, true
}

// accept keeps what the upstream has accepted.
func (s *memory) accept(answer Message) {
	m, ok := s.telling[answer.ID]
	delete(s.telling, answer.ID)
	if _, done := find(answer.Raw, "result"); !ok || !done {
		return
	}
	switch m.Method {
	case "initialize":
		s.hello, s.level = &m, nil
		s.protocol, _ = stringAt(answer.Raw, "result", "protocolVersion")
		s.news = newsIn(answer.Raw)
		clear(s.subscribed)
	case "logging/setLevel":
		s.level = &m
	case "resources/subscribe":
		s.subscribe(m)
	case "resources/unsubscribe":
		uri, _ := stringAt(m.Raw, "params", "uri")
		delete(s.subscribed, uri)
	}
}

func (s *memory) subscribe(m Message) {
	uri, _ := stringAt(m.Raw, "params", "uri")
	if _, known := s.subscribed[uri]; !known && len(s.subscribed) >= maxSubscriptions || len(m.Raw) > maxSubscription {
		s.log.Warn().Int("subscriptions", len(s.subscribed)).Int("bytes", len(m.Raw)).
			Msg("a subscription is not remembered: there are too many, or it is too long. It ends when the server is started again")
		return
	}
	s.subscribed[uri] = m
}

// newsIn lists the notifications of changed lists that an initialize result
// declares.
func newsIn(result []byte) (methods []string) {
	for _, kind := range []string{"tools", "prompts", "resources"} {
		if rawAt(result, "result", "capabilities", kind, "listChanged") == "true" {
			methods = append(methods, "notifications/"+kind+"/list_changed")
		}
	}
	return methods
}

// taken notes the answer to what was said again.
func (s *memory) taken(answer Message) {
	method := s.repeated[answer.ID]
	delete(s.repeated, answer.ID)
	if at, failed := find(answer.Raw, "error"); failed {
		s.log.Warn().Str("method", method).Msg("the server does not accept again what the host has told it" + excerpt(answer.Raw[at.from:at.to]))
	}
}

// lose notes that the upstream has forgotten all, and returns what the host is
// told. A handshake that was under way has failed: it is the host's to begin anew.
func (s *memory) lose(reason string) (tell []Message) {
	for _, m := range s.telling {
		if m.Method == "initialize" {
			s.hello = nil
		}
	}
	clear(s.telling)
	clear(s.repeated)
	return s.end(reason)
}

// again is what the upstream is told after a new handshake.
func (s *memory) again() (all []Message) {
	if s.hello == nil || s.ready == nil {
		return nil
	}
	all = append(all, *s.ready)
	if s.level != nil {
		all = append(all, s.ours(*s.level))
	}
	for _, uri := range slices.Sorted(maps.Keys(s.subscribed)) {
		all = append(all, s.ours(s.subscribed[uri]))
	}
	return all
}

// ours is a request of the host under an id of ours, which is its progress token
// too.
func (s *memory) ours(m Message) Message {
	id := s.name()
	at, _ := find(m.Raw, "id")
	edits := []edit{{at, id}}
	if at, ok := find(m.Raw, "params", "_meta", "progressToken"); ok {
		edits = append(edits, edit{at, id})
	}
	s.repeated[id] = m.Method
	return Message{Raw: applyEdits(m.Raw, edits...), ID: id, Method: m.Method}
}

// changed is what the host is told after a new start: "Servers that declared the
// listChanged capability SHOULD send a notification" (Tools; so Prompts,
// Resources). From one that has not, a host expects none.
func (s *memory) changed() (tell []Message) {
	if s.hello == nil || s.ready == nil {
		return nil
	}
	for _, method := range s.news {
		tell = append(tell, Message{Raw: fmt.Appendf(nil, `{"jsonrpc":"2.0","method":%q}`, method), Method: method})
	}
	return tell
}

// otherVersion is a new handshake that the host could not have had.
type otherVersion struct{ now, was string }

func (v *otherVersion) Error() string {
	return fmt.Sprintf("it now speaks protocol version %q, and %q was agreed with the host: begin a new session (start this server in the host again)", v.now, v.was)
}

// sameAgreement fails unless the answer to a new handshake agrees on the version
// that the host speaks.
func sameAgreement(m Message, protocol string) error {
	again, ok := stringAt(m.Raw, "result", "protocolVersion")
	if !ok {
		return errors.New("it refuses initialize now" + excerpt([]byte(rawAt(m.Raw, "error"))))
	}
	if again != protocol {
		return &otherVersion{again, protocol}
	}
	return nil
}
