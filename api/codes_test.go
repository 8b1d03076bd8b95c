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

	"github.com/google/go-cmp/cmp"
)

// notCodes are words in capitals of these packages that no refusal has for a code.
var notCodes = []string{"DELETE", "DENY", "HEAD", "PATCH", "PENDING", "POST"}

var codeForm = regexp.MustCompile(`^([A-Z]{4,}|[A-Z]+(_[A-Z]+)+)$`)

// codesIn are the words of a package's program that can be a code.
func codesIn(t *testing.T, dir string, into map[string]bool) {
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
		ast.Inspect(tree, func(n ast.Node) bool {
			if lit, ok := n.(*ast.BasicLit); ok && lit.Kind == token.STRING {
				word, err := strconv.Unquote(lit.Value)
				if err == nil && codeForm.MatchString(word) && !slices.Contains(notCodes, word) {
					into[word] = true
				}
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
	if diff := cmp.Diff(slices.Sorted(maps.Keys(inCode)), slices.Sorted(maps.Keys(inDocs))); diff != "" {
		t.Errorf("codes (-code +docs/protocol.md):\n%s", diff)
	}
}
