package strictyaml

import (
	"iter"
	"math"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

	"gopkg.in/yaml.v3"
)

// pairs yields the keys and values of a mapping.
func pairs(n *yaml.Node) iter.Seq2[*yaml.Node, *yaml.Node] {
	return func(yield func(key, value *yaml.Node) bool) {
		for i := 0; i+1 < len(n.Content); i += 2 {
			if !yield(n.Content[i], n.Content[i+1]) {
				return
			}
		}
	}
}

// Fields reads a mapping whose keys must be among known; an unknown key is a
// fault with "did you mean". what names the mapping in messages ("rule").
// A node that is no mapping is a fault and gives nil; so does a nil node,
// without a fault.
func (d *Doc) Fields(n *yaml.Node, what string, known ...string) map[string]*yaml.Node {
	n, ok := d.mapping(n, what)
	if !ok {
		return nil
	}
	fields := make(map[string]*yaml.Node, len(n.Content)/2)
	for key, value := range pairs(n) {
		if !slices.Contains(known, key.Value) {
			d.Errorf(key, "%s: unknown key %s%s", what, quote(key.Value), hint(key.Value, known))
			continue
		}
		fields[key.Value] = resolve(value)
	}
	return fields
}

// hint says what was meant, or all that may stand there.
func hint(got string, known []string) string {
	if near := DidYouMean(got, known); near != "" {
		return near
	}
	return ", want one of " + strings.Join(known, ", ")
}

// An Entry is one key of a mapping whose keys are names of the user's own.
type Entry struct {
	Key     string
	KeyNode *yaml.Node // for faults about the key
	Value   *yaml.Node
}

// Entries reads a mapping with any keys, in file order. Otherwise it is like Fields.
func (d *Doc) Entries(n *yaml.Node, what string) []Entry {
	n, ok := d.mapping(n, what)
	if !ok {
		return nil
	}
	entries := make([]Entry, 0, len(n.Content)/2)
	for key, value := range pairs(n) {
		entries = append(entries, Entry{key.Value, key, resolve(value)})
	}
	return entries
}

func (d *Doc) mapping(n *yaml.Node, what string) (*yaml.Node, bool) {
	n = resolve(n)
	if n == nil {
		return nil, false
	}
	if n.Kind != yaml.MappingNode {
		d.Errorf(n, "%s: want a mapping (name: value), got %s", what, describe(n))
		return nil, false
	}
	return n, true
}

// List reads a list and returns its items. A node that is no list is a fault
// and gives nil; so does a nil node, without a fault.
func (d *Doc) List(n *yaml.Node, what string) []*yaml.Node {
	n = resolve(n)
	if n == nil {
		return nil
	}
	if n.Kind != yaml.SequenceNode {
		d.Errorf(n, "%s: want a list like [a, b], got %s", what, describe(n))
		return nil
	}
	items := make([]*yaml.Node, len(n.Content))
	for i, item := range n.Content {
		items[i] = resolve(item)
	}
	return items
}

// String reads text. Like Int, Bool, Strings and OneOf it notes a fault when
// the node has another type (500 where "500" was wanted); then, and for a nil
// node, ok is false and the value is zero.
func (d *Doc) String(n *yaml.Node, what string) (s string, ok bool) {
	n = resolve(n)
	switch {
	case n == nil:
		return "", false
	case n.Kind != yaml.ScalarNode || isNull(n):
		d.Errorf(n, "%s: want text, got %s", what, describe(n))
		return "", false
	case notText(n) != "":
		d.Errorf(n, "%s: want text, got %s: write %s", what, notText(n), quote(n.Value))
		return "", false
	}
	return n.Value, true
}

var (
	decimalInt  = regexp.MustCompile(`^-?(0|[1-9][0-9]*)$`)
	leadingZero = regexp.MustCompile(`^[-+]?0[0-9_]+$`)
	sexagesimal = regexp.MustCompile(`^[-+]?[0-9][0-9_]*(:[0-5]?[0-9])+(\.[0-9_]*)?$`)
)

// Int reads a whole number of 64 bits, written in plain decimal digits.
func (d *Doc) Int(n *yaml.Node, what string) (i int64, ok bool) {
	n = resolve(n)
	if n == nil {
		return 0, false
	}
	if n.Kind != yaml.ScalarNode || n.Style != 0 || !decimalInt.MatchString(n.Value) {
		d.Errorf(n, "%s: want a whole number like 500, got %s%s", what, describe(n), intAdvice(n))
		return 0, false
	}
	i, err := strconv.ParseInt(n.Value, 10, 64)
	if err != nil {
		d.Errorf(n, "%s: %s is too large, want a whole number of 64 bits", what, quote(n.Value))
		return 0, false
	}
	return i, true
}

// intAdvice tells what to write for a scalar that nearly is a whole number.
func intAdvice(n *yaml.Node) string {
	switch {
	case n.Kind != yaml.ScalarNode:
		return ""
	case n.Style != 0 && decimalInt.MatchString(n.Value):
		return ": write it without quotes"
	case leadingZero.MatchString(n.Value):
		return ", which some readers take for octal: write it without leading zeros"
	case n.Style == 0 && n.ShortTag() == "!!int":
		return ": write it in decimal digits alone"
	}
	return ""
}

// Bool reads true or false.
func (d *Doc) Bool(n *yaml.Node, what string) (b, ok bool) {
	n = resolve(n)
	switch {
	case n == nil:
		return false, false
	case n.Kind == yaml.ScalarNode && n.ShortTag() == "!!bool":
		return strings.EqualFold(n.Value, "true"), true
	}
	d.Errorf(n, "%s: want true or false, got %s%s", what, describe(n), boolAdvice(n))
	return false, false
}

func boolAdvice(n *yaml.Node) string {
	if n.Kind != yaml.ScalarNode {
		return ""
	}
	switch strings.ToLower(n.Value) {
	case "yes", "on", "true":
		return ": write true"
	case "no", "off", "false":
		return ": write false"
	}
	return ""
}

// Strings reads a list of texts. One that is not text is a fault and makes ok
// false; the others are returned.
func (d *Doc) Strings(n *yaml.Node, what string) (s []string, ok bool) {
	n = resolve(n)
	if n == nil {
		return nil, false
	}
	ok = n.Kind == yaml.SequenceNode
	for _, item := range d.List(n, what) {
		text, isText := d.String(item, what)
		if !isText {
			ok = false
			continue
		}
		s = append(s, text)
	}
	return s, ok
}

// OneOf reads a string that must be one of allowed.
func (d *Doc) OneOf(n *yaml.Node, what string, allowed ...string) (string, bool) {
	s, ok := d.String(n, what)
	if !ok {
		return "", false
	}
	if !slices.Contains(allowed, s) {
		d.Errorf(resolve(n), "%s: want %s, got %s%s", what, strings.Join(allowed, ", "), quote(s), DidYouMean(s, allowed))
		return "", false
	}
	return s, true
}

func isNull(n *yaml.Node) bool { return n.ShortTag() == "!!null" }

// notText says what a plain scalar is, or is for another reader, when it is not
// text; "" for text.
func notText(n *yaml.Node) string {
	if n.Kind != yaml.ScalarNode || n.Style != 0 {
		return ""
	}
	switch n.ShortTag() {
	case "!!int", "!!float":
		return "the number " + n.Value
	case "!!bool":
		return n.Value
	case "!!null":
		return "nothing"
	}
	switch strings.ToLower(n.Value) {
	case "yes", "no", "on", "off":
		return n.Value + ", which some readers take for true or false"
	}
	if sexagesimal.MatchString(n.Value) {
		return n.Value + ", which some readers take for a number to the base of sixty"
	}
	return ""
}

// describe names a node for messages.
func describe(n *yaml.Node) string {
	switch n.Kind {
	case yaml.MappingNode:
		return "a mapping"
	case yaml.SequenceNode:
		return "a list"
	case yaml.AliasNode:
		return "an alias"
	}
	if isNull(n) {
		return "nothing"
	}
	if n.Style != 0 || n.ShortTag() == "!!str" && notText(n) == "" {
		return "the text " + quote(n.Value)
	}
	return quote(n.Value)[1 : len(quote(n.Value))-1]
}

// quote shows text in a message, but not at any length.
func quote(s string) string {
	const most = 60
	if utf8.RuneCountInString(s) > most {
		s = string([]rune(s)[:most]) + "…"
	}
	return strconv.Quote(s)
}

// DidYouMean returns ` (did you mean "x"?)` for the nearest of candidates, or "".
func DidYouMean(got string, candidates []string) string {
	best, nearest := 0, ""
	for _, c := range candidates {
		d := distance(strings.ToLower(got), strings.ToLower(c))
		if d <= max(1, len(c)/3) && (nearest == "" || d < best) {
			best, nearest = d, c
		}
	}
	if nearest == "" || nearest == got {
		return ""
	}
	return " (did you mean " + strconv.Quote(nearest) + "?)"
}

// distance counts the letters to insert, remove, replace or swap with their
// neighbour to get from a to b; texts that are too long for a name are far.
func distance(a, b string) int {
	const name = 64
	if len(a) > name || len(b) > name {
		return math.MaxInt
	}
	var older, old, row [name + 1]int
	for j := range len(b) + 1 {
		row[j] = j
	}
	for i := 1; i <= len(a); i++ {
		older, old = old, row
		row[0] = i
		for j := 1; j <= len(b); j++ {
			row[j] = min(old[j]+1, row[j-1]+1, old[j-1]+unequal(a[i-1], b[j-1]))
			if i > 1 && j > 1 && a[i-1] == b[j-2] && a[i-2] == b[j-1] {
				row[j] = min(row[j], older[j-2]+1)
			}
		}
	}
	return row[len(b)]
}

func unequal(a, b byte) int {
	if a == b {
		return 0
	}
	return 1
}
