package proxy

import (
	"bytes"
	"encoding/json"
	"net/http"
	"strings"
	"sync"

	"github.com/mark3labs/mcp-go/mcp"
)

// maxTools bounds what is remembered of an upstream's tools.
const maxTools = 10_000

// mirroredTools are the tools, as last listed, whose arguments are repeated in
// headers: "When a server's tool definition includes x-mcp-header annotations,
// conforming clients MUST mirror the designated parameter values into HTTP
// headers" (2026-07-28, Custom Headers from Tool Parameters).
type mirroredTools struct {
	mu    sync.RWMutex
	tools map[string]*mcp.Tool
}

// learn takes in a response to tools/list.
func (t *mirroredTools) learn(raw []byte) {
	if !t.concerns(raw) {
		return // nearly all lists: they are not parsed for this
	}
	at, ok := find(raw, "result", "tools")
	if !ok {
		return
	}
	var listed []struct {
		Name        string
		InputSchema json.RawMessage
	}
	if json.Unmarshal(raw[at.from:at.to], &listed) != nil {
		return
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, l := range listed {
		tool := &mcp.Tool{Name: l.Name, RawInputSchema: l.InputSchema}
		if len(mcp.ExtractParamHeaderBindings(tool)) == 0 {
			delete(t.tools, l.Name)
		} else if len(t.tools) < maxTools {
			if t.tools == nil {
				t.tools = map[string]*mcp.Tool{}
			}
			t.tools[l.Name] = tool
		}
	}
}

// concerns is a quick look for lists that add or change something: those with the
// annotation, with escapes that could hide it, or when tools are known already.
func (t *mirroredTools) concerns(raw []byte) bool {
	t.mu.RLock()
	defer t.mu.RUnlock()
	return len(t.tools) > 0 || bytes.Contains(raw, []byte("x-mcp-header")) || bytes.Contains(raw, []byte(`\u`))
}

// of finds the tool that a call is about, and the call's params. tool is nil
// for all that has nothing to repeat.
func (t *mirroredTools) of(m Message) (tool *mcp.Tool, params []byte) {
	t.mu.RLock()
	defer t.mu.RUnlock()
	if m.Method != "tools/call" || len(t.tools) == 0 {
		return nil, nil
	}
	at, ok := find(m.Raw, "params")
	if !ok {
		return nil, nil
	}
	params = m.Raw[at.from:at.to]
	name, _ := stringAt(params, "name")
	return t.tools[name], params
}

// set repeats arguments of a call in headers, from the bytes that are sent.
func (t *mirroredTools) set(h http.Header, m Message) {
	tool, params := t.of(m)
	if tool == nil {
		return
	}
	for key, value := range mcp.GenerateParamHeaders(tool, params) {
		h.Set(key, value)
	}
}

// check compares the headers of a call with its arguments: "If a header value
// does not match the corresponding value in the request body, servers MUST reject
// the request with a 400 Bad Request HTTP status code" (2026-07-28).
func (t *mirroredTools) check(h http.Header, m Message) error {
	tool, params := t.of(m)
	if tool == nil || !isModern(metaVersion(m)) {
		return nil
	}
	lookup := func(name string) (string, bool) {
		values := h.Values(name)
		return strings.Join(values, ","), len(values) > 0
	}
	if err := mcp.ValidateParamHeadersLookup(lookup, tool, params); err != nil {
		return mismatch(m, "%v", err)
	}
	return nil
}
