package policy

import (
	"cmp"
	"fmt"
	"maps"
	"path/filepath"
	"slices"
	"strings"

	"gopkg.in/yaml.v3"

	"github.com/openleash/openleash-go/identity"
	"github.com/openleash/openleash-go/internal/strictyaml"
)

// A Scope says whom a policy binds: every agent of the owner, one agent, or the
// agents of a group. The zero Scope binds nobody.
type Scope struct {
	Layer Layer
	Name  string // of the agent or the group
}

// owners is the scope of the owner's policies.
var owners = Scope{Layer: OwnerLayer}

// String names whom: "every agent", "agent bot", "group buyers".
func (s Scope) String() string {
	switch s.Layer {
	case AgentLayer:
		return "agent " + s.Name
	case GroupLayer:
		return "group " + s.Name
	}
	return "every agent"
}

// DefaultRank is that of a policy that names none; a lower one is asked earlier.
const (
	DefaultRank = 100
	maxRank     = 1_000_000
)

func byRank(a, b *Policy) int { return cmp.Compare(a.Rank, b.Rank) }

// Groups are the agents of each group, by the group's name. Nil says that nobody
// knows who is in which.
type Groups map[string][]string

// byAgent are the groups of each agent, sorted.
func (g Groups) byAgent() map[string][]string {
	in := make(map[string][]string)
	for _, group := range slices.Sorted(maps.Keys(g)) {
		for _, agent := range g[group] {
			in[agent] = append(in[agent], group)
		}
	}
	return in
}

// String writes "buyers: ann, bob; readers: bob".
func (g Groups) String() string {
	var list []string
	for _, group := range slices.Sorted(maps.Keys(g)) {
		list = append(list, group+": "+strings.Join(g[group], ", "))
	}
	return strings.Join(list, "; ")
}

const (
	wantsScope = "want owner (for every agent), {agent: NAME} or {group: NAME}"
	wantsName  = "a name has letters, digits, dots, dashes and underscores, 64 at the most"
)

// header reads applies_to and rank.
func (p *parser) header(pol *Policy, f map[string]*yaml.Node) {
	if n := f["applies_to"]; n != nil {
		pol.Scope, pol.header = p.scope(n), p.At(n, "")
	}
	pol.Rank = DefaultRank
	if rank, ok := p.Int(f["rank"], "rank"); ok {
		if pol.Rank = int(rank); rank < 0 || rank > maxRank {
			p.Errorf(f["rank"], "rank: want 0 to %d, got %d", maxRank, rank)
		}
	}
}

func (p *parser) scope(n *yaml.Node) Scope {
	if n.Kind != yaml.MappingNode {
		if n.ShortTag() != "!!str" || n.Value != "owner" {
			p.Errorf(n, "applies_to: %s, got %s%s", wantsScope, describe(n), strictyaml.DidYouMean(n.Value, []string{"owner"}))
		}
		return owners
	}
	f := p.Fields(n, "applies_to", keysIn[scopeForm]()...)
	agent, group := p.scopeName(f["agent"], "applies_to: agent"), p.scopeName(f["group"], "applies_to: group")
	switch {
	case len(n.Content) == 0:
		p.Errorf(n, "applies_to: %s, got an empty mapping", wantsScope)
	case len(f) > 1:
		p.Errorf(n, "applies_to: want either agent or group, got both")
	case f["group"] != nil:
		return Scope{GroupLayer, group}
	}
	return Scope{AgentLayer, agent}
}

func (p *parser) scopeName(n *yaml.Node, what string) string {
	name, ok := p.String(n, what)
	if ok && !identity.ValidName(name) {
		p.Errorf(n, "%s: %q: %s", what, name, wantsName)
	}
	return name
}

// The folders whose name says whom the policies in it bind.
const (
	agentsDir = "agents"
	groupsDir = "groups"
)

// placed reads a policy and says whom it binds, by its header and by its place.
func placed(dir, file string, src Source) (*Policy, error) {
	p, err := Parse(policyID(src.Name), file, []byte(src.Text))
	within, exact := placeOf(src.Name)
	binds := exact || p != nil && p.header.Line > 0
	switch {
	case err != nil && (exact || saysWhom(file, src.Text)):
		return nil, err
	case !binds:
		at := func(folder string) string { return filepath.Join(dir, folder, "NAME") }
		return nil, faultIn(file, "a policy in this place binds nobody: say whom by applies_to: owner, {agent: NAME} or {group: NAME}; or move it to %s for all agents, to %s for one, to %s for a group",
			dir, at(agentsDir), at(groupsDir))
	case within.Name != "" && !identity.ValidName(within.Name):
		return nil, faultIn(file, "%q cannot be the name of an agent or a group, so this binds nobody: %s; rename the folder", within.Name, wantsName)
	case p.header.Line == 0:
		p.Scope = within
	case within.Name != "" && p.Scope != within:
		wrong := p.header
		wrong.Message = fmt.Sprintf("applies_to: this says %s, but the folder in which it stands is that of %s: move the file, or correct the line", p.Scope, within)
		return nil, strictyaml.ErrorList{wrong}
	}
	return p, nil
}

func faultIn(file, format string, args ...any) error {
	return strictyaml.ErrorList{fault(file, format, args...)}
}

// saysWhom tells that a text with mistakes is a policy that says whom it binds, as
// far as can be seen.
func saysWhom(file, text string) bool {
	doc, err := strictyaml.Parse(file, []byte(text))
	return err != nil || fieldsOf(doc.Root)["applies_to"] != nil
}

// placeOf is whom the place of a file speaks of; exact tells that a policy there
// need not say so itself.
func placeOf(name string) (s Scope, exact bool) {
	parts := strings.Split(name, "/")
	switch {
	case len(parts) == 1:
		return owners, true
	case len(parts) > 2 && parts[0] == agentsDir:
		return Scope{AgentLayer, parts[1]}, len(parts) == 3
	case len(parts) > 2 && parts[0] == groupsDir:
		return Scope{GroupLayer, parts[1]}, len(parts) == 3
	}
	return Scope{}, false
}
