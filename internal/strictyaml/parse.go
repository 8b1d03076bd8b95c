package strictyaml

import (
	"bytes"
	"errors"
	"io"
	"regexp"
	"strconv"
	"strings"
	"unicode/utf8"

	"gopkg.in/yaml.v3"
)

const (
	maxBytes = 1 << 20
	maxNodes = 100_000 // with every alias counted as all that it stands for
	maxDepth = 100
)

// Parse reads src and checks it as a tree: one document, at most 1 MiB and a
// bounded number of nodes and aliases, no duplicate keys, no merge keys. The
// error is an ErrorList.
func Parse(file string, src []byte) (*Doc, error) {
	d := &Doc{File: file}
	if len(src) <= maxBytes {
		d.lines = strings.Split(string(src), "\n")
	}
	d.checkBytes(src)
	if err := d.Err(); err != nil {
		return nil, err
	}
	d.decode(src)
	if err := d.Err(); err != nil {
		return nil, err
	}
	w := walker{doc: d, sizes: make(map[*yaml.Node]int)}
	if w.walk(d.Root, 1) > maxNodes && d.Err() == nil {
		d.Errorf(d.Root, "the document has more than %d values when its aliases are followed", maxNodes)
	}
	if err := d.Err(); err != nil {
		return nil, err
	}
	d.Root = resolve(d.Root)
	return d, nil
}

// checkBytes finds what is wrong before any YAML is read.
func (d *Doc) checkBytes(src []byte) {
	if len(src) > maxBytes {
		d.errorAt(1, 1, "the file has %d bytes, want at most %d", len(src), maxBytes)
		return
	}
	if bytes.HasPrefix(src, []byte("\ufeff")) || bytes.HasPrefix(src, []byte("\xff\xfe")) || bytes.HasPrefix(src, []byte("\xfe\xff")) {
		d.errorAt(1, 1, "the file begins with a byte-order mark, want plain UTF-8: save it without one")
		return
	}
	line := 0
	for text := range bytes.Lines(src) {
		line++
		if i := invalidUTF8(text); i >= 0 {
			d.errorAt(line, column(text, i), "the byte 0x%02x is not UTF-8: save the file as UTF-8", text[i])
			return
		}
		indent := text[:len(text)-len(bytes.TrimLeft(text, " \t"))]
		if i := bytes.IndexByte(indent, '\t'); i >= 0 {
			d.errorAt(line, column(text, i), "a tab in the indentation: indent with spaces")
		}
	}
}

func invalidUTF8(text []byte) int {
	for i := 0; i < len(text); {
		r, size := utf8.DecodeRune(text[i:])
		if r == utf8.RuneError && size <= 1 {
			return i
		}
		i += size
	}
	return -1
}

// column counts characters from 1, as yaml.Node does.
func column(line []byte, offset int) int { return utf8.RuneCount(line[:offset]) + 1 }

// decode reads the one document into d.Root.
func (d *Doc) decode(src []byte) {
	dec := yaml.NewDecoder(bytes.NewReader(src))
	var doc, second yaml.Node
	switch err := dec.Decode(&doc); {
	case errors.Is(err, io.EOF):
		d.errorAt(1, 1, "the document is empty, want a mapping (name: value)")
		return
	case err != nil:
		d.syntaxError(src, err)
		return
	}
	switch err := dec.Decode(&second); {
	case err == nil:
		d.Errorf(&second, "a second document begins here, want one document: remove the ---")
	case !errors.Is(err, io.EOF):
		d.syntaxError(src, err)
	}
	d.Root = doc.Content[0]
	if d.Root.ShortTag() == "!!null" {
		d.Errorf(d.Root, "the document is empty, want a mapping (name: value)")
	}
}

var (
	syntaxLine    = regexp.MustCompile(`^(?:yaml: )?(?:line (\d+): )?`)
	unknownAnchor = regexp.MustCompile(`^unknown anchor '(.*)' referenced$`)
	// brokenOff are the errors for which yaml.v3 counts lines from 0, and often
	// names the line on which the broken list, mapping or bracket begins.
	brokenOff = regexp.MustCompile(`^did not find expected (node content|'-' indicator|key|',' or '[\]}]'|<document start>)`)
	// barePath is a path with brackets that lacks the quotes which it needs between
	// braces.
	barePath = regexp.MustCompile(`\{.*[ :]\$\.[\w.]*\[`)
)

// syntaxError notes an error of the YAML parser, which tells a line at best.
func (d *Doc) syntaxError(src []byte, err error) {
	text := err.Error()
	m := syntaxLine.FindStringSubmatch(text)
	text = strings.TrimPrefix(text, m[0])
	line, convErr := strconv.Atoi(m[1])
	if convErr != nil {
		line = 1
	}
	if anchor := unknownAnchor.FindStringSubmatch(text); anchor != nil {
		before, _, _ := bytes.Cut(src, []byte("*"+anchor[1]))
		d.errorAt(bytes.Count(before, []byte("\n"))+1, 1, "the alias *%s has no anchor &%s before it", anchor[1], anchor[1])
		return
	}
	if brokenOff.MatchString(text) {
		if convErr == nil {
			line++
		}
		text += ", here or in what begins here"
	}
	line = min(line, len(d.lines)) // where it ends too early the parser names the line after
	if line >= 1 && line <= len(d.lines) && barePath.MatchString(d.lines[line-1]) {
		text += "; between braces a path with [ stands in quotes: '$.a[0]'"
	}
	d.errorAt(line, 1, "not YAML: %s", text)
}

// A walker checks every node once and counts what each amounts to.
type walker struct {
	doc   *Doc
	sizes map[*yaml.Node]int // of nodes done; open marks those on the way
}

const open = -1

// walk checks n and what is below it, and returns how many nodes that is when
// aliases are followed, or anything above maxNodes.
func (w *walker) walk(n *yaml.Node, depth int) int {
	switch size, seen := w.sizes[n]; {
	case seen && size == open:
		w.doc.Errorf(n, "an alias that contains itself")
		return maxNodes + 1
	case seen:
		return size
	case depth > maxDepth:
		w.doc.Errorf(n, "nested too deep, want at most %d levels", maxDepth)
		return 1
	}
	w.sizes[n] = open
	w.check(n)
	size := 1
	if n.Alias != nil {
		size += w.walk(n.Alias, depth+1)
	}
	for _, child := range n.Content {
		size = min(size+w.walk(child, depth+1), maxNodes+1)
	}
	w.sizes[n] = size
	return size
}

func (w *walker) check(n *yaml.Node) {
	if n.Style&yaml.TaggedStyle != 0 || n.Kind != yaml.ScalarNode && !strings.HasPrefix(n.ShortTag(), "!!") {
		w.doc.Errorf(n, "tags like %s are not read: write the value without it, text in quotes", n.Tag)
	}
	if n.Kind == yaml.MappingNode {
		w.checkKeys(n)
	}
}

func (w *walker) checkKeys(n *yaml.Node) {
	first := make(map[string]*yaml.Node, len(n.Content)/2)
	for key := range pairs(n) {
		if !w.checkKey(key) {
			continue
		}
		if before, ok := first[key.Value]; ok {
			w.doc.Errorf(key, "the key %s stands here a second time, the first is on line %d", quote(key.Value), before.Line)
			continue
		}
		first[key.Value] = key
	}
}

// checkKey accepts keys that every reader takes for the same text.
func (w *walker) checkKey(key *yaml.Node) bool {
	switch {
	case key.Kind == yaml.AliasNode:
		w.doc.Errorf(key, "an alias as a key: write the key itself")
	case key.Kind != yaml.ScalarNode:
		w.doc.Errorf(key, "want text as a key, got %s", describe(key))
	case key.ShortTag() == "!!merge":
		w.doc.Errorf(key, "merge keys (<<) are not read: repeat the fields here, or use an alias as a whole value")
	case notText(key) != "":
		w.doc.Errorf(key, "want text as a key, got %s: write %s", notText(key), quote(key.Value))
	default:
		return true
	}
	return false
}

// resolve returns what an alias stands for. Parse has made sure that it ends.
func resolve(n *yaml.Node) *yaml.Node {
	for n != nil && n.Kind == yaml.AliasNode {
		n = n.Alias
	}
	return n
}
