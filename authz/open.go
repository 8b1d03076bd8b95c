package authz

import (
	"strings"

	"github.com/openleash/openleash-go/action"
)

// openTypes are the last words of the action types of what is no tool call, by
// MCP method: a resource is read as mcp.<server>.resource.read. Those requests
// are open: allowed and logged, unless a rule is about them. A tool has such a type
// only where the owner's mapping gives it to it.
var openTypes = map[string]string{
	"resources/read":         "resource.read",
	"prompts/get":            "prompt.get",
	"sampling/createMessage": "sampling",
	"elicitation/create":     "elicitation",
}

// IsOpenType tells the last words of those action types.
func IsOpenType(words string) bool {
	for _, t := range openTypes {
		if t == words {
			return true
		}
	}
	return false
}

// OpenType is the action type of an open request to, or from, a server.
func OpenType(server, method string) string {
	return "mcp." + server + "." + openTypes[method]
}

// OpenRequest is the server and the method that an action type is about, when it
// can be that of an open request. It need not where the server's name has a dot in
// it: mcp.a.b.sampling is that of a tool b.sampling of the server a, too.
func OpenRequest(actionType string) (server, method string, ok bool) {
	rest, isMCP := strings.CutPrefix(actionType, "mcp.")
	for method, t := range openTypes {
		if server, ok := strings.CutSuffix(rest, "."+t); ok && isMCP && server != "" {
			return server, method, true
		}
	}
	return "", "", false
}

// OpenInfo is what rules read as $.tool of an open request.
func OpenInfo(server, method string) action.Value {
	return action.ObjectValue(
		action.Member{Key: "server", Value: action.StringValue(server)},
		action.Member{Key: "name", Value: action.StringValue(method)},
		action.Member{Key: "reads", Value: action.BoolValue(method == "resources/read" || method == "prompts/get")},
		action.Member{Key: "destroys", Value: action.BoolValue(false)},
	)
}
