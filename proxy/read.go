package proxy

import (
	"bytes"
	"errors"
	"fmt"
	"slices"

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
	round         string       // the token of a round that its requestState has; empty: none
	leg           string       // what it brings back of an earlier wait; empty: nothing
	state         string       // its requestState without that, JSON text; empty: it has none

	params action.Value
	meta   action.Value
	cuts   []edit // keys under our prefix, outside the arguments; our part of a requestState
	gone   int    // how many members of the params go as a whole
}

// paramNames are the members of a call's params that we read or forward: one
// that differs from these only by case is refused, as in the envelope.
var paramNames = []string{"name", "arguments", "_meta", "task", inputResponses, requestState}

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
	c.cuts, err = prefixCuts(m.Raw)
	c.cuts = slices.DeleteFunc(c.cuts, within(c.arguments))
	c.readState()
	return c, err
}

// within tells the edits that lie inside a value.
func within(v action.Value) func(edit) bool {
	from, to := v.Start(), v.Start()+len(v.Raw())
	return func(e edit) bool { return e.from >= from && e.to <= to }
}

func (c *call) readProgressToken() {
	if t := c.meta.Get("progressToken"); t.Kind() == action.String || t.Kind() == action.Number {
		c.progressToken = string(t.Raw())
	}
}

// withProof returns the bytes that were decided on with the proof put into
// params._meta, and nothing else changed but keys under our prefix, which go
// from every _meta outside the arguments (those were decided on as they are), and
// our part of a requestState. An empty proof (the rule wants none) only cleans.
func (c call) withProof(proof string) []byte {
	edits := slices.Clone(c.cuts)
	if proof != "" {
		edits = append(edits, c.insertProof(proof))
	}
	if len(edits) == 0 {
		return c.Raw
	}
	return applyEdits(c.Raw, edits...)
}

// insertProof puts the proof first into params._meta.
func (c call) insertProof(proof string) edit {
	if c.params.Kind() == action.Missing {
		at := bytes.IndexByte(c.Raw, '{') + 1
		return edit{span{at, at}, `"params":{"_meta":{"` + ProofKey + `":` + string(quote(proof)) + `}},`}
	}
	ours := make([]byte, 0, len(ProofKey)+len(proof)+48)
	object, rest := c.meta, false
	if object.Kind() == action.Missing {
		object, rest = c.params, c.params.Len() > c.gone
		ours = append(ours, `"_meta":{`...)
	}
	for key := range c.meta.Members() {
		rest = rest || !isOurs(key) // those of ours go
	}
	ours = append(append(append(ours, '"'), ProofKey...), `":`...)
	ours = jsontext.AppendString(ours, proof)
	if c.meta.Kind() == action.Missing {
		ours = append(ours, '}')
	}
	if rest {
		ours = append(ours, ',')
	}
	at := object.Start() + 1
	return edit{span{at, at}, string(ours)}
}
