package policy

import (
	"bytes"
	"cmp"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
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

	sources []Source
	owner   []Binding
	agents  map[string][]Binding // by agent, only those with policies of their own
	sets    map[string]func() *Set
	rest    func() *Set // for all other agents
	asked   sync.Map    // agents whose set was asked for; "": rest was
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

// agentsDir is the folder of the policies that are one agent's.
const agentsDir = "agents"

// maxFile is what Load reads of one file.
const maxFile = 1 << 20

// looksLikePolicy tells a policy from tests.
func looksLikePolicy(file, text string) bool {
	doc, err := strictyaml.Parse(file, []byte(text))
	return err == nil && fieldsOf(doc.Root)["rules"] != nil
}

// Load reads a folder: every *.yaml and *.yml directly in it is of the owner's
// layer, those in agents/<name>/ of that agent's. Names that begin with a dot,
// and suites (IsSuite), are not looked at; a policy anywhere else is a fault, because nobody would
// notice that it binds no one. The error lists all faults of all files.
func Load(dir string) (*Book, error) {
	sources, faults, err := read(dir)
	if err != nil {
		return nil, err
	}
	return newBook(dir, sources, faults)
}

// NewBook makes a book of sources that come from elsewhere: the last good set,
// or the policies inside the program. dir is where a person would put policies.
func NewBook(dir string, sources []Source) (*Book, error) { return newBook(dir, sources, nil) }

// Alone is a book of one policy, which binds every agent and is enforced, also
// when it is one for the shadow: for tests of it.
func Alone(file string, src []byte) (*Book, error) {
	p, err := Parse(policyID(filepath.Base(file)), file, src)
	if err != nil {
		return nil, err
	}
	b := &Book{Hash: hashSources(nil), owner: []Binding{{p.Enforced(), OwnerLayer}}}
	b.compile(filepath.Dir(file))
	return b, nil
}

func newBook(dir string, sources []Source, faults strictyaml.ErrorList) (*Book, error) {
	b := &Book{
		sources: slices.SortedFunc(slices.Values(sources), bySourceName),
		agents:  make(map[string][]Binding),
		sets:    make(map[string]func() *Set),
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
		p, err := Parse(id, file, []byte(src.Text))
		if err != nil {
			faults = append(faults, faultsOf(file, err)...)
			continue
		}
		b.bind(src.Name, p)
	}
	if len(faults) > 0 {
		slices.SortStableFunc(faults, func(x, y strictyaml.Error) int { return cmp.Compare(x.File, y.File) })
		return nil, faults
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

func (b *Book) bind(name string, p *Policy) {
	if agent, ok := agentOf(name); ok {
		b.agents[agent] = append(b.agents[agent], Binding{p, AgentLayer})
		return
	}
	b.owner = append(b.owner, Binding{p, OwnerLayer})
}

// agentOf gives the agent whose file a name is, if it is one agent's.
func agentOf(name string) (agent string, ok bool) {
	parts := strings.Split(name, "/")
	return path.Base(path.Dir(name)), len(parts) == 3 && parts[0] == agentsDir
}

// compile prepares a set for each agent that has policies, and one for the
// others; each is compiled when it is first asked for.
func (b *Book) compile(dir string) {
	for agent, own := range b.agents {
		b.sets[agent] = sync.OnceValue(func() *Set {
			b.asked.Store(agent, true)
			return Compile(slices.Concat(own, b.owner))
		})
	}
	b.rest = sync.OnceValue(func() *Set {
		b.asked.Store("", true)
		s := Compile(b.owner)
		if len(b.owner) == 0 {
			s.fallback.Reason = fmt.Sprintf("No policy is bound to this agent, so everything is denied: put a policy file into %s.", dir)
		}
		return s
	})
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

// Policies returns all policies: the owner's, then each agent's.
func (b *Book) Policies() []*Policy {
	var list []*Policy
	for _, bind := range b.owner {
		list = append(list, bind.Policy)
	}
	for _, agent := range slices.Sorted(maps.Keys(b.agents)) {
		for _, bind := range b.agents[agent] {
			list = append(list, bind.Policy)
		}
	}
	return list
}

// Warnings are those of all policies, and those about what policies make of each
// other.
func (b *Book) Warnings() (list []strictyaml.Error) {
	for _, p := range b.Policies() {
		list = append(list, p.Warnings...)
	}
	for _, agent := range slices.Sorted(maps.Keys(b.agents)) {
		list = append(list, lintLayers(b.agents[agent], b.owner)...)
	}
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

// read gives the sources of a folder, and what is wrong with single files.
func read(dir string) ([]Source, strictyaml.ErrorList, error) {
	r := reader{dir: dir}
	switch err := r.walk("", 0); {
	case errors.Is(err, fs.ErrNotExist):
		return nil, nil, fmt.Errorf("reading policies: %w: make the folder and put a policy file into it", err)
	case err != nil:
		return nil, nil, fmt.Errorf("reading policies: %w", err)
	}
	slices.SortFunc(r.sources, bySourceName)
	return r.sources, r.faults, nil
}

type reader struct {
	dir     string
	sources []Source
	faults  strictyaml.ErrorList
}

// walk reads the folder, agents/ and what is in it, and looks one level into
// all others, for policies that are in the wrong place.
func (r *reader) walk(below string, depth int) error {
	entries, err := os.ReadDir(filepath.Join(r.dir, filepath.FromSlash(below)))
	if err != nil {
		return err
	}
	for _, e := range entries {
		name := path.Join(below, e.Name())
		if strings.HasPrefix(e.Name(), ".") {
			continue
		}
		info, err := os.Stat(r.file(name)) // follows links
		switch {
		case errors.Is(err, fs.ErrNotExist) && e.Type()&fs.ModeSymlink == 0:
			continue // removed meanwhile
		case err != nil:
			r.faults = append(r.faults, fault(r.file(name), "%v", err))
		case info.IsDir():
			err = r.folder(name, depth+1)
		case isPolicyName(name):
			r.take(name, info)
		}
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	return nil
}

func (r *reader) file(name string) string { return filepath.Join(r.dir, filepath.FromSlash(name)) }

func (r *reader) folder(name string, depth int) error {
	const deepest = 3 // agents/<name>/<folder>
	if depth > deepest {
		return nil
	}
	return r.walk(name, depth)
}

func isPolicyName(name string) bool {
	ext := strings.ToLower(path.Ext(name))
	return ext == ".yaml" || ext == ".yml"
}

func (r *reader) take(name string, info fs.FileInfo) {
	file := r.file(name)
	if _, ok := agentOf(name); !ok && strings.Contains(name, "/") {
		r.faults = append(r.faults, fault(file, "a policy in this place binds nobody: move it to %s for all agents, or to %s for one",
			r.dir, r.file(agentsDir+"/NAME")))
		return
	}
	if !info.Mode().IsRegular() {
		r.faults = append(r.faults, fault(file, "want a file, got %s", info.Mode().Type()))
		return
	}
	text, err := readFile(file)
	if err != nil {
		r.faults = append(r.faults, fault(file, "%v", err))
		return
	}
	if IsSuite(name) {
		if looksLikePolicy(file, text) {
			r.faults = append(r.faults, fault(file, "a name that ends in %s is that of tests, which bind nobody, and this is a policy: rename it", suiteEnding))
		}
		return
	}
	r.sources = append(r.sources, Source{Name: name, Text: text})
}

// readFile reads a file of at most maxFile bytes.
func readFile(file string) (string, error) {
	f, err := os.Open(file)
	if err != nil {
		return "", err
	}
	defer f.Close()
	var buf bytes.Buffer
	n, err := io.Copy(&buf, io.LimitReader(f, maxFile+1))
	if err != nil {
		return "", err
	}
	if n > maxFile {
		return "", fmt.Errorf("the file is larger than %d bytes; split it", maxFile)
	}
	return buf.String(), nil
}
