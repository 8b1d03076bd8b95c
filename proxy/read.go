package proxy

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/openleash/openleash-go/action"
	"github.com/openleash/openleash-go/internal/jsontext"
)

// call is a tools/call as it was parsed, once.
type call struct {
	Message
	tool          string       // or the method of what is no tool call
	open          bool         // it is no tool call (open.go)
	arguments     action.Value // an object, or Missing
	progressToken string       // JSON text; empty: the host wants no progress

	params action.Value
	meta   action.Value
}

// paramNames are the members of a call's params that we read or forward: one
// that differs from these only by case is refused, as in the envelope.
var paramNames = []string{"name", "arguments", "_meta", "task", "inputResponses", "requestState"}

// readCall parses the whole message strictly: what a decision is based on may
// mean one thing only.
func readCall(m Message, lim action.Limits) (call, error) {
	root, err := action.Parse(m.Raw, lim)
	if err != nil {
		return call{}, fmt.Errorf("the call cannot be decided on: %w", err)
	}
	if m.Method != "tools/call" {
		return readOpen(m, root)
	}
	c := call{Message: m, params: root.Get("params")}
	if c.params.Kind() != action.Object {
		return c, errors.New("params: want an object with the tool's name and its arguments")
	}
	for _, known := range paramNames {
		if odd, ok := c.params.GetFold(known); ok {
			return c, fmt.Errorf("params.%s: differs from %q only by case; write %q", odd, known, known)
		}
	}
	name := c.params.Get("name")
	if name.Kind() != action.String || name.Text() == "" {
		return c, errors.New("params.name: want the name of a tool")
	}
	c.tool = name.Text()
	if c.arguments = c.params.Get("arguments"); c.arguments.Kind() != action.Object && c.arguments.Kind() != action.Missing {
		return c, errors.New("params.arguments: want an object")
	}
	if c.meta = c.params.Get("_meta"); c.meta.Kind() != action.Object && c.meta.Kind() != action.Missing {
		return c, errors.New("params._meta: want an object")
	}
	c.readProgressToken()
	return c, nil
}

func (c *call) readProgressToken() {
	if t := c.meta.Get("progressToken"); t.Kind() == action.String || t.Kind() == action.Number {
		c.progressToken = string(t.Raw())
	}
}

// withProof returns the bytes that were decided on with the proof put into
// params._meta, and nothing else changed but keys under our prefix, which go.
// An empty proof (the rule wants none) only cleans.
func (c call) withProof(proof string) []byte {
	var ours []byte
	if proof != "" {
		ours = make([]byte, 0, len(ProofKey)+len(proof)+32)
		ours = append(append(append(ours, '"'), ProofKey...), `":`...)
		ours = jsontext.AppendString(ours, proof)
	}
	if c.meta.Kind() == action.Missing {
		if ours == nil || c.params.Kind() == action.Missing {
			return c.Raw
		}
		return insertMember(c.Raw, c.params, `"_meta":{`, ours, `}`)
	}
	if hasOurs(c.meta) {
		return splice(c.Raw, c.meta, objectText(c.meta, string(ours)))
	}
	if ours == nil {
		return c.Raw
	}
	return insertMember(c.Raw, c.meta, "", ours, "")
}

// insertMember puts a member first into an object of the document.
func insertMember(doc []byte, object action.Value, before string, member []byte, after string) []byte {
	if object.Len() > 0 {
		after += ","
	}
	at := object.Start() + 1
	out := make([]byte, 0, len(doc)+len(before)+len(member)+len(after))
	out = append(append(append(append(out, doc[:at]...), before...), member...), after...)
	return append(out, doc[at:]...)
}

// splice replaces one value of the document.
func splice(doc []byte, v action.Value, text []byte) []byte {
	return slices.Concat(doc[:v.Start()], text, doc[v.Start()+len(v.Raw()):])
}

// isOurs reports whether a key of _meta stands under our prefix, in any case.
func isOurs(key string) bool {
	return len(key) >= len(Prefix) && strings.EqualFold(key[:len(Prefix)], Prefix)
}

func hasOurs(meta action.Value) bool {
	for key := range meta.Members() {
		if isOurs(key) {
			return true
		}
	}
	return false
}

// objectText writes a _meta without keys of ours, first (when not empty) before
// the rest.
func objectText(meta action.Value, first string) []byte {
	members := []string{}
	if first != "" {
		members = append(members, first)
	}
	for key, v := range meta.Members() {
		if !isOurs(key) {
			members = append(members, string(quote(key))+":"+string(v.Raw()))
		}
	}
	return []byte("{" + strings.Join(members, ",") + "}")
}

// cutPrefix removes every key under our prefix from every _meta in a message.
// Messages without any, nearly all, are returned as they are.
func cutPrefix(raw []byte) ([]byte, error) {
	if !mayHoldOurs(raw) {
		return raw, nil
	}
	root, err := action.Parse(raw, action.Limits{Bytes: len(raw) + 1, Depth: 1000})
	if err != nil {
		return nil, err
	}
	var metas []action.Value
	collectMetas(root, &metas)
	for _, meta := range slices.Backward(metas) { // from the end, so that offsets stay true
		raw = splice(raw, meta, objectText(meta, ""))
	}
	return raw, nil
}

// mayHoldOurs is a quick look: our name in any case, or an escape that could
// hide a letter of it (no writer escapes letters without a reason).
func mayHoldOurs(raw []byte) bool {
	for rest := raw; ; {
		i := bytes.IndexByte(rest, '\\')
		if i < 0 || i+6 > len(rest) {
			break
		}
		if rest[i+1] == 'u' && rest[i+2] == '0' && rest[i+3] == '0' && rest[i+4] >= '4' && rest[i+4] <= '7' {
			return true
		}
		rest = rest[i+2:]
	}
	return containsFold(raw, "openleash")
}

func containsFold(raw []byte, word string) bool {
	for i := 0; ; i++ {
		j := bytes.IndexAny(raw[i:], "oO")
		if j < 0 || i+j+len(word) > len(raw) {
			return false
		}
		i += j
		if strings.EqualFold(string(raw[i:i+len(word)]), word) {
			return true
		}
	}
}

// collectMetas finds the objects named _meta that hold a key of ours, in the
// order of the document. They do not nest: what is inside a found one goes or
// stays with its member.
func collectMetas(v action.Value, found *[]action.Value) {
	for _, item := range v.Items() {
		collectMetas(item, found)
	}
	for key, member := range v.Members() {
		if key == "_meta" && member.Kind() == action.Object && hasOurs(member) {
			*found = append(*found, member)
			continue
		}
		collectMetas(member, found)
	}
}
