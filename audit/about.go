package audit

import (
	"encoding/json"

	"github.com/openleash/openleash-go/internal/jsontext"
)

// About is what a line says of itself, of that by which lines are looked for and
// counted. Members that are absent or null are empty. The values are good as long as
// the line's bytes are.
type About struct {
	TS, Event, ActorType, ActorID, Decision, PolicyID []byte
	DecisionID, RuleID, Code, OwnerID, AgentID        []byte
	Server, Tool, ApprovalID, Outcome, DurationMS     []byte
}

// Agent is whom a line is about: the agent that did it, or with whose call or token
// somebody else did something.
func (a *About) Agent() []byte {
	if string(a.ActorType) == "agent" {
		return a.ActorID
	}
	return a.AgentID
}

// member is where a member's value goes; nil: it is not looked for.
func (a *About) member(name []byte) *[]byte {
	switch string(name) {
	case "ts":
		return &a.TS
	case "event":
		return &a.Event
	case "actor_type":
		return &a.ActorType
	case "actor_id":
		return &a.ActorID
	case "decision":
		return &a.Decision
	case "policy_id":
		return &a.PolicyID
	case "decision_id":
		return &a.DecisionID
	case "matched_rule_id":
		return &a.RuleID
	case "code":
		return &a.Code
	case "owner_id":
		return &a.OwnerID
	case "agent_id":
		return &a.AgentID
	case "server":
		return &a.Server
	case "tool":
		return &a.Tool
	case "approval_id":
		return &a.ApprovalID
	case "outcome":
		return &a.Outcome
	case "duration_ms":
		return &a.DurationMS
	}
	return nil
}

// ReadAbout reads a line, or an entry, many times faster than encoding/json would. Of
// what is not the JSON object on one line that the log is made of, it says what it
// understands, and not ok.
func ReadAbout(line []byte) (a About, ok bool) {
	if len(line) == 0 || line[0] != '{' {
		return a, false
	}
	for rest := line[1:]; ; {
		name, value, after := cutMember(rest)
		if name == nil || len(after) == 0 {
			return a, string(line) == "{}"
		}
		if to := a.member(name); to != nil && *to == nil {
			*to = plainValue(value)
		}
		if rest = after[1:]; after[0] != ',' {
			return a, string(after) == "}"
		}
	}
}

// cutMember takes "name":value from the beginning of some members; name is nil when
// there is none.
func cutMember(b []byte) (name, value, rest []byte) {
	end := stringEnd(b)
	if end < 0 || end >= len(b) || b[end] != ':' {
		return nil, nil, nil
	}
	size := valueEnd(b[end+1:])
	if size <= 0 {
		return nil, nil, nil
	}
	return b[1 : end-1], b[end+1 : end+1+size], b[end+1+size:]
}

// stringEnd returns how long the string is with which b begins, or -1.
func stringEnd(b []byte) int {
	if len(b) == 0 || b[0] != '"' {
		return -1
	}
	for i := 1; ; {
		i += jsontext.Plain(b[min(i, len(b)):])
		switch {
		case i >= len(b) || b[i] < ' ':
			return -1
		case b[i] == '"':
			return i + 1
		}
		i += 2 // a backslash and what it escapes
	}
}

// valueEnd returns how long the value is with which b begins, or less than 1.
func valueEnd(b []byte) int {
	for depth, i := 0, 0; i < len(b); {
		switch b[i] {
		case '"':
			size := stringEnd(b[i:])
			if size < 0 {
				return -1
			}
			if i += size; depth == 0 {
				return i
			}
			continue
		case '{', '[':
			depth++
		case '}', ']':
			if depth == 0 {
				return i
			}
			if depth--; depth == 0 {
				return i + 1
			}
		case ',':
			if depth == 0 {
				return i
			}
		}
		i++
	}
	return -1
}

// plainValue is a string's text, a number as it is written, and nothing of null.
func plainValue(value []byte) []byte {
	if value[0] != '"' {
		if string(value) == "null" {
			return nil
		}
		return value
	}
	inside := value[1 : len(value)-1]
	if jsontext.Plain(inside) == len(inside) {
		return inside
	}
	var text string
	if json.Unmarshal(value, &text) != nil {
		return nil
	}
	return []byte(text)
}
