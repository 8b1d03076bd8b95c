package openleash_test

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"maps"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// docs/audit.md specifies the events of the log: those that the source can write, and no
// others. That each is written is proved by cmd/openleash/testdata/events.txtar.

var eventHeading = regexp.MustCompile("(?m)^### `([a-z_.]+)`$")

func TestEventsAreSpecified(t *testing.T) {
	var specified []string
	for _, m := range eventHeading.FindAllStringSubmatch(read(t, "docs/audit.md"), -1) {
		specified = append(specified, m[1])
	}
	slices.Sort(specified)
	written, unseen := eventsOf(t, sources(t, "."))
	for _, where := range unseen {
		t.Errorf("%s: no name of an event can be read here: want a string, a variable of this function that is given only strings, or a parameter that every caller gives such a one", where)
	}
	if diff := cmp.Diff(written, specified); diff != "" {
		t.Errorf("the events of the source (-) are not those of docs/audit.md (+):\n%s", diff)
	}
	if len(written) < 20 {
		t.Errorf("only %d events were found in the source", len(written))
	}
}

// TestFieldsOfTheLogAreDocumented: those of a line, no more and no fewer.
func TestFieldsOfTheLogAreDocumented(t *testing.T) {
	want := []string{"seq", "prev"}
	inspect(t, "audit/audit.go", func(n ast.Node) {
		spec, ok := n.(*ast.TypeSpec)
		if !ok || spec.Name.Name != "Entry" {
			return
		}
		for _, f := range spec.Type.(*ast.StructType).Fields.List {
			name, _, _ := strings.Cut(reflect.StructTag(text(f.Tag)).Get("json"), ",")
			want = append(want, name)
		}
	})
	var have []string
	for _, row := range regexp.MustCompile("(?m)^\\| (`[^|]*) \\|").FindAllStringSubmatch(section(t, "docs/audit.md", "All fields"), -1) {
		for _, name := range regexp.MustCompile("`([a-z_]+)`").FindAllStringSubmatch(row[1], -1) {
			have = append(have, name[1])
		}
	}
	slices.Sort(want)
	slices.Sort(have)
	if diff := cmp.Diff(want, have); diff != "" || len(want) < 30 {
		t.Errorf("audit.go has -, docs/audit.md has +:\n%s", diff)
	}
}

// TestEventsAreSeen shows the forms that eventsOf follows, and that it misses no other.
func TestEventsAreSeen(t *testing.T) {
	const head = "package p\nimport \"github.com/openleash/openleash-go/audit\"\n"
	for name, c := range map[string]struct {
		src    string
		want   []string
		unseen int
	}{
		"literal":    {`func f() any { return audit.Entry{Event: "a"} }`, []string{"a"}, 0},
		"in a list":  {`func f() any { return []audit.Entry{{Event: "a"}, {Event: "b"}} }`, []string{"a", "b"}, 0},
		"variable":   {`func f(x bool) any { e, d := "a", 1; if x { e = "b" }; return audit.Entry{Event: e, Detail: d} }`, []string{"a", "b"}, 0},
		"parameter":  {`func f(n int, e string) any { return audit.Entry{Event: e} }; func g(e string) { f(1, e) }; func h() { g("a"); f(2, "b") }`, []string{"a", "b"}, 0},
		"assigned":   {`func f() { var e audit.Entry; e.Detail, e.Event = "d", "a" }`, []string{"a"}, 0},
		"computed":   {`func f(x string) any { return audit.Entry{Event: "a" + x} }`, nil, 1},
		"of a call":  {`func f() any { e := name(); return audit.Entry{Event: e} }`, nil, 1},
		"no keys":    {`func f() any { return audit.Entry{"ts", "a"} }`, nil, 1},
		"none":       {`func f() any { return audit.Entry{Detail: "a"} }`, nil, 1},
		"as a value": {`func f(e string) any { return audit.Entry{Event: e} }; func g() { h(f); f("a") }`, []string{"a"}, 1},
		"two names":  {`func (a T) f(e string) any { return audit.Entry{Event: e} }; func (b U) f(e string) {}; func g() { x.f("a") }`, nil, 1},
		"by address": {`func f() { var e audit.Entry; set(&e.Event) }`, nil, 1},
	} {
		t.Run(name, func(t *testing.T) {
			set := token.NewFileSet()
			file, err := parser.ParseFile(set, "p.go", head+c.src, 0)
			if err != nil {
				t.Fatal(err)
			}
			got, unseen := eventsOf(t, []pack{{set, []*ast.File{file}}})
			if diff := cmp.Diff(c.want, got); diff != "" || len(unseen) != c.unseen {
				t.Errorf("unseen %v, want %d; events (-want +got):\n%s", unseen, c.unseen, diff)
			}
		})
	}
}

// pack is the files of one folder.
type pack struct {
	set   *token.FileSet
	files []*ast.File
}

// sources parses the program's packages: no tests, and nothing that only tests use.
func sources(t *testing.T, root string) (list []pack) {
	t.Helper()
	byDir := map[string]pack{}
	err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() && (path == "audit" || path == filepath.Join("store", "storetest") || d.Name() == "testdata" || d.Name() == "node_modules" || len(d.Name()) > 1 && d.Name()[0] == '.') {
			return fs.SkipDir
		}
		if !strings.HasSuffix(path, ".go") || strings.HasSuffix(path, "_test.go") {
			return nil
		}
		p, known := byDir[filepath.Dir(path)]
		if !known {
			p.set = token.NewFileSet()
		}
		file, err := parser.ParseFile(p.set, path, nil, 0)
		if err != nil {
			return err
		}
		p.files = append(p.files, file)
		byDir[filepath.Dir(path)] = p
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	for _, dir := range slices.Sorted(maps.Keys(byDir)) {
		list = append(list, byDir[dir])
	}
	return list
}

// eventsOf lists the events that packages can write, and the places where that cannot
// be read.
func eventsOf(t *testing.T, packs []pack) (events, unseen []string) {
	t.Helper()
	found := map[string]bool{}
	for _, p := range packs {
		s := &eventSearch{pack: p, found: found, followed: map[string]bool{}}
		for _, f := range p.files {
			if importsAudit(f) {
				s.inFile(f)
			}
		}
		unseen = append(unseen, s.unseen...)
	}
	return slices.Sorted(maps.Keys(found)), unseen
}

func importsAudit(f *ast.File) bool {
	return slices.ContainsFunc(f.Imports, func(i *ast.ImportSpec) bool {
		return strings.HasSuffix(i.Path.Value, `/openleash-go/audit"`)
	})
}

type eventSearch struct {
	pack
	found    map[string]bool
	followed map[string]bool // function and parameter
	unseen   []string
}

func (s *eventSearch) blind(at ast.Node) {
	s.unseen = append(s.unseen, s.set.Position(at.Pos()).String())
}

// inFile finds what becomes the event of an entry.
func (s *eventSearch) inFile(f *ast.File) {
	for _, d := range f.Decls {
		within, _ := d.(*ast.FuncDecl)
		ast.Inspect(d, func(n ast.Node) bool {
			switch n := n.(type) {
			case *ast.CompositeLit:
				s.literal(within, n)
			case *ast.AssignStmt:
				for i, left := range n.Lhs {
					if sel, ok := left.(*ast.SelectorExpr); ok && sel.Sel.Name == "Event" {
						s.value(within, assigned(n, i), n)
					}
				}
			case *ast.UnaryExpr:
				if sel, ok := n.X.(*ast.SelectorExpr); ok && n.Op == token.AND && sel.Sel.Name == "Event" {
					s.blind(n)
				}
			}
			return true
		})
	}
}

func (s *eventSearch) literal(within *ast.FuncDecl, n *ast.CompositeLit) {
	if isEntry(n.Type) {
		s.entry(within, n)
		return
	}
	if list, ok := n.Type.(*ast.ArrayType); ok && isEntry(list.Elt) {
		for _, e := range n.Elts {
			if inner, ok := e.(*ast.CompositeLit); ok && inner.Type == nil {
				s.entry(within, inner)
			}
		}
	}
}

func isEntry(e ast.Expr) bool {
	sel, ok := e.(*ast.SelectorExpr)
	if !ok || sel.Sel.Name != "Entry" {
		return false
	}
	x, ok := sel.X.(*ast.Ident)
	return ok && x.Name == "audit"
}

func (s *eventSearch) entry(within *ast.FuncDecl, n *ast.CompositeLit) {
	for _, e := range n.Elts {
		kv, ok := e.(*ast.KeyValueExpr)
		if !ok {
			break
		}
		if key, ok := kv.Key.(*ast.Ident); ok && key.Name == "Event" {
			s.value(within, kv.Value, n)
			return
		}
	}
	if len(n.Elts) > 0 { // an empty one is the beside of an error
		s.blind(n)
	}
}

// assigned is what the i-th name of a statement gets; nil: a part of a call's answer.
func assigned(n *ast.AssignStmt, i int) ast.Expr {
	if len(n.Lhs) != len(n.Rhs) || n.Tok != token.ASSIGN && n.Tok != token.DEFINE {
		return nil
	}
	return n.Rhs[i]
}

// value follows an expression to the strings that it can be.
func (s *eventSearch) value(within *ast.FuncDecl, e ast.Expr, at ast.Node) {
	switch e := e.(type) {
	case *ast.BasicLit:
		if name, err := strconv.Unquote(e.Value); err == nil && e.Kind == token.STRING {
			s.found[name] = true
			return
		}
	case *ast.Ident:
		if within != nil && s.variable(within, e.Name) {
			return
		}
	}
	s.blind(at)
}

// variable follows a name of a function: what is assigned to it, and what callers give.
func (s *eventSearch) variable(within *ast.FuncDecl, name string) (known bool) {
	mark := s.set.Position(within.Pos()).String() + name
	if s.followed[mark] {
		return true
	}
	s.followed[mark] = true
	ast.Inspect(within.Body, func(n ast.Node) bool {
		if a, ok := n.(*ast.AssignStmt); ok {
			for i, left := range a.Lhs {
				if id, ok := left.(*ast.Ident); ok && id.Name == name {
					known = true
					s.value(within, assigned(a, i), a)
				}
			}
		}
		return true
	})
	i := 0
	for _, field := range within.Type.Params.List {
		for _, id := range field.Names {
			if id.Name == name {
				known = true
				s.callers(within, i)
			}
			i++
		}
	}
	return known
}

// callers follows what is given as the i-th parameter of a function.
func (s *eventSearch) callers(of *ast.FuncDecl, i int) {
	if s.declared(of.Name.Name) != 1 {
		s.blind(of) // whose call is whose?
		return
	}
	for _, f := range s.files {
		for _, d := range f.Decls {
			within, _ := d.(*ast.FuncDecl)
			called := map[*ast.Ident]bool{}
			ast.Inspect(d, func(n ast.Node) bool {
				switch n := n.(type) {
				case *ast.CallExpr:
					if id := nameOf(n.Fun); id != nil && id.Name == of.Name.Name && len(n.Args) > i {
						called[id] = true
						s.value(within, n.Args[i], n)
					}
				case *ast.Ident:
					if n.Name == of.Name.Name && n != of.Name && !called[n] {
						s.blind(n) // used as a value
					}
				}
				return true
			})
		}
	}
}

func (s *eventSearch) declared(name string) (n int) {
	for _, f := range s.files {
		for _, d := range f.Decls {
			if fn, ok := d.(*ast.FuncDecl); ok && fn.Name.Name == name {
				n++
			}
		}
	}
	return n
}

func nameOf(fun ast.Expr) *ast.Ident {
	switch fun := fun.(type) {
	case *ast.Ident:
		return fun
	case *ast.SelectorExpr:
		return fun.Sel
	}
	return nil
}
