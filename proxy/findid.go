package proxy

import "bytes"

// An idFinder finds the id of a message that is refused, in its bytes as they
// pass by, whatever is wrong with the rest: the sender waits for an answer, and
// takes none that does not name its request. It keeps nothing but the members
// that it looks for.
type idFinder struct {
	depth   int
	quoted  bool // inside a string
	escaped bool // behind a backslash
	isKey   bool // the next string of the message itself is a key
	key     string
	token   []byte // the key or value being read, of the message itself

	id        string
	ids       int  // more than one is none
	hasMethod bool // it is a request or a notification
	hasAnswer bool // it has a result or an error
}

// maxFoundID bounds what is kept of an id, and of a key.
const maxFoundID = 1 << 10

// refused is the error for a message that ReadMessage did not take.
func refused(raw []byte, code int, reason string) *BadMessage {
	var f idFinder
	f.read(raw)
	return f.refused(code, reason)
}

func (f *idFinder) refused(code int, reason string) *BadMessage {
	bad := &BadMessage{Code: code, Reason: reason, Response: f.hasAnswer && !f.hasMethod}
	if f.ids == 1 {
		bad.ID = f.id
	}
	return bad
}

// read takes in the next bytes of the message.
func (f *idFinder) read(raw []byte) {
	for i := 0; i < len(raw); i++ {
		switch c := raw[i]; {
		case f.quoted:
			i += f.inString(raw[i:]) - 1
		case c == '"':
			f.quoted = true
			f.keep(c)
		case c == '{' || c == '[':
			f.depth++
			f.isKey, f.key, f.token = f.depth == 1 && c == '{', "", nil
		case c == '}' || c == ']':
			f.value()
			f.depth--
		case c == ',':
			f.value()
			f.isKey = true
		case c == ':' && f.depth == 1:
			f.isKey = false
		default:
			f.keep(c)
		}
	}
}

// inString reads on in a string and returns how many bytes that were.
func (f *idFinder) inString(raw []byte) int {
	if f.escaped {
		f.escaped = false
		f.keep(raw[0])
		return 1
	}
	n := bytes.IndexAny(raw, `"\`)
	if n < 0 {
		f.keep(raw...)
		return len(raw)
	}
	f.keep(raw[:n+1]...)
	if raw[n] == '\\' {
		f.escaped = true
		return n + 1
	}
	f.quoted = false
	if f.isKey && f.depth == 1 {
		f.key, _ = readString(f.token)
		f.token = nil
		f.hasMethod = f.hasMethod || f.key == "method"
		f.hasAnswer = f.hasAnswer || f.key == "result" || f.key == "error"
	}
	return n + 1
}

// keep adds to the key or value of the message itself that is being read.
func (f *idFinder) keep(c ...byte) {
	if f.depth == 1 && (f.isKey || f.key == "id") {
		f.token = append(f.token, c[:min(len(c), maxFoundID+1-len(f.token))]...)
	}
}

// value ends a member of the message.
func (f *idFinder) value() {
	if f.depth != 1 || f.key != "id" {
		return
	}
	f.ids++
	if id, err := readID(f.token); err == nil && len(f.token) <= maxFoundID {
		f.id = id
	}
	f.key, f.token = "", nil
}
