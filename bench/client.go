package main

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os/exec"
	"strconv"
	"strings"
	"sync/atomic"
	"time"
)

// The driver speaks to every contestant in the same way: messages made by hand,
// one session, and over HTTP one connection a worker, kept open. It has no
// libraries whose cost would hide what is measured.

// patience is how long an answer may take: longer than a call is held.
const patience = 90 * time.Second

// maxWorkers bounds the calls at once; ids carry their worker.
const maxWorkers = 64

// target is an open session with an MCP server.
type target interface {
	// send makes one request and returns the answer. A worker has one request
	// under way at a time; workers run beside each other.
	send(worker int, id int64, body []byte) ([]byte, error)
	close()
}

const (
	initializeBody  = `{"jsonrpc":"2.0","id":1,"method":"initialize","params":{"protocolVersion":"2025-11-25","capabilities":{},"clientInfo":{"name":"bench","version":"1"}}}`
	initializedBody = `{"jsonrpc":"2.0","method":"notifications/initialized"}`
	listBody        = `{"jsonrpc":"2.0","id":2,"method":"tools/list"}`
)

// session is a target that makes calls and takes no answer but the right one.
type session struct {
	target
	tool  string
	proof bool // the upstream must have been given one
	last  atomic.Int64

	passed atomic.Int64 // requests of list
}

// call calls the tool once. The argument stays below what the policy allows.
func (s *session) call(worker int) error {
	k := s.last.Add(1)
	n := k % 1_000_000
	answer, ok, err := s.callWith(worker, k, n)
	if err == nil && !ok {
		err = fmt.Errorf("want an answer with %q, got %.400s", said(n, s.proof), answer)
	}
	return err
}

// callWith makes call k, with the argument n, and tells whether the answer is the tool's.
func (s *session) callWith(worker int, k, n int64) (answer []byte, ok bool, err error) {
	id := k*maxWorkers + int64(worker)
	body := fmt.Appendf(nil, `{"jsonrpc":"2.0","id":%d,"method":"tools/call","params":{"name":"%s","arguments":{"n":%d,"text":"the quick brown fox jumps over the lazy dog"}}}`, id, s.tool, n)
	answer, err = s.send(worker, id, body)
	return answer, bytes.Contains(answer, []byte(said(n, s.proof))), err
}

// list asks for the tools: what no policy touches, and a proxy only passes on.
func (s *session) list(worker int) error {
	id := passedIDs + s.passed.Add(1)*maxWorkers + int64(worker)
	answer, err := s.send(worker, id, fmt.Appendf(nil, `{"jsonrpc":"2.0","id":%d,"method":"tools/list"}`, id))
	if err == nil && !bytes.Contains(answer, []byte(`"name":"echo"`)) {
		err = fmt.Errorf("want the list of tools, got %.400s", answer)
	}
	return err
}

// passedIDs keeps the ids of list away from those of call.
const passedIDs = 1 << 40

// calls is how many were made.
func (s *session) calls() int64 { return s.last.Load() }

// --- HTTP

type httpTarget struct {
	url, token, session string
	conns               [maxWorkers]*httpConn
}

type httpConn struct {
	net.Conn
	r    *bufio.Reader
	used time.Time
}

// keptFor is how long a connection is kept that nothing is sent on: servers close
// idle ones, and clients therefore do so before.
const keptFor = 30 * time.Second

// openHTTP begins a session at a Streamable HTTP endpoint.
func openHTTP(url, token string) (*httpTarget, error) {
	t := &httpTarget{url: url, token: token}
	res, body, err := t.post(0, []byte(initializeBody))
	if err == nil && !bytes.Contains(body, []byte(`"serverInfo"`)) {
		err = fmt.Errorf("want a result, got %s %s", res.Status, body)
	}
	if err != nil {
		return nil, fmt.Errorf("initialize at %s: %w", url, err)
	}
	t.session = res.Header.Get("Mcp-Session-Id")
	for _, body := range []string{initializedBody, listBody} {
		res, answer, err := t.post(0, []byte(body))
		if err == nil && res.StatusCode > 202 {
			err = fmt.Errorf("%s %s", res.Status, answer)
		}
		if err != nil {
			return nil, fmt.Errorf("%s at %s: %w", body, url, err)
		}
	}
	return t, nil
}

func (t *httpTarget) send(worker int, _ int64, body []byte) ([]byte, error) {
	res, answer, err := t.post(worker, body)
	if err == nil && res.StatusCode != http.StatusOK {
		err = fmt.Errorf("%s %s", res.Status, answer)
	}
	return answer, err
}

func (t *httpTarget) post(worker int, body []byte) (*http.Response, []byte, error) {
	c, err := t.conn(worker)
	if err != nil {
		return nil, nil, err
	}
	c.SetDeadline(time.Now().Add(patience))
	if _, err := c.Write(append(t.head(len(body)), body...)); err != nil {
		return nil, nil, err
	}
	res, err := http.ReadResponse(c.r, nil)
	if err != nil {
		return nil, nil, err
	}
	defer res.Body.Close()
	if res.Close {
		t.conns[worker] = nil
	}
	answer, err := io.ReadAll(res.Body) // JSON, or a stream that ends with the answer
	return res, answer, err
}

func (t *httpTarget) conn(worker int) (*httpConn, error) {
	if c := t.conns[worker]; c != nil {
		if time.Since(c.used) < keptFor {
			c.used = time.Now()
			return c, nil
		}
		c.Close()
	}
	c, err := net.Dial("tcp", hostOf(t.url))
	if err != nil {
		return nil, err
	}
	t.conns[worker] = &httpConn{c, bufio.NewReader(c), time.Now()}
	return t.conns[worker], nil
}

func (t *httpTarget) head(length int) []byte {
	host := hostOf(t.url)
	_, path, _ := strings.Cut(t.url, host)
	head := "POST " + path + " HTTP/1.1\r\nHost: " + host + "\r\nContent-Type: application/json\r\n" +
		"Accept: application/json, text/event-stream\r\nMCP-Protocol-Version: 2025-11-25\r\n"
	if t.session != "" {
		head += "Mcp-Session-Id: " + t.session + "\r\n"
	}
	if t.token != "" {
		head += "Authorization: Bearer " + t.token + "\r\n"
	}
	return []byte(head + "Content-Length: " + strconv.Itoa(length) + "\r\n\r\n")
}

func hostOf(url string) string {
	host, _, _ := strings.Cut(strings.TrimPrefix(url, "http://"), "/")
	return host
}

func (t *httpTarget) close() {
	for _, c := range t.conns {
		if c != nil {
			c.Close()
		}
	}
}

// --- stdio

type stdioTarget struct {
	*process
	in      io.WriteCloser
	out     *bufio.Reader
	answers [maxWorkers]chan []byte
	failed  chan struct{} // closed when nothing more will be read
	err     error         // set before failed is closed
}

// openStdio starts a server and begins a session with it.
func openStdio(cmd *exec.Cmd) (*stdioTarget, error) {
	t, err := startStdio(cmd)
	if err != nil {
		return nil, err
	}
	err = t.greet()
	for i := 0; err == nil && i < 2; i++ {
		_, err = fmt.Fprintln(t.in, []string{initializedBody, listBody}[i])
	}
	if err == nil {
		_, err = t.line()
	}
	if err != nil {
		t.close()
		return nil, fmt.Errorf("beginning a session with %s: %w", cmd, err)
	}
	for i := range t.answers {
		t.answers[i] = make(chan []byte, 1)
	}
	t.failed = make(chan struct{})
	go t.read()
	return t, nil
}

func startStdio(cmd *exec.Cmd) (*stdioTarget, error) {
	in, err := cmd.StdinPipe()
	if err != nil {
		return nil, err
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	p, err := start(cmd)
	if err != nil {
		return nil, err
	}
	return &stdioTarget{process: p, in: in, out: bufio.NewReaderSize(out, 64<<10)}, nil
}

// greet sends initialize and waits for the first answer.
func (t *stdioTarget) greet() error {
	if _, err := fmt.Fprintln(t.in, initializeBody); err != nil {
		return err
	}
	answer, err := t.line()
	if err == nil && !bytes.Contains(answer, []byte(`"serverInfo"`)) {
		err = fmt.Errorf("want a result, got %s", answer)
	}
	return err
}

func (t *stdioTarget) line() ([]byte, error) {
	line, err := t.out.ReadBytes('\n')
	if err != nil {
		return nil, fmt.Errorf("reading its answer: %w", err)
	}
	return line, nil
}

// read gives answers to the workers that wait for them, until the server ends.
func (t *stdioTarget) read() {
	defer close(t.failed)
	for {
		line, err := t.line()
		if err != nil {
			t.err = err
			return
		}
		var m struct {
			ID     int64  `json:"id"`
			Method string `json:"method"`
		}
		if err := json.Unmarshal(line, &m); err != nil {
			t.err = fmt.Errorf("%w: %s", err, line)
			return
		}
		if m.Method == "" {
			t.answers[m.ID%maxWorkers] <- line
		}
	}
}

func (t *stdioTarget) send(worker int, _ int64, body []byte) ([]byte, error) {
	if _, err := t.in.Write(append(body, '\n')); err != nil { // os.File: one write is one message
		return nil, err
	}
	select {
	case answer := <-t.answers[worker]:
		return answer, nil
	case <-t.failed:
		return nil, t.err
	case <-time.After(patience):
		return nil, fmt.Errorf("no answer to %s", body)
	}
}

func (t *stdioTarget) close() {
	t.in.Close()
	t.process.end()
}
