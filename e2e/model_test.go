//go:build e2e

package e2e

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
)

// A model stands in for the language model of an agent. It speaks as much of
// the OpenAI completions API as openclaw asks for: to a conversation without a
// tool's answer it replies with one tool call, and then with a sentence that
// repeats the tool's answer.
type model struct {
	URL     string
	tool    string
	args    string
	insists int // how often it calls again when it hears that the call waits, or was given up

	mu      sync.Mutex
	offered []string // tools of the first request
	heard   string   // the tool's last answer, as the model got it
	calls   int
}

type completionRequest struct {
	Stream   bool
	Messages []struct {
		Role    string
		Content json.RawMessage
	}
	Tools []struct{ Function struct{ Name string } }
}

func newModel(t *testing.T, tool, args string) *model {
	t.Helper()
	m := &model{tool: tool, args: args}
	mux := http.NewServeMux()
	mux.HandleFunc("POST /v1/chat/completions", m.complete)
	server := httptest.NewServer(mux)
	t.Cleanup(server.Close)
	m.URL = server.URL + "/v1"
	return m
}

func (m *model) complete(w http.ResponseWriter, r *http.Request) {
	var req completionRequest
	if err := json.NewDecoder(r.Body).Decode(&req); err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	delta, reason := m.reply(req)
	if req.Stream {
		writeStream(w, delta, reason)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	json.NewEncoder(w).Encode(completion("chat.completion", "message", delta, reason))
}

// reply decides what the model says next, and why it stops.
func (m *model) reply(req completionRequest) (delta map[string]any, reason string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.offered == nil {
		for _, tool := range req.Tools {
			m.offered = append(m.offered, tool.Function.Name)
		}
	}
	answers := 0
	for _, message := range req.Messages {
		if message.Role == "tool" {
			m.heard = string(message.Content)
			answers++
		}
	}
	waits := strings.Contains(m.heard, "Waiting for approval") || strings.Contains(m.heard, "timed out")
	if answers > 0 && (!waits || answers > m.insists) {
		return map[string]any{"role": "assistant", "content": "The tool said: " + m.heard}, "stop"
	}
	m.calls = answers + 1
	call := map[string]any{"index": 0, "id": fmt.Sprintf("call_%d", m.calls), "type": "function",
		"function": map[string]any{"name": m.tool, "arguments": m.args}}
	return map[string]any{"role": "assistant", "content": nil, "tool_calls": []any{call}}, "tool_calls"
}

// attempts is how often it has called.
func (m *model) attempts() int {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.calls
}

func writeStream(w http.ResponseWriter, delta map[string]any, reason string) {
	w.Header().Set("Content-Type", "text/event-stream")
	for _, chunk := range []any{
		completion("chat.completion.chunk", "delta", delta, nil),
		completion("chat.completion.chunk", "delta", map[string]any{}, reason),
	} {
		line, _ := json.Marshal(chunk)
		fmt.Fprintf(w, "data: %s\n\n", line)
	}
	fmt.Fprint(w, "data: [DONE]\n\n")
}

func completion(object, part string, delta map[string]any, reason any) map[string]any {
	return map[string]any{
		"id": "chatcmpl-1", "object": object, "created": 1, "model": "stand-in",
		"choices": []any{map[string]any{"index": 0, part: delta, "finish_reason": reason}},
		"usage":   map[string]any{"prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 2},
	}
}

// saw says what the model was offered and told, for failures.
func (m *model) saw() string {
	m.mu.Lock()
	defer m.mu.Unlock()
	return fmt.Sprintf("offered: %s\nheard: %s", strings.Join(m.offered, " "), m.heard)
}
