package proxy

import (
	"cmp"
	"slices"

	"github.com/openleash/openleash-go/action"
)

// The transports look at a handful of members (ids, progress tokens, protocol
// versions) of messages that may be megabytes long and must keep their bytes.
// So they find the place of a member, and read or replace just that.

// maxDepth is how deep a message may nest that is only passed on.
const maxDepth = 1000

// A span is where a value lies in a message: raw[from:to].
type span struct{ from, to int }

// find returns where the value at path lies. A name that is there twice is not
// there: nothing may be routed by what another reader sees differently.
func find(raw []byte, path ...string) (span, bool) {
	at := span{0, len(raw)}
	for _, key := range path {
		fields, err := action.Scan(raw[at.from:at.to], action.Limits{Bytes: len(raw) + 1, Depth: maxDepth})
		if err != nil {
			return span{}, false
		}
		i := slices.IndexFunc(fields, func(f action.Field) bool { return f.Key == key })
		if i < 0 {
			return span{}, false
		}
		from := at.from + fields[i].Start
		at = span{from, from + len(fields[i].Raw)}
	}
	return at, true
}

// rawAt returns the JSON text of the value at path, empty when there is none.
func rawAt(raw []byte, path ...string) string {
	at, ok := find(raw, path...)
	if !ok {
		return ""
	}
	return string(raw[at.from:at.to])
}

// stringAt returns the string at path.
func stringAt(raw []byte, path ...string) (string, bool) {
	at, ok := find(raw, path...)
	if !ok {
		return "", false
	}
	s, err := readString(raw[at.from:at.to])
	return s, err == nil
}

// idAt returns the id, or progress token, at path in its canonical form.
func idAt(raw []byte, path ...string) string {
	at, ok := find(raw, path...)
	if !ok {
		return ""
	}
	id, err := readID(raw[at.from:at.to])
	if err != nil {
		return ""
	}
	return id
}

// An edit replaces what lies at a span.
type edit struct {
	span
	with string
}

// applyEdits returns a copy of raw with the edits made; they do not overlap.
func applyEdits(raw []byte, edits ...edit) []byte {
	slices.SortFunc(edits, func(a, b edit) int { return cmp.Or(cmp.Compare(a.from, b.from), cmp.Compare(a.to, b.to)) })
	out := make([]byte, 0, len(raw)+32*len(edits))
	last := 0
	for _, e := range edits {
		out = append(append(out, raw[last:e.from]...), e.with...)
		last = e.to
	}
	return append(out, raw[last:]...)
}

// anyMessage are the limits for a message of an upstream: its size was bounded
// when it was read.
func anyMessage(raw []byte) action.Limits {
	return action.Limits{Bytes: len(raw) + 1, Depth: maxDepth}
}

// Error codes beside those of message.go.
const (
	codeMethodNotFound = -32601
	codeHeaderMismatch = -32020 // MCP 2026-07-28, Server Validation
	codeUnsupported    = -32022 // MCP 2026-07-28, UnsupportedProtocolVersion
	codeRefused        = -32010 // ours: the policy, or its owner, said no to what is no tool call
	codeRejected       = -1     // MCP, Sampling: "User rejected sampling request"
)
