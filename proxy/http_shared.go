package proxy

import (
	"context"
	"errors"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/mark3labs/mcp-go/mcp"

	"github.com/openleash/openleash-go/action"
	"github.com/openleash/openleash-go/authz"
)

// sharedUpstream is the upstream that an agent's stateless requests share.
type sharedUpstream struct {
	mu     sync.Mutex // held while it is opened
	conn   *hostConn
	legacy time.Time // when it was found not to speak the stateless protocol
}

// postShared serves a request of 2026-07-28 and later.
func (h *HTTPSessions) postShared(w http.ResponseWriter, r *http.Request, who authz.Caller, m Message) {
	if err := checkModern(r.Header, m); err != nil {
		writeError(w, err)
		return
	}
	if m.Method == "notifications/cancelled" && m.IsNotification() {
		w.WriteHeader(http.StatusAccepted) // ends nothing: closing the request's stream does
		return
	}
	s, err := h.sharedFor(who, m)
	if err != nil {
		writeError(w, err)
		return
	}
	if err := h.p.checkParams(r.Context(), who, r.Header, m, s.askTools); err != nil {
		writeError(w, err)
		return
	}
	s.post(w, r, m, s.shared.up(m))
}

// checkModern: "Every POST request to the MCP endpoint MUST include an
// MCP-Protocol-Version header", "The body of the HTTP POST MUST be a single
// JSON-RPC request or notification."
func checkModern(h http.Header, m Message) error {
	switch {
	case m.IsResponse():
		return &httpError{http.StatusBadRequest, "", codeInvalidRequest, "responses are not sent to the server in this protocol version"}
	case m.IsRequest() && h.Get(mcp.HeaderProtocolVersion) == "":
		return mismatch(m, "MCP-Protocol-Version is missing")
	case m.IsRequest() && metaVersion(m) == "":
		return &httpError{http.StatusBadRequest, m.ID, codeInvalidParams, "params._meta: io.modelcontextprotocol/protocolVersion is missing"}
	case m.IsRequest() && hasTokenTwin(m):
		// An upstream that folds names would send progress for a token that another
		// host's request may have.
		return &httpError{http.StatusBadRequest, m.ID, codeInvalidParams, "params._meta: a key differs from progressToken only by case; write progressToken"}
	case m.IsRequest() && h.Get(mcp.HeaderMethod) == "":
		return mismatch(m, "Mcp-Method is missing")
	case m.IsRequest() && nameMember(m.Method) != "" && len(h.Values(mcp.HeaderName)) == 0 && !strings.HasPrefix(m.Method, "tasks/"):
		return mismatch(m, "Mcp-Name is missing")
	}
	return nil
}

func hasTokenTwin(m Message) bool {
	at, _ := find(m.Raw, "params", "_meta")
	fields, _ := action.Scan(m.Raw[at.from:at.to], anyMessage(m.Raw)) // it is there: metaVersion has found it
	return slices.ContainsFunc(fields, func(f action.Field) bool {
		return f.Key != "progressToken" && strings.EqualFold(f.Key, "progressToken")
	})
}

// sharedFor returns the upstream of an agent's stateless requests, opening it
// when there is none.
func (h *HTTPSessions) sharedFor(who authz.Caller, m Message) (*hostConn, error) {
	h.mu.Lock()
	u := h.shared[who.Agent.ID]
	if u == nil {
		u = &sharedUpstream{}
		h.shared[who.Agent.ID] = u
	}
	h.mu.Unlock()
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.conn != nil && u.conn.ctx.Err() == nil {
		return u.conn, nil
	}
	if time.Since(u.legacy) < legacyFor {
		return nil, onlyLegacy(h.name, m)
	}
	if err := h.reserve(who.Agent.ID, m.ID); err != nil {
		return nil, err
	}
	s, err := h.openShared(who, m)
	if err != nil {
		h.release(who.Agent.ID)
		if e, ok := err.(*httpError); ok && e.status == http.StatusBadRequest {
			u.legacy = time.Now()
		}
		return nil, err
	}
	u.conn = s
	return s, nil
}

// openShared opens an upstream and asks for its era: one that needs a handshake
// could take a stateless call for something else.
func (h *HTTPSessions) openShared(who authz.Caller, m Message) (*hostConn, error) {
	up, err := h.dial(h.ctx, who)
	if err != nil {
		return nil, h.unstarted(m, err)
	}
	modern, err := speaksModern(h.ctx, up)
	if err != nil {
		return nil, h.unstarted(m, closed(up, err))
	}
	if !modern {
		up.Close()
		return nil, onlyLegacy(h.name, m)
	}
	s := newHostConn(h, who, "", newIDMap())
	h.run(s, who, up, func() { h.release(who.Agent.ID) })
	return s, nil
}

// onlyLegacy must not be a JSON-RPC error that a modern server would give: "if
// the body is empty or is not a recognized modern JSON-RPC error, fall back to
// initialize".
func onlyLegacy(server string, m Message) error {
	return &httpError{http.StatusBadRequest, m.ID, codeInvalidRequest, "the server " + server + " speaks protocol versions before 2026-07-28 only: begin with initialize"}
}

const probeID = `"openleash-probe"`

const probe = `{"jsonrpc":"2.0","id":` + probeID + `,"method":"server/discover","params":{"_meta":{` +
	`"io.modelcontextprotocol/protocolVersion":"2026-07-28",` +
	`"io.modelcontextprotocol/clientInfo":{"name":"openleash","version":"1"},` +
	`"io.modelcontextprotocol/clientCapabilities":{}}}}`

// speaksModern asks an upstream for its era. "A DiscoverResult or a recognized
// modern error such as UnsupportedProtocolVersionError identifies a modern
// server"; "any other error, or no response within a reasonable timeout,
// identifies a legacy server" (2026-07-28, stdio).
func speaksModern(ctx context.Context, up Conn) (bool, error) {
	ctx, cancel := context.WithTimeout(ctx, probeWithin)
	defer cancel()
	if err := up.Send(ctx, Message{Raw: []byte(probe), ID: probeID, Method: "server/discover"}); err != nil {
		return false, err
	}
	answer := make(chan error, 1)
	modern := false
	go func() {
		var err error
		modern, err = awaitProbe(ctx, up)
		answer <- err
	}()
	select {
	case err := <-answer:
		return modern, err
	case <-ctx.Done():
		up.Close() // ends the Recv, whatever it waits for
		<-answer
		return false, nil
	}
}

// awaitProbe reads until the probe is answered.
func awaitProbe(ctx context.Context, up Conn) (modern bool, err error) {
	for {
		m, err := up.Recv(ctx)
		var bad *BadMessage
		if errors.As(err, &bad) {
			continue
		}
		if err != nil {
			return false, err
		}
		if m.IsResponse() && m.ID == probeID {
			_, ok := find(m.Raw, "result")
			code, _ := strconv.Atoi(rawAt(m.Raw, "error", "code"))
			return ok || code <= codeHeaderMismatch && code >= codeUnsupported, nil
		}
	}
}

// idMap replaces the ids of many hosts by ours.
type idMap struct {
	mu   sync.Mutex
	last int64
	from map[string]original // by our id
}

// original is what a host wrote, as JSON text.
type original struct{ id, token string }

func newIDMap() *idMap { return &idMap{from: map[string]original{}} }

// up gives a request our id, which is also its progress token.
func (t *idMap) up(m Message) Message {
	if !m.IsRequest() {
		return m
	}
	id, ok := find(m.Raw, "id")
	if !ok {
		return m
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.last++
	ours := strconv.FormatInt(t.last, 10)
	was := original{id: string(m.Raw[id.from:id.to])}
	edits := []edit{{id, ours}}
	if token, ok := find(m.Raw, "params", "_meta", "progressToken"); ok {
		was.token = string(m.Raw[token.from:token.to])
		edits = append(edits, edit{token, ours})
	}
	t.from[ours] = was
	return Message{Raw: applyEdits(m.Raw, edits...), ID: ours, Method: m.Method, traceID: m.traceID}
}

// original is the id, in its canonical form, that ours stands for.
func (t *idMap) original(ours string) string {
	t.mu.Lock()
	defer t.mu.Unlock()
	id, _ := readID([]byte(t.from[ours].id))
	return id
}

func (t *idMap) forget(ours string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	delete(t.from, ours)
}

// places are where an upstream's message can name a request.
var places = []struct {
	path  []string
	token bool
}{
	{[]string{"id"}, false},
	{[]string{"params", "progressToken"}, true},
	{[]string{"params", "requestId"}, false},
	{[]string{"params", "_meta", mcp.MetaKeySubscriptionID}, false},
	{[]string{"result", "_meta", mcp.MetaKeySubscriptionID}, false},
}

// down restores what a host wrote, and tells our id of the request that the
// message belongs to, empty when it names none.
func (t *idMap) down(m Message) (raw []byte, ours string) {
	var edits []edit
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, place := range places {
		if !t.named(m, place.path) {
			continue
		}
		at, ok := find(m.Raw, place.path...)
		if !ok {
			continue
		}
		id := idAt(m.Raw, place.path...)
		was, ok := t.from[id]
		if !ok {
			continue
		}
		ours = id
		with := was.id
		if place.token {
			with = was.token
		}
		if with != "" {
			edits = append(edits, edit{at, with})
		}
	}
	if len(edits) == 0 {
		return m.Raw, ""
	}
	return applyEdits(m.Raw, edits...), ours
}

// named tells whether a kind of message has such a member.
func (t *idMap) named(m Message, path []string) bool {
	switch {
	case m.IsResponse():
		return path[0] != "params"
	case m.IsRequest():
		return false
	case path[0] != "params":
		return false
	case slices.Equal(path, []string{"params", "progressToken"}):
		return m.Method == "notifications/progress"
	case slices.Equal(path, []string{"params", "requestId"}):
		return m.Method == "notifications/cancelled"
	}
	return true
}

// statusOf is the HTTP status of a response in the stateless era: "If the
// server does not implement the requested RPC method, it MUST respond with 404
// Not Found", and 400 for the protocol's own errors, a request without the
// required _meta among them.
func statusOf(request Message, raw []byte) int {
	code, err := strconv.Atoi(rawAt(raw, "error", "code"))
	switch {
	case err != nil:
		return http.StatusOK
	case code == codeMethodNotFound:
		return http.StatusNotFound
	case code <= codeHeaderMismatch && code >= codeUnsupported:
		return http.StatusBadRequest
	case code == codeInvalidParams && rawAt(request.Raw, "params", "_meta", mcp.MetaKeyClientCapabilities) == "":
		return http.StatusBadRequest
	}
	return http.StatusOK
}
