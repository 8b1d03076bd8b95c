// Package hostiletest reads testdata/hostile: calls that would deceive their owner if
// they were shown as they are, each with what the owner is to be warned of. Whoever
// shows calls is tested with all of them.
package hostiletest

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/openleash/openleash-go/action"
	"github.com/openleash/openleash-go/approvals"
)

// A Case is one call.
type Case struct {
	Name        string          `json:"-"`
	About       string          `json:"about"`
	Server      string          `json:"server"`
	Tool        string          `json:"tool"`
	Reason      string          `json:"reason"`
	Description string          `json:"description"`
	Annotations json.RawMessage `json:"annotations"`
	Arguments   json.RawMessage `json:"arguments"`
	Grow        *recipe         `json:"grow"` // makes one more argument, of those too large to be kept
	Want        Want            `json:"want"`
}

// Want is what the owner is warned of.
type Want struct {
	Hidden int         `json:"hidden"`
	Alike  int         `json:"alike"`
	Twins  [][2]string `json:"twins"`
}

// Warned reports whether there is anything.
func (w Want) Warned() bool { return w.Hidden+w.Alike+len(w.Twins) > 0 }

// A recipe is Times times Text (and as often End) as the argument Name: a text, or the
// JSON of it where there is an End; or a list of Items; or Keys names and a Last one.
type recipe struct {
	Name  string `json:"name"`
	Text  string `json:"text"`
	End   string `json:"end"`
	Items string `json:"items"`
	Times int    `json:"times"`
	Keys  int    `json:"keys"`
	Last  string `json:"last"`
}

func (g *recipe) members(t testing.TB) (list []action.Member) {
	switch {
	case g.Keys > 0:
		for i := range g.Keys {
			list = append(list, action.Member{Key: fmt.Sprintf("k%dx", i), Value: action.IntValue(int64(i))})
		}
		return append(list, action.Member{Key: g.Last, Value: action.IntValue(2)})
	case g.Items != "":
		items := make([]action.Value, g.Times)
		for i := range items {
			items[i] = action.StringValue(g.Items)
		}
		return []action.Member{{Key: g.Name, Value: action.ArrayValue(items...)}}
	case g.End != "":
		return []action.Member{{Key: g.Name, Value: parse(t, []byte(strings.Repeat(g.Text, g.Times)+"0"+strings.Repeat(g.End, g.Times)))}}
	}
	return []action.Member{{Key: g.Name, Value: action.StringValue(strings.Repeat(g.Text, g.Times))}}
}

// Cases reads all of a folder.
func Cases(t testing.TB, dir string) (list []Case) {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(dir, "*.json"))
	if err != nil || len(files) < 30 {
		t.Fatalf("%s: %d cases, %v", dir, len(files), err)
	}
	for _, file := range files {
		data, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		c := Case{Name: strings.TrimSuffix(filepath.Base(file), ".json"), Server: "shop", Tool: "create_order", Reason: "Orders need your word."}
		dec := json.NewDecoder(bytes.NewReader(data))
		dec.DisallowUnknownFields()
		if err := dec.Decode(&c); err != nil {
			t.Fatalf("%s: %v", file, err)
		}
		list = append(list, c)
	}
	return list
}

// Request is the request for the call, of that owner, which waits from now on.
func (c Case) Request(t testing.TB, id, owner string, now time.Time) approvals.Request {
	t.Helper()
	var members []action.Member
	for name, v := range parse(t, c.Arguments).Members() {
		members = append(members, action.Member{Key: name, Value: v})
	}
	if c.Grow != nil {
		members = append(members, c.Grow.members(t)...)
	}
	arguments := parse(t, action.ObjectValue(members...).Canonical()) // in the order in which a store gives it back
	info := []action.Member{{Key: "name", Value: action.StringValue(c.Tool)}, {Key: "description", Value: action.StringValue(c.Description)}}
	if c.Annotations != nil {
		info = append(info, action.Member{Key: "annotations", Value: parse(t, c.Annotations)})
	}
	req := action.Request{
		ActionID: "11111111-1111-4111-8111-111111111111", ActionType: "purchase", RequestedAt: now.UTC().Format(time.RFC3339),
		AgentID: "shop-bot", SubjectID: owner, Payload: action.ObjectValue(action.Member{Key: "arguments", Value: arguments}),
	}
	return approvals.Request{
		ID: id, OwnerID: owner, AgentID: "shop-bot", DecisionID: id, Action: req, ActionHash: req.Hash(),
		IntentHash: action.IntentHash("shop-bot", c.Server, c.Tool, arguments), Server: c.Server, Tool: c.Tool,
		ToolInfo: action.ObjectValue(info...), PolicyID: "shopping", RuleID: "large-orders", Reason: c.Reason,
		Status: approvals.Pending, CreatedAt: now, ExpiresAt: now.Add(time.Hour),
	}
}

func parse(t testing.TB, text []byte) action.Value {
	t.Helper()
	v, err := action.Parse(text, action.Limits{CaseTwins: true})
	if err != nil {
		t.Fatalf("%.100s: %v", text, err)
	}
	return v
}
