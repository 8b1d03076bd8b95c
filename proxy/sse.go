package proxy

import (
	"bufio"
	"bytes"
	"errors"
	"io"
	"strconv"
	"time"
)

// An sseEvent is one event of an SSE stream, or one comment line, with the
// bytes that it was read from.
type sseEvent struct {
	raw   []byte        // as received, closing blank line included
	name  string        // of the event field; empty: a message
	data  []byte        // the data lines joined; nil when there is none
	id    string        // when hasID
	hasID bool          //
	retry time.Duration // when above zero
}

// errEventTooLong ends a stream whose events do not fit in memory.
var errEventTooLong = errors.New("an event of the stream is longer than the limit for one message")

// sseReader reads events, keeping their bytes. Lines end in LF, CRLF or CR, as
// the SSE standard says, so that no other reader sees other events.
type sseReader struct {
	in     *bufio.Reader
	max    int
	began  bool // the first line has been read
	skipLF bool // the last line ended in CR: a LF that follows belongs to it
}

func newSSEReader(r io.Reader, max int) *sseReader {
	return &sseReader{in: bufio.NewReaderSize(r, 16<<10), max: max}
}

// next returns the next event. A comment outside an event comes alone, so that
// a keep-alive is passed on when it arrives. What is left of an event that the
// end of the stream has cut off is dropped, as the standard says.
func (r *sseReader) next() (sseEvent, error) {
	var e sseEvent
	for {
		raw, text, err := r.line(len(e.raw))
		if err != nil {
			return sseEvent{}, err
		}
		first := len(e.raw) == 0
		e.raw = append(e.raw, raw...)
		if len(text) == 0 || first && text[0] == ':' {
			return e, nil
		}
		e.field(text)
	}
}

// field takes in one line of an event.
func (e *sseEvent) field(line []byte) {
	name, value, _ := bytes.Cut(line, []byte(":"))
	value = bytes.TrimPrefix(value, []byte(" "))
	switch string(name) {
	case "event":
		e.name = string(value)
	case "data":
		if e.data != nil {
			e.data = append(e.data, '\n')
		} else {
			e.data = []byte{}
		}
		e.data = append(e.data, value...)
	case "id":
		if bytes.IndexByte(value, 0) < 0 {
			e.id, e.hasID = string(value), true
		}
	case "retry":
		if ms, err := strconv.ParseUint(string(value), 10, 31); err == nil {
			e.retry = time.Duration(ms) * time.Millisecond
		}
	}
}

// line reads one line: all its bytes, and its text without the line's end.
func (r *sseReader) line(have int) (raw, text []byte, err error) {
	from := 0
	for {
		if _, err := r.in.Peek(1); err != nil {
			return nil, nil, err
		}
		buf, _ := r.in.Peek(r.in.Buffered())
		if r.skipLF {
			r.skipLF = false
			if buf[0] == '\n' {
				raw, from = append(raw, '\n'), 1
				r.in.Discard(1)
				continue
			}
		}
		end := lineEnd(buf)
		if end < 0 {
			end = len(buf) - 1
			raw = append(raw, buf...)
		} else {
			raw = append(raw, buf[:end+1]...)
			text = raw[from : len(raw)-1]
			r.skipLF = buf[end] == '\r'
		}
		r.in.Discard(end + 1)
		if have+len(raw) > r.max {
			return nil, nil, errEventTooLong
		}
		if text != nil {
			return raw, r.trimBOM(text), nil
		}
	}
}

func lineEnd(b []byte) int {
	lf := bytes.IndexByte(b, '\n')
	if lf >= 0 {
		b = b[:lf]
	}
	if cr := bytes.IndexByte(b, '\r'); cr >= 0 {
		return cr
	}
	return lf
}

// trimBOM drops the byte-order mark that a stream may begin with.
func (r *sseReader) trimBOM(text []byte) []byte {
	if !r.began {
		r.began = true
		text = bytes.TrimPrefix(text, []byte("\xef\xbb\xbf"))
	}
	return text
}

// withData returns the event's bytes with other data: the lines that are not
// data stay.
func (e sseEvent) withData(data []byte) []byte {
	var out []byte
	lines := newSSEReader(bytes.NewReader(e.raw), len(e.raw)+1)
	for {
		_, text, err := lines.line(0)
		if err != nil || len(text) == 0 {
			break
		}
		if name, _, _ := bytes.Cut(text, []byte(":")); string(name) != "data" {
			out = append(append(out, text...), '\n')
		}
	}
	return appendData(out, data)
}

// appendData appends data as an event's data lines and the line that ends the
// event. JSON has line ends only between its tokens, so a reader gets the
// same value.
func appendData(out, data []byte) []byte {
	for {
		end := lineEnd(data)
		out = append(out, "data: "...)
		if end < 0 {
			return append(append(out, data...), '\n', '\n')
		}
		out = append(append(out, data[:end]...), '\n')
		if data[end] == '\r' && end+1 < len(data) && data[end+1] == '\n' {
			end++
		}
		data = data[end+1:]
	}
}
