package proxy

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"unicode"

	"github.com/openleash/openleash-go/action"
	"github.com/openleash/openleash-go/internal/jsontext"
)

// A Message is one JSON-RPC message with its envelope read; Raw is what was
// received and is never changed.
type Message struct {
	Raw    []byte
	ID     string // the id's canonical JSON text (1, "a"), empty for a notification
	Method string // empty for a response
	// unsent says of a response that we made it: not a byte of the request has left.
	unsent bool
	// traceID is of the trace that the HTTP header of a request has named; empty: none.
	traceID string
}

// IsRequest, IsNotification and IsResponse tell the three kinds apart.
func (m Message) IsRequest() bool      { return m.ID != "" && m.Method != "" }
func (m Message) IsNotification() bool { return m.ID == "" && m.Method != "" }
func (m Message) IsResponse() bool     { return m.Method == "" }

// A Conn is one side of a session: the host, or the upstream. Recv is called
// by one goroutine at a time, Send by any number.
type Conn interface {
	// Recv returns the next message. A *BadMessage error concerns that message
	// alone; io.EOF says that the side has closed in good order; any other error
	// ends the session.
	Recv(ctx context.Context) (Message, error)
	// Send hands over one whole message, in the order of calls.
	Send(ctx context.Context, m Message) error
	// Close ends the side and releases what it holds: a child process with all
	// its descendants, connections, streams. It can be called more than once.
	Close() error
}

// BadMessage is a message that is refused before anything looks into it.
type BadMessage struct {
	ID       string // when it could be read
	Code     int    // -32700 or -32600
	Reason   string
	Response bool // it has a result or an error, and no method
}

func (e *BadMessage) Error() string { return e.Reason }

// Reply is the JSON-RPC error that answers it.
func (e *BadMessage) Reply() []byte { return errorReply(e.ID, e.Code, e.Reason) }

// JSON-RPC 2.0 error codes.
const (
	codeParse          = -32700
	codeInvalidRequest = -32600
	codeInvalidParams  = -32602
	codeInternal       = -32603
)

// errorReply is a JSON-RPC error response; id is JSON text, "" for unknown.
func errorReply(id string, code int, reason string) []byte {
	if id == "" {
		id = "null"
	}
	return fmt.Appendf(nil, `{"jsonrpc":"2.0","id":%s,"error":{"code":%d,"message":%s}}`, id, code, quote(reason))
}

// quote writes a string as JSON.
func quote(s string) []byte {
	return jsontext.AppendString(make([]byte, 0, len(s)+2), strings.ToValidUTF8(s, "\ufffd"))
}

// envelope are the members that a JSON-RPC message may have and that decide
// what it is. Another member passes, but not one that differs from these only
// by case: another parser could take it for the real one.
var envelope = []string{"jsonrpc", "id", "method", "params", "result", "error"}

// ReadMessage reads the envelope of one message, so strictly that no other
// parser can see another method or id in it; what is inside params, result and
// error is not judged here. The error is a *BadMessage.
func ReadMessage(raw []byte, lim action.Limits) (Message, error) {
	fields, err := action.Scan(raw, lim)
	if err != nil {
		return Message{}, refused(raw, codeParse, "not one JSON object: "+err.Error())
	}
	m, err := readEnvelope(raw, fields)
	if err != nil {
		return Message{}, refused(raw, codeInvalidRequest, err.Error())
	}
	return m, nil
}

func readEnvelope(raw []byte, fields []action.Field) (Message, error) {
	m := Message{Raw: raw}
	version, answers := "", false
	for _, f := range fields {
		var err error
		switch f.Key {
		case "id":
			m.ID, err = readID(f.Raw)
		case "method":
			m.Method, err = readMethod(f.Raw)
		case "jsonrpc":
			version, err = readString(f.Raw)
		case "result", "error":
			answers = true
		default:
			err = lookalike(f.Key)
		}
		if err != nil {
			return m, fmt.Errorf("member %q: %w", f.Key, err)
		}
	}
	switch {
	case version != "2.0":
		return m, fmt.Errorf(`member "jsonrpc": want "2.0", got %q`, version)
	case m.Method != "" && answers:
		return m, errors.New("it has a method and a result or error, so that one reader sees a request and another an answer; send one of them")
	case m.Method == "" && !answers:
		return m, errors.New("it has neither a method nor a result or error")
	}
	return m, nil
}

// readMethod reads a method's name. Spaces and what cannot be seen are in none;
// a reader that drops them, or stops at a NUL, would see another method.
func readMethod(raw []byte) (string, error) {
	method, err := readString(raw)
	if err != nil {
		return "", err
	}
	if method == "" {
		return "", errors.New("it is empty")
	}
	if i := strings.IndexFunc(method, func(r rune) bool { return unicode.IsSpace(r) || !unicode.IsGraphic(r) }); i >= 0 {
		return "", fmt.Errorf("want a name without spaces and invisible characters, got %q", method)
	}
	return method, nil
}

func lookalike(key string) error {
	for _, known := range envelope {
		if key != known && strings.EqualFold(key, known) {
			return fmt.Errorf("it differs from %q only by case, so that two readers could see two messages; write %q", known, known)
		}
	}
	return nil
}

func readString(raw []byte) (string, error) {
	v, err := action.Parse(raw, action.Limits{})
	if err != nil {
		return "", err
	}
	if v.Kind() != action.String {
		return "", fmt.Errorf("want a string, got %s", raw[:min(len(raw), 40)])
	}
	return v.Text(), nil
}

// readID returns the canonical text of an id: two ways to write one id are one id.
func readID(raw []byte) (string, error) {
	if plainID(raw) {
		return string(raw), nil
	}
	v, err := action.Parse(raw, action.Limits{})
	if err != nil {
		return "", err
	}
	if k := v.Kind(); k != action.String && k != action.Number && k != action.Null {
		return "", fmt.Errorf("want a string or a number, got %s", raw[:min(len(raw), 40)])
	}
	return string(v.Canonical()), nil
}

// plainID recognises the ids that are canonical as they stand.
func plainID(raw []byte) bool {
	return len(raw) > 0 && len(raw) < 16 && raw[0] != '0' && !slices.ContainsFunc(raw, func(b byte) bool { return b < '0' || b > '9' })
}
