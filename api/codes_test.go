package api

import (
	"go/ast"
	"go/parser"
	"go/token"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// notCodes are words in capitals of these packages that no refusal has for a code.
var notCodes = []string{"DELETE", "DENY", "HEAD", "PATCH", "PENDING", "POST"}

var codeForm = regexp.MustCompile(`^([A-Z]{4,}|[A-Z]+(_[A-Z]+)+)$`)

// program is the syntax of a package without its tests.
func program(t *testing.T, dir string) (trees []*ast.File) {
	t.Helper()
	files, err := filepath.Glob(dir + "/*.go")
	if err != nil || len(files) == 0 {
		t.Fatalf("no files in %s: %v", dir, err)
	}
	for _, file := range files {
		if strings.HasSuffix(file, "_test.go") {
			continue
		}
		tree, err := parser.ParseFile(token.NewFileSet(), file, nil, 0)
		if err != nil {
			t.Fatal(err)
		}
		trees = append(trees, tree)
	}
	return trees
}

// codeOf is the code that an expression is; empty: it is none.
func codeOf(n ast.Node) string {
	lit, ok := n.(*ast.BasicLit)
	if !ok || lit.Kind != token.STRING {
		return ""
	}
	word, err := strconv.Unquote(lit.Value)
	if err != nil || !codeForm.MatchString(word) || slices.Contains(notCodes, word) {
		return ""
	}
	return word
}

// constants are those of a package that are codes, by name.
func constants(t *testing.T, dir string) map[string]string {
	codes := map[string]string{}
	for _, tree := range program(t, dir) {
		ast.Inspect(tree, func(n ast.Node) bool {
			if v, ok := n.(*ast.ValueSpec); ok && len(v.Values) == len(v.Names) {
				for i, name := range v.Names {
					if code := codeOf(v.Values[i]); code != "" {
						codes[name.Name] = code
					}
				}
			}
			return true
		})
	}
	return codes
}

// codesIn are the words of a package that can be a code: written out, or by the name that
// authz has for them.
func codesIn(t *testing.T, dir string, into map[string]bool) {
	ofDecisions := constants(t, "../authz")
	for _, tree := range program(t, dir) {
		ast.Inspect(tree, func(n ast.Node) bool {
			code := codeOf(n)
			if sel, ok := n.(*ast.SelectorExpr); ok {
				if from, ok := sel.X.(*ast.Ident); ok && from.Name == "authz" {
					code = ofDecisions[sel.Sel.Name]
				}
			}
			if code != "" {
				into[code] = true
			}
			return true
		})
	}
}

// docs/protocol.md lists exactly the codes that /v1 and the door before it can answer
// with.
func TestCodesAreDocumented(t *testing.T) {
	inCode := map[string]bool{}
	for _, dir := range []string{".", "../internal/door"} {
		codesIn(t, dir, inCode)
	}
	doc, err := os.ReadFile("../docs/protocol.md")
	if err != nil {
		t.Fatal(err)
	}
	_, section, _ := strings.Cut(string(doc), "\n### Error codes\n")
	section, _, _ = strings.Cut(section, "\n#")
	inDocs := map[string]bool{}
	for _, m := range regexp.MustCompile("(?m)^\\| `([A-Z_]+)` \\| [0-9]{3}").FindAllStringSubmatch(section, -1) {
		inDocs[m[1]] = true
	}
	for _, code := range slices.Sorted(maps.Keys(inCode)) {
		if !inDocs[code] {
			t.Errorf("%s is not in docs/protocol.md", code)
		}
		delete(inDocs, code)
	}
	for code := range inDocs {
		t.Errorf("%s is in docs/protocol.md, and nothing answers with it", code)
	}
}
