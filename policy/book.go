package policy

import (
	"cmp"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"maps"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"sync"

	"github.com/openleash/openleash-go/internal/strictyaml"
)

// A Book is all policies of an installation: what files say now, or the last
// good set. Immutable; swapped whole.
type Book struct {
	// Hash names the exact content: sha256 over names and sources.
	Hash string

	sources  []Source
	groups   Groups
	policies map[string]*Policy     // by the names of their sources
	bound    map[Scope][]*Policy    // in the order in which they are asked
	sets     map[string]func() *Set // by agent, only those whom more than the owner's policies bind
	rest     func() *Set            // for all other agents
	made     sync.Map               // func() *Set by what binds: agents whom the same binds share it
	asked    sync.Map               // agents whose set was compiled, one of those who share it; "": rest was
}

// Source is one policy file as it was read.
type Source struct {
	Name string `json:"name"` // slash path below the folder: "mail.yaml", "agents/bot/own.yaml"
	Text string `json:"text"`
}

// Snapshots keeps the last good set over restarts; the store implements it.
type Snapshots interface {
	SavePolicies(ctx context.Context, hash string, sources []Source) error
	LastPolicies(ctx context.Context) (sources []Source, err error) // nil: none yet
}

// Load reads a folder: every *.yaml and *.yml directly in it is of the owner's
// layer, those in agents/<name>/ of that agent's, those in groups/<name>/ of that
// group's; in other folders, and directly in it, a policy says itself whom it
// binds. Names that begin with a dot, and suites (IsSuite), are not looked at; a
// policy that says nothing in such a folder is a fault, because nobody would
// notice that it binds no one. The error lists all faults of all files.
func Load(dir string, groups Groups) (*Book, error) {
	sources, faults, err := read(dir)
	if err != nil {
		return nil, err
	}
	return newBook(dir, sources, groups, faults)
}

// NewBook makes a book of sources that come from elsewhere: the last good set,
// or the policies inside the program. dir is where a person would put policies.
func NewBook(dir string, sources []Source, groups Groups) (*Book, error) {
	return newBook(dir, sources, groups, nil)
}

// Alone is a book of one policy, which binds every agent and is enforced, also
// when it is one for the shadow, or for some agents: for tests of it.
func Alone(file string, src []byte) (*Book, error) {
	p, err := Parse(policyID(filepath.Base(file)), file, src)
	if err != nil {
		return nil, err
	}
	p = p.Enforced()
	p.Scope = owners
	b := &Book{Hash: hashSources(nil), bound: map[Scope][]*Policy{owners: {p}}}
	b.compile(filepath.Dir(file))
	return b, nil
}

func newBook(dir string, sources []Source, groups Groups, faults strictyaml.ErrorList) (*Book, error) {
	b := &Book{
		sources:  slices.SortedFunc(slices.Values(sources), bySourceName),
		groups:   groups,
		policies: make(map[string]*Policy),
		bound:    make(map[Scope][]*Policy),
	}
	b.Hash = hashSources(b.sources)
	names := make(map[string]string)
	for _, src := range b.sources {
		id := policyID(src.Name)
		file := filepath.Join(dir, filepath.FromSlash(src.Name))
		if other, taken := names[id]; taken {
			faults = append(faults, fault(file, "%s gives the policy the same name, %q; rename one of them", other, id))
			continue
		}
		names[id] = src.Name
		p, err := placed(dir, file, src)
		if err != nil {
			faults = append(faults, faultsOf(file, err)...)
			continue
		}
		b.policies[src.Name] = p
		b.bound[p.Scope] = append(b.bound[p.Scope], p)
	}
	if len(faults) > 0 {
		slices.SortStableFunc(faults, func(x, y strictyaml.Error) int { return cmp.Compare(x.File, y.File) })
		return nil, faults
	}
	for _, list := range b.bound {
		slices.SortStableFunc(list, byRank)
	}
	b.compile(dir)
	return b, nil
}

// policyID is a file's name without its ending.
func policyID(name string) string { return strings.TrimSuffix(name, path.Ext(name)) }

func bySourceName(a, b Source) int { return cmp.Compare(a.Name, b.Name) }

// fault is one about a file as a whole.
func fault(file, format string, args ...any) strictyaml.Error {
	return strictyaml.Error{File: file, Line: 1, Column: 1, Message: fmt.Sprintf(format, args...)}
}

func faultsOf(file string, err error) strictyaml.ErrorList {
	var list strictyaml.ErrorList
	if errors.As(err, &list) {
		return list
	}
	return strictyaml.ErrorList{fault(file, "%v", err)}
}

// compile prepares a set for each agent whom more than the owner's policies bind,
// and one for the others; each is compiled when it is first asked for.
func (b *Book) compile(dir string) {
	b.rest = sync.OnceValue(func() *Set {
		b.asked.Store("", true)
		s := Compile(b.owner())
		if len(b.bound[owners]) == 0 {
			s.fallback.Reason = fmt.Sprintf("No policy is bound to this agent, so everything is denied: put a policy file into %s.", dir)
		}
		return s
	})
	b.sets = make(map[string]func() *Set)
	in := b.groups.byAgent()
	for agent := range in {
		b.sets[agent] = b.set(agent, in[agent])
	}
	for scope := range b.bound {
		if scope.Layer == AgentLayer {
			b.sets[scope.Name] = b.set(scope.Name, in[scope.Name])
		}
	}
}

// set is that of an agent in those groups.
func (b *Book) set(agent string, groups []string) func() *Set {
	near := b.near(agent, groups)
	if len(near) == 0 {
		return b.rest
	}
	var names []string
	for _, bind := range near {
		names = append(names, bind.Policy.ID)
	}
	set, _ := b.made.LoadOrStore(strings.Join(names, "\x00"), sync.OnceValue(func() *Set {
		b.asked.Store(agent, true)
		return Compile(slices.Concat(near, b.owner()))
	}))
	return set.(func() *Set)
}

// near are the policies of an agent's own, then those of its groups: by rank, then
// by the groups' names, then by the files'.
func (b *Book) near(agent string, groups []string) []Binding {
	own := bindings(b.bound[Scope{AgentLayer, agent}])
	var shared []*Policy
	for _, group := range slices.Compact(slices.Sorted(slices.Values(groups))) {
		shared = append(shared, b.bound[Scope{GroupLayer, group}]...)
	}
	slices.SortStableFunc(shared, byRank)
	return append(own, bindings(shared)...)
}

func (b *Book) owner() []Binding { return bindings(b.bound[owners]) }

// bindings puts policies into the layers of their scopes.
func bindings(policies []*Policy) (list []Binding) {
	for _, p := range policies {
		list = append(list, Binding{p, p.Scope.Layer})
	}
	return list
}

// For returns the set that binds an agent.
func (b *Book) For(agent string) *Set {
	if set, ok := b.sets[agent]; ok {
		return set()
	}
	return b.rest()
}

// prepare compiles what was asked for in the book before, so that no decision has to
// wait for it when this one comes into force.
func (b *Book) prepare(before *Book) {
	if before == nil {
		return
	}
	before.asked.Range(func(agent, _ any) bool {
		b.For(agent.(string))
		return true
	})
}

// Member returns the set that would bind an agent if it were in these groups and no
// others: for tests, and for what-if.
func (b *Book) Member(agent string, groups []string) *Set { return b.set(agent, groups)() }

// Policies returns all policies: the owner's, then each group's, then each
// agent's, in the order in which they are asked.
func (b *Book) Policies() (list []*Policy) {
	for _, scope := range b.scopes() {
		list = append(list, b.bound[scope]...)
	}
	return list
}

// scopes are those that have policies, the farthest first.
func (b *Book) scopes() []Scope {
	return slices.SortedFunc(maps.Keys(b.bound), func(x, y Scope) int {
		return cmp.Or(cmp.Compare(y.Layer, x.Layer), cmp.Compare(x.Name, y.Name))
	})
}

// Policy returns that of a source, by the source's name.
func (b *Book) Policy(name string) *Policy { return b.policies[name] }

// Groups returns who is in which group. Nobody may change it.
func (b *Book) Groups() Groups { return b.groups }

// GroupNames are the groups that policies or the configuration name, sorted.
func (b *Book) GroupNames() []string {
	names := slices.Collect(maps.Keys(b.groups))
	for scope := range b.bound {
		if scope.Layer == GroupLayer {
			names = append(names, scope.Name)
		}
	}
	slices.Sort(names)
	return slices.Compact(names)
}

// Warnings are those of all policies, and those about what policies make of each
// other.
func (b *Book) Warnings() (list []strictyaml.Error) {
	for _, p := range b.Policies() {
		list = append(list, p.Warnings...)
	}
	list = append(list, b.lintGroups()...)
	list = append(list, b.lintLayers()...)
	slices.SortStableFunc(list, func(x, y strictyaml.Error) int { return cmp.Or(cmp.Compare(x.File, y.File), byPlace(x, y)) })
	return list
}

// Sources returns what the book was made of, sorted by name.
func (b *Book) Sources() []Source { return slices.Clone(b.sources) }

// hashSources writes lengths before texts, so that no two sets are one text.
func hashSources(sources []Source) string {
	h := sha256.New()
	for _, s := range sources {
		fmt.Fprintf(h, "%d %s %d %s\n", len(s.Name), s.Name, len(s.Text), s.Text)
	}
	return fmt.Sprintf("sha256:%x", h.Sum(nil))
}
