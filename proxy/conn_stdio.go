package proxy

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"sync"

	"github.com/openleash/openleash-go/action"
)

// lines is a Conn over a pair of byte streams: "Messages are delimited by
// newlines, and MUST NOT contain embedded newlines" (MCP, stdio).
type lines struct {
	r   *bufio.Reader
	lim action.Limits

	mu sync.Mutex // held while a line is written
	w  io.Writer

	close func() error
}

// StdioHost is the Conn to the host that launched us: its end of our standard
// input and output.
func StdioHost(in io.Reader, out io.Writer, lim action.Limits) Conn {
	return newLines(in, out, lim, func() error { return nil })
}

func newLines(in io.Reader, out io.Writer, lim action.Limits, closer func() error) *lines {
	return &lines{r: bufio.NewReaderSize(in, 64<<10), w: out, lim: lim, close: closer}
}

// defaultMessageBytes is the largest message where no limit is configured.
const defaultMessageBytes = 16 << 20

func (l *lines) max() int {
	if l.lim.Bytes > 0 {
		return l.lim.Bytes
	}
	return defaultMessageBytes
}

// Recv reads one line. A line over the limit is read to its end and refused.
func (l *lines) Recv(context.Context) (Message, error) {
	for {
		line, err := l.line()
		if err != nil {
			return Message{}, err
		}
		if line = bytes.Trim(line, " \t\r\n"); len(line) > 0 {
			return ReadMessage(line, action.Limits{Bytes: l.max(), Depth: maxDepth})
		}
	}
}

// line returns the next line without its newline, in memory of its own. A last
// line without a newline counts.
func (l *lines) line() ([]byte, error) {
	var line []byte
	var tooLong *idFinder // what is still looked for in a line that is too long
	for {
		part, err := l.r.ReadSlice('\n')
		if tooLong == nil && len(line)+len(part) > l.max()+1 {
			tooLong = &idFinder{}
			tooLong.read(line)
			line = nil
		}
		if tooLong != nil {
			tooLong.read(part)
		} else {
			line = append(line, part...)
		}
		switch {
		case errors.Is(err, bufio.ErrBufferFull):
			continue
		case err != nil && (len(line) == 0 && tooLong == nil || !errors.Is(err, io.EOF)):
			return nil, err
		case tooLong != nil:
			return nil, tooLong.refused(codeInvalidRequest, fmt.Sprintf("a message of more than %d bytes; raise limits.message_bytes in the configuration if it is meant", l.max()))
		}
		return line, nil
	}
}

// Send writes one line. Newlines between the tokens of a message that came
// over HTTP become spaces: inside strings JSON has none.
func (l *lines) Send(_ context.Context, m Message) error {
	raw := m.Raw
	if bytes.ContainsAny(raw, "\r\n") {
		raw = bytes.ReplaceAll(bytes.ReplaceAll(raw, []byte("\n"), []byte(" ")), []byte("\r"), []byte(" "))
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	_, err := l.w.Write(append(raw[:len(raw):len(raw)], '\n'))
	return err
}

func (l *lines) Close() error { return l.close() }
