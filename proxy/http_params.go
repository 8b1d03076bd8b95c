package proxy

import (
	"encoding/json"
	"net/http"

	"github.com/mark3labs/mcp-go/mcp"
)

// maxTools bounds what is remembered of an upstream's tools.
const maxTools = 10_000

// learnTools notes the tools whose arguments are repeated in headers: "When a
// server's tool definition includes x-mcp-header annotations, conforming
// clients MUST mirror the designated parameter values into HTTP headers."
func (c *httpConn) learnTools(raw []byte) {
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
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, t := range listed {
		tool := &mcp.Tool{Name: t.Name, RawInputSchema: t.InputSchema}
		if len(mcp.ExtractParamHeaderBindings(tool)) == 0 {
			delete(c.tools, t.Name)
		} else if len(c.tools) < maxTools {
			c.tools[t.Name] = tool
		}
	}
}

// paramHeaders repeats arguments of a call in headers, from the bytes that are
// sent.
func (c *httpConn) paramHeaders(h http.Header, m Message) {
	if m.Method != "tools/call" {
		return
	}
	name, _ := stringAt(m.Raw, "params", "name")
	c.mu.Lock()
	tool := c.tools[name]
	c.mu.Unlock()
	at, ok := find(m.Raw, "params")
	if tool == nil || !ok {
		return
	}
	for key, value := range mcp.GenerateParamHeaders(tool, m.Raw[at.from:at.to]) {
		h.Set(key, value)
	}
}
