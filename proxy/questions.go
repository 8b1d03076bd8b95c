package proxy

import (
	"crypto/rand"
	"fmt"
	"maps"
	"slices"
	"strings"
)

// maxOld bounds how many questions of former starts are told from new ones by
// their ids. Beyond it every new one gets an id of ours.
const maxOld = 1000

// questions are an upstream's own requests that the host has not answered,
// through all its starts. One that is started anew counts its ids, and its
// progress tokens, from the beginning, and what the host still says to an old
// question must not be taken for an answer to a new one. So what would clash gets
// a name that was never used; all else passes as it was written.
type questions struct {
	ids    string // begins the names that are ours
	last   int    // the number of the last of them
	starts int    // beyond the first
	many   bool   // there are more than are remembered,
	all    bool   // so that in later starts everything is renamed

	asked map[string]naming // by the id that the host knows
	back  map[string]naming // taken back, and perhaps answered all the same
	old   map[string]naming // both, of former starts
}

// naming is how a question is called on either side.
type naming struct {
	id    string // the upstream's, as it wrote it,
	own   string // and canonical
	token string // its progress token as it wrote it; empty: none
	seen  string // and as the host knows it, canonical
}

func newQuestions() questions {
	return questions{ids: "openleash-" + rand.Text() + "-", asked: map[string]naming{}, back: map[string]naming{}, old: map[string]naming{}}
}

// name is a new id, or progress token, as JSON text.
func (q *questions) name() string {
	q.last++
	return string(quote(fmt.Sprint(q.ids, q.last)))
}

// isOurs tells the names that are ours.
func (q *questions) isOurs(name string) bool { return strings.HasPrefix(name, `"`+q.ids) }

// ask notes a request of the upstream, and returns it as the host gets it.
func (q *questions) ask(m Message) Message {
	at, ok := find(m.Raw, "id")
	if !ok {
		return m
	}
	var edits []edit
	n, id := naming{id: string(m.Raw[at.from:at.to]), own: m.ID}, m.ID
	if _, taken := q.old[id]; taken || q.all {
		id = q.name()
		edits = append(edits, edit{at, id})
	}
	if at, ok := find(m.Raw, "params", "_meta", "progressToken"); ok {
		n.token, n.seen = string(m.Raw[at.from:at.to]), idAt(m.Raw, "params", "_meta", "progressToken")
		if q.all || q.isOld(n.seen) {
			n.seen = q.name()
			edits = append(edits, edit{at, n.seen})
		}
	}
	q.asked[id] = n
	if edits == nil {
		return m
	}
	return Message{Raw: applyEdits(m.Raw, edits...), ID: id, Method: m.Method}
}

// isOld tells the progress tokens of former starts.
func (q *questions) isOld(token string) bool {
	for _, n := range q.old {
		if n.seen == token && token != "" {
			return true
		}
	}
	return false
}

// takeBack gives a cancellation by the upstream the id that the host knows.
func (q *questions) takeBack(m Message) Message {
	own := idAt(m.Raw, "params", "requestId")
	id, asked := q.known(own)
	at, ok := find(m.Raw, "params", "requestId")
	if !asked || !ok {
		return m
	}
	q.keep(q.back, id, q.asked[id])
	delete(q.asked, id)
	if id != own {
		m.Raw = applyEdits(m.Raw, edit{at, id})
	}
	return m
}

// known is the id under which the host knows a question.
func (q *questions) known(own string) (id string, asked bool) {
	if n, ok := q.asked[own]; ok && n.own == own {
		return own, true
	}
	for id, n := range q.asked {
		if n.own == own {
			return id, true
		}
	}
	return "", false
}

// restore gives what the host says of a question the names that the upstream
// knows. It is false for what concerns a question that is no more: nobody is left
// who asked.
func (q *questions) restore(m Message) (Message, bool) {
	switch {
	case m.IsResponse():
		return q.restoreID(m)
	case m.Method == "notifications/progress":
		return q.restoreToken(m)
	}
	return m, true
}

func (q *questions) restoreID(m Message) (Message, bool) {
	n, ok := q.asked[m.ID]
	if !ok {
		delete(q.old, m.ID)
		delete(q.back, m.ID)
		return m, q.starts == 0
	}
	at, found := find(m.Raw, "id")
	if n.own == m.ID || !found {
		return m, true
	}
	return Message{Raw: applyEdits(m.Raw, edit{at, n.id}), ID: n.own}, true
}

func (q *questions) restoreToken(m Message) (Message, bool) {
	at, ok := find(m.Raw, "params", "progressToken")
	token := idAt(m.Raw, "params", "progressToken")
	for _, n := range q.asked {
		if ok && n.seen == token && q.isOurs(token) {
			m.Raw = applyEdits(m.Raw, edit{at, n.token})
		}
		if n.seen == token {
			return m, true
		}
	}
	return m, !q.isOld(token)
}

// answered ends a question that the host has answered.
func (q *questions) answered(id string) { delete(q.asked, id) }

// keep remembers a question that the host may answer too late.
func (q *questions) keep(in map[string]naming, id string, n naming) {
	if len(in) >= maxOld {
		q.many = true
		return
	}
	in[id] = n
}

// end ends all of them, since who has asked is no more, and returns what the host
// is told: "requestId … the ID of the request to cancel".
func (q *questions) end(reason string) (tell []Message) {
	for _, id := range slices.Sorted(maps.Keys(q.asked)) {
		q.keep(q.old, id, q.asked[id])
		tell = append(tell, Message{Method: "notifications/cancelled",
			Raw: fmt.Appendf(nil, `{"jsonrpc":"2.0","method":"notifications/cancelled","params":{"requestId":%s,"reason":%s}}`, id, quote(reason))})
	}
	for id, n := range q.back {
		q.keep(q.old, id, n)
	}
	clear(q.asked)
	clear(q.back)
	q.starts++
	q.all = q.many
	return tell
}
