package proxy

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"
)

// farSession is what a Front keeps of the session with the other side, so that
// it can begin it anew without the host. The stateless era has none.
type farSession struct {
	hello   *Message           // the host's initialize, once it was accepted
	version string             // what it was answered
	news    []string           // the notifications that the other side has announced
	ready   *Message           // the host's notifications/initialized
	kept    map[string]Message // the host's requests that a session remembers
	lost    bool               // the other side has forgotten it
	times   int                // how often it was lost
	replay  string             // the id of the initialize that is under way again
	asked   map[string]string  // the other side's requests without an answer: its own id, by the one that the host sees
}

// down is what the host gets of a message of the other side. f.mu is held.
func (f *Front) down(m Message) ([]Message, error) {
	switch {
	case m.IsResponse() && m.ID != "" && m.ID == f.session.replay:
		return f.begun(m)
	case m.IsResponse() && strings.HasPrefix(m.ID, `"`+f.ids):
		return nil, nil // to what was repeated
	case m.IsResponse() && m.ID != "" && m.ID != "null" && f.open[m.ID] == nil:
		return nil, nil // the host has cancelled it, or never asked
	case m.IsResponse():
		f.answered(m)
	case m.IsRequest():
		m = f.session.asks(f.ids, m)
	case m.Method == "notifications/cancelled":
		id := idAt(m.Raw, "params", "requestId")
		if back, ok := f.session.takesBack(f.ids, id, m); ok {
			m = back
		} else if e := f.open[id]; e != nil && e.m.Method == "subscriptions/listen" {
			delete(f.open, id) // the other side has ended it
		}
	}
	return []Message{m}, nil
}

// answered ends a request of the host, and keeps what a new session must be told.
func (f *Front) answered(m Message) {
	e := f.open[m.ID]
	delete(f.open, m.ID)
	if _, ok := find(m.Raw, "result"); e == nil || !ok {
		return
	}
	s := &f.session
	switch e.m.Method {
	case "initialize":
		s.hello, s.ready, s.lost = &e.m, nil, false
		s.version, _ = stringAt(m.Raw, "result", "protocolVersion")
		s.news = newsIn(m.Raw)
		clear(s.kept)
	case "logging/setLevel":
		s.kept["level"] = e.m
	case "resources/subscribe":
		s.kept["subscription "+rawAt(e.m.Raw, "params", "uri")] = e.m
	case "resources/unsubscribe":
		delete(s.kept, "subscription "+rawAt(e.m.Raw, "params", "uri"))
	}
}

// lose notes that the other side has forgotten a session, and returns what the
// host is told: its questions in that session need no answer any more. f.mu is
// held.
func (f *Front) lose(session string) (tell [][]byte) {
	s := &f.session
	if s.hello == nil || s.lost || !f.far.hasSession(session) {
		return nil
	}
	f.log.Warn().Msg(f.name + " has forgotten the session; it is begun anew")
	s.lost, f.retryAt, f.reason = true, time.Time{}, f.words(unanswered{cause: forgotten})
	s.times++
	f.drop(func(e *errand) bool { return !e.m.IsRequest() })
	for _, id := range slices.Sorted(maps.Keys(s.asked)) {
		tell = append(tell, fmt.Appendf(nil, `{"jsonrpc":"2.0","method":"notifications/cancelled","params":{"requestId":%s,"reason":"the server was started anew"}}`, id))
	}
	clear(s.asked)
	return tell
}

// begin is the host's own initialize, under an id of ours. f.mu is held.
func (f *Front) begin() Message {
	m := f.ours(*f.session.hello)
	f.session.replay = m.ID
	return m
}

// ours is a request of the host under an id of ours.
func (f *Front) ours(m Message) Message {
	f.last++
	id := string(quote(fmt.Sprint(f.ids, f.last)))
	at, _ := find(m.Raw, "id")
	return Message{Raw: applyEdits(m.Raw, edit{at, id}), ID: id, Method: m.Method}
}

// notBegun notes that the session could not be begun anew, and returns answers
// for those whom waiting does not help. f.mu is held.
func (f *Front) notBegun(why unanswered) (answers [][]byte) {
	f.session.replay = ""
	f.isAway(f.words(why))
	if why.cause == notReached || why.cause == brokenOff {
		return nil
	}
	return f.refuse(slices.Clone(f.queue))
}

// begun reads the answer to our initialize: the host has had its own. What a
// session remembers is said again, and the host looks anew at the lists.
// f.mu is held.
func (f *Front) begun(m Message) (news []Message, err error) {
	s := &f.session
	s.replay = ""
	version, ok := stringAt(m.Raw, "result", "protocolVersion")
	if !ok {
		said, _ := stringAt(m.Raw, "error", "message")
		f.isAway(f.name + " does not begin a session: " + said)
		return nil, nil
	}
	if version != s.version {
		err := fmt.Errorf("%s speaks protocol version %s since it was started anew, and %s was agreed with the host: start this server in the host again", f.name, version, s.version)
		return f.farewell(err), err
	}
	s.lost = false
	f.isBack()
	if s.ready == nil {
		return nil, nil
	}
	f.push(&errand{m: *s.ready})
	for _, what := range slices.Sorted(maps.Keys(s.kept)) {
		f.push(&errand{m: f.ours(s.kept[what])})
	}
	for _, method := range s.news {
		news = append(news, Message{Raw: fmt.Appendf(nil, `{"jsonrpc":"2.0","method":%q}`, method), Method: method})
	}
	return news, nil
}

// farewell answers all that the host has asked.
func (f *Front) farewell(reason error) (answers []Message) {
	for id := range f.open {
		answers = append(answers, Message{Raw: errorReply(id, codeInternal, reason.Error()), ID: id})
	}
	clear(f.open)
	return answers
}

// asks notes a request of the other side. After a new start it counts its ids
// from the beginning again, and the host's answer to an old question must not be
// taken for one to a new: so it gets an id that was never used.
func (s *farSession) asks(prefix string, m Message) Message {
	at, ok := find(m.Raw, "id")
	if !ok {
		return m
	}
	own := string(m.Raw[at.from:at.to])
	id := s.seenAs(prefix, m.ID)
	if id != m.ID {
		m = Message{Raw: applyEdits(m.Raw, edit{at, id}), ID: id, Method: m.Method}
	}
	s.asked[id] = own
	return m
}

// seenAs is the id under which the host knows a request of the other side.
func (s *farSession) seenAs(prefix, id string) string {
	if s.times == 0 {
		return id
	}
	return string(quote(fmt.Sprintf("%s%d-%s", prefix, s.times, id)))
}

// takesBack names a request of the other side as the host knows it.
func (s *farSession) takesBack(prefix, own string, m Message) (Message, bool) {
	id := s.seenAs(prefix, own)
	at, ok := find(m.Raw, "params", "requestId")
	if _, asked := s.asked[id]; !ok || !asked {
		return m, false
	}
	delete(s.asked, id)
	if id != own {
		m.Raw = applyEdits(m.Raw, edit{at, id})
	}
	return m, true
}

// answered gives the host's answer the id that the other side knows, and is
// false for an answer to a question of a session that is no more.
func (s *farSession) answered(m Message) (Message, bool) {
	own, ok := s.asked[m.ID]
	delete(s.asked, m.ID)
	if s.times == 0 {
		return m, true
	}
	at, found := find(m.Raw, "id")
	if !ok || !found {
		return m, false
	}
	return Message{Raw: applyEdits(m.Raw, edit{at, own}), ID: m.ID}, true
}
