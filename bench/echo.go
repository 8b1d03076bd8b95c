package main

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strconv"
)

// The echo server is the upstream of every contestant: just enough MCP, as
// cheap as it can be, so that what stands in front of it is what is measured.
// Its one tool answers with its argument n, and says whether a proof came along:
// the driver takes no other answer.

type echoRequest struct {
	ID     json.RawMessage `json:"id"`
	Method string          `json:"method"`
	Params struct {
		Arguments struct {
			N int64 `json:"n"`
		} `json:"arguments"`
	} `json:"params"`
}

const (
	echoInitialized = `{"protocolVersion":"2025-11-25","capabilities":{"tools":{}},"serverInfo":{"name":"echo","version":"1"}}`
	echoTools       = `{"tools":[{"name":"echo","description":"Says n.","inputSchema":{"type":"object","properties":{"n":{"type":"integer"},"text":{"type":"string"}},"required":["n"]}}]}`
)

// echo answers one message; nil for what wants no answer.
func echo(message []byte) []byte {
	var r echoRequest
	if err := json.Unmarshal(message, &r); err != nil {
		return []byte(`{"jsonrpc":"2.0","id":null,"error":{"code":-32700,"message":"no JSON"}}`)
	}
	if r.ID == nil {
		return nil
	}
	result := []byte("{}")
	switch r.Method {
	case "initialize":
		result = []byte(echoInitialized)
	case "tools/list":
		result = []byte(echoTools)
	case "tools/call":
		result = fmt.Appendf(nil, `{"content":[{"type":"text","text":"%s"}]}`, said(r.Params.Arguments.N, proven(message)))
	}
	return fmt.Appendf(nil, `{"jsonrpc":"2.0","id":%s,"result":%s}`, r.ID, result)
}

// said is the text of an answer.
func said(n int64, proof bool) string { return fmt.Sprintf("n=%d;proof=%t;", n, proof) }

func proven(message []byte) bool { return bytes.Contains(message, []byte(`"ai.openleash/proof"`)) }

// echoStdio serves one message a line. Answers leave together when nothing more
// has come.
func echoStdio(in io.Reader, out io.Writer) error {
	r, w := bufio.NewReaderSize(in, 64<<10), bufio.NewWriterSize(out, 64<<10)
	for {
		line, err := r.ReadSlice('\n')
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return err
		}
		if answer := echo(line); answer != nil {
			w.Write(append(answer, '\n'))
		}
		if r.Buffered() == 0 {
			if err := w.Flush(); err != nil {
				return err
			}
		}
	}
}

// echoHTTP serves Streamable HTTP, a goroutine a connection, without a router.
// hear, when there is one, is told of each body first.
func echoHTTP(l net.Listener, hear func(body []byte)) error {
	for {
		c, err := l.Accept()
		if err != nil {
			return err
		}
		go func() {
			defer c.Close()
			if err := echoConn(c, hear); err != nil && err != io.EOF {
				fmt.Fprintln(os.Stderr, "echo:", err)
			}
		}()
	}
}

func echoConn(c net.Conn, hear func(body []byte)) error {
	r := bufio.NewReader(c)
	var body bytes.Buffer
	for {
		req, err := http.ReadRequest(r)
		if err != nil {
			return err
		}
		body.Reset()
		if _, err := body.ReadFrom(req.Body); err != nil {
			return err
		}
		if hear != nil {
			hear(body.Bytes())
		}
		if _, err := c.Write(echoResponse(req.Method, body.Bytes())); err != nil {
			return err
		}
	}
}

func echoResponse(method string, body []byte) []byte {
	switch method {
	case http.MethodPost:
		answer := echo(body)
		if answer == nil {
			return []byte("HTTP/1.1 202 Accepted\r\nContent-Length: 0\r\n\r\n")
		}
		head := "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n"
		if bytes.Contains(body, []byte(`"initialize"`)) {
			head += "Mcp-Session-Id: echo\r\n"
		}
		return append([]byte(head+"Content-Length: "+strconv.Itoa(len(answer))+"\r\n\r\n"), answer...)
	case http.MethodDelete:
		return []byte("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
	}
	return []byte("HTTP/1.1 405 Method Not Allowed\r\nAllow: POST, DELETE\r\nContent-Length: 0\r\n\r\n")
}
