package proxy

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"mime"
	"net/http"
	"strings"
	"time"

	"github.com/mark3labs/mcp-go/mcp"

	"github.com/openleash/openleash-go/action"
	"github.com/openleash/openleash-go/authz"
)

const (
	// maxUpstream bounds one message of an upstream. Results are larger than
	// calls; what matters is that there is a bound.
	maxUpstream = 64 << 20
	// stalledWrite is how long a host may leave what it is sent unread.
	stalledWrite = 5 * time.Minute
	// slowBody is how long a host may take to send one message.
	slowBody = time.Minute

	typeJSON = "application/json"
	typeSSE  = "text/event-stream"
)

type callerKey struct{}

// WithCaller returns a context for a request whose caller a door has
// established. HTTPPassthrough and HTTPHost answer 401 without one.
func WithCaller(ctx context.Context, who authz.Caller) context.Context {
	return context.WithValue(ctx, callerKey{}, who)
}

func callerOf(ctx context.Context) (authz.Caller, bool) {
	who, ok := ctx.Value(callerKey{}).(authz.Caller)
	return who, ok
}

// httpError is an answer to a host's HTTP request that no upstream gave.
type httpError struct {
	status int
	id     string // of the request, when it could be read
	code   int
	reason string
}

func (e *httpError) Error() string { return e.reason }

// write answers with a JSON-RPC error, so that SDKs show the reason.
func (e *httpError) write(w http.ResponseWriter) {
	writeJSON(w, e.status, errorReply(e.id, e.code, e.reason))
}

func writeJSON(w http.ResponseWriter, status int, body []byte) {
	w.Header().Set("Content-Type", typeJSON)
	w.Header().Set("X-Content-Type-Options", "nosniff")
	bePatient(w)
	w.WriteHeader(status)
	w.Write(body)
}

// bePatient gives a host time to read what is written next.
func bePatient(w http.ResponseWriter) *http.ResponseController {
	rc := http.NewResponseController(w)
	rc.SetWriteDeadline(time.Now().Add(stalledWrite)) // a recorder in a test has none
	return rc
}

// writeError answers a request that cannot go further.
func writeError(w http.ResponseWriter, err error) {
	var bad *BadMessage
	var ours *httpError
	switch {
	case errors.As(err, &bad):
		writeJSON(w, http.StatusBadRequest, bad.Reply())
	case errors.As(err, &ours):
		ours.write(w)
	default:
		writeJSON(w, http.StatusInternalServerError, errorReply("", codeInternal, err.Error()))
	}
}

func unauthorized(w http.ResponseWriter) {
	w.Header().Set("WWW-Authenticate", `Bearer realm="openleash"`)
	(&httpError{http.StatusUnauthorized, "", codeInvalidRequest, "who calls is not known: send the agent's token as Authorization: Bearer (openleash agents token)"}).write(w)
}

func methodNotAllowed(w http.ResponseWriter, allow string) {
	w.Header().Set("Allow", allow)
	(&httpError{http.StatusMethodNotAllowed, "", codeInvalidRequest, "this endpoint takes " + allow}).write(w)
}

// readPost reads the one message of a POST. The error is for writeError.
func readPost(w http.ResponseWriter, r *http.Request, lim action.Limits) (Message, error) {
	if err := checkContentType(r.Header); err != nil {
		return Message{}, err
	}
	limit := lim.Bytes
	if limit <= 0 {
		limit = defaultMessageBytes
	}
	raw, err := readBody(w, r, limit)
	if err != nil {
		return Message{}, err
	}
	m, err := ReadMessage(raw, anyMessage(raw))
	if err != nil {
		return Message{}, err
	}
	m.traceID = headerTrace(r.Header)
	return m, checkMirrors(r.Header, m)
}

// checkContentType wants JSON in UTF-8: a server that took the bytes for
// another encoding would run another message than the one decided on.
func checkContentType(h http.Header) error {
	kind, params, err := mime.ParseMediaType(h.Get("Content-Type"))
	charset := strings.ToLower(params["charset"])
	if err != nil || kind != typeJSON || charset != "" && charset != "utf-8" || len(h.Values("Content-Type")) > 1 {
		return &httpError{http.StatusUnsupportedMediaType, "", codeInvalidRequest,
			fmt.Sprintf("Content-Type: want application/json, got %q", h.Get("Content-Type"))}
	}
	for _, coding := range h.Values("Content-Encoding") {
		if coding != "" && coding != "identity" {
			return &httpError{http.StatusUnsupportedMediaType, "", codeInvalidRequest,
				fmt.Sprintf("Content-Encoding: want none, got %q", coding)}
		}
	}
	return nil
}

func readBody(w http.ResponseWriter, r *http.Request, limit int) ([]byte, error) {
	rc := http.NewResponseController(w)
	rc.SetReadDeadline(time.Now().Add(slowBody)) // a recorder in a test has none
	raw, err := readWhole(http.MaxBytesReader(w, r.Body, int64(limit)), r.ContentLength)
	if err == nil {
		rc.SetReadDeadline(time.Time{})
	} else {
		w.Header().Set("Connection", "close") // or the server would wait for the rest before it answers
	}
	var tooLong *http.MaxBytesError
	switch {
	case errors.As(err, &tooLong):
		return nil, &httpError{http.StatusRequestEntityTooLarge, refused(raw, 0, "").ID, codeInvalidRequest,
			fmt.Sprintf("the message is longer than %d bytes; raise limits.message_bytes in the configuration if it is meant", limit)}
	case err != nil:
		return nil, &httpError{http.StatusBadRequest, "", codeInvalidRequest, "the body could not be read: " + err.Error()}
	}
	return raw, nil
}

// checkMirrors refuses headers that say something else than the body. "Servers
// that process the request body MUST reject requests where the values
// specified in the headers do not match the corresponding values in the
// request body" (2026-07-28, Server Validation). An upstream that routes by
// header would otherwise run another tool than the one decided on, so it holds
// in every era for the headers that are there; those that are missing are the
// upstream's to ask for.
func checkMirrors(h http.Header, m Message) error {
	for _, name := range []string{mcp.HeaderProtocolVersion, mcp.HeaderMethod, mcp.HeaderName, mcp.HeaderSessionID} {
		if len(h.Values(name)) > 1 {
			return mismatch(m, "%s is there more than once", name)
		}
	}
	if got, ok := header(h, mcp.HeaderMethod); ok && got != m.Method {
		return mismatch(m, "Mcp-Method header %q does not match the body's method %q", got, m.Method)
	}
	if got := h.Get(mcp.HeaderProtocolVersion); got != "" {
		if want := metaVersion(m); want != "" && got != want {
			return mismatch(m, "MCP-Protocol-Version header %q does not match %q in the body's _meta", got, want)
		}
	}
	return checkName(h, m)
}

// checkName compares Mcp-Name. "Servers MUST decode an encoded Mcp-Name […]
// value before comparing it to the corresponding request body value."
func checkName(h http.Header, m Message) error {
	got, ok := header(h, mcp.HeaderName)
	member := nameMember(m.Method)
	if !ok || member == "" {
		return nil
	}
	decoded, ok := mcp.DecodeHeaderValue(got)
	if !ok {
		return mismatch(m, "Mcp-Name header %q is not valid Base64", got)
	}
	if want, ok := stringAt(m.Raw, "params", member); !ok || decoded != want {
		return mismatch(m, "Mcp-Name header %q does not match params.%s %q in the body", decoded, member, want)
	}
	return nil
}

func header(h http.Header, name string) (string, bool) {
	values := h.Values(name)
	if len(values) == 0 {
		return "", false
	}
	return values[0], true
}

func mismatch(m Message, format string, args ...any) error {
	id := ""
	if m.IsRequest() {
		id = m.ID
	}
	return &httpError{http.StatusBadRequest, id, codeHeaderMismatch, "Header mismatch: " + fmt.Sprintf(format, args...)}
}

// metaVersion is the protocol version that a message of 2026-07-28 and later
// carries itself.
func metaVersion(m Message) string {
	if !bytes.Contains(m.Raw, []byte(`protocolVersion"`)) && !bytes.Contains(m.Raw, []byte(`\u`)) {
		return "" // most messages of the eras before, at a glance
	}
	v, _ := stringAt(m.Raw, "params", "_meta", mcp.MetaKeyProtocolVersion)
	return v
}

// isModern reports whether a version is of the stateless era.
func isModern(version string) bool { return mcp.IsModernProtocol(version) }

// accepts reports whether an Accept header takes a media type. Without the
// header a host gets plain JSON.
func accepts(h http.Header, want string) bool {
	values := h.Values("Accept")
	if len(values) == 0 {
		return want == typeJSON
	}
	family, _, _ := strings.Cut(want, "/")
	for part := range strings.SplitSeq(strings.Join(values, ","), ",") {
		kind, params, err := mime.ParseMediaType(part)
		if err == nil && params["q"] != "0" && (kind == want || kind == "*/*" || kind == family+"/*") {
			return true
		}
	}
	return false
}
