package policy

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
	"strings"

	"gopkg.in/yaml.v3"
)

// Format writes a policy in the one form: keys in the order of docs/policy.md,
// two spaces of indentation, an empty line between rules. What it means stays, and
// so do comments; where that cannot be made sure of it is an error. The policy must be
// valid.
func Format(file string, src []byte) ([]byte, error) {
	if _, err := Parse("p", file, src); err != nil {
		return nil, err
	}
	var doc yaml.Node
	if err := yaml.Unmarshal(src, &doc); err != nil {
		return nil, fmt.Errorf("%s: %w", file, err)
	}
	inOrder(doc.Content[0], policyOrder)
	var out bytes.Buffer
	enc := yaml.NewEncoder(&out)
	enc.SetIndent(2)
	if err := errors.Join(enc.Encode(&doc), enc.Close()); err != nil {
		return nil, fmt.Errorf("%s: %w", file, err)
	}
	formatted := apart(out.Bytes())
	if err := sameMeaning(src, formatted); err != nil {
		return nil, fmt.Errorf("%s: it cannot be formatted without a loss: %w", file, err)
	}
	return formatted, nil
}

// order is the order of the keys of a mapping, and of those below it, by key. A
// list has the order of its items.
type order struct {
	keys  []string
	below map[string]*order
}

var policyOrder = makeOrder()

func makeOrder() *order {
	condition := &order{keys: keysIn[conditionForm]()}
	condition.below = map[string]*order{"all": condition, "any": condition, "not": condition, "match": {keys: keysIn[matchForm]()}}
	rule := &order{keys: keysIn[ruleForm](), below: map[string]*order{
		"when": condition, "constraints": {keys: keysIn[constraintsForm]()}, "requirements": {keys: keysIn[requirementsForm]()},
		"obligations": {keys: keysIn[obligationForm]()}, "proof": {keys: keysIn[proofForm]()}, "schedule": {keys: keysIn[scheduleForm]()},
		"limits": {keys: keysIn[limitForm]()},
	}}
	return &order{keys: keysIn[policyForm](), below: map[string]*order{"rules": rule, "limits": {keys: keysIn[limitForm]()}, "log": {keys: keysIn[logForm]()}}}
}

// inOrder sorts the keys of a node and of what is below it.
func inOrder(n *yaml.Node, o *order) {
	if o == nil {
		return
	}
	if n.Kind == yaml.SequenceNode {
		for _, item := range n.Content {
			inOrder(item, o)
		}
		return
	}
	if n.Kind != yaml.MappingNode {
		return
	}
	type pair struct{ key, value *yaml.Node }
	var pairs []pair
	for i := 0; i+1 < len(n.Content); i += 2 {
		pairs = append(pairs, pair{n.Content[i], n.Content[i+1]})
		inOrder(n.Content[i+1], o.below[n.Content[i].Value])
	}
	head := ""
	if len(pairs) > 0 { // what stands above all is about all
		head, pairs[0].key.HeadComment = pairs[0].key.HeadComment, ""
	}
	slices.SortStableFunc(pairs, func(a, b pair) int { return o.place(a.key.Value) - o.place(b.key.Value) })
	if head != "" {
		pairs[0].key.HeadComment = strings.Trim(head+"\n"+pairs[0].key.HeadComment, "\n")
	}
	n.Content = n.Content[:0]
	for _, p := range pairs {
		n.Content = append(n.Content, p.key, p.value)
	}
}

// place is where a key stands; those that the order does not know come last.
func (o *order) place(key string) int {
	if i := slices.Index(o.keys, key); i >= 0 {
		return i
	}
	return len(o.keys)
}

// apart puts empty lines before rules and before comments about what stands at
// the margin, as the encoder does not. Rules on one line stand together.
func apart(src []byte) []byte {
	var out []string
	lines := strings.Split(string(src), "\n")
	for i, line := range lines {
		if i > 0 && beginsPart(lines[i:]) && !staysWith(out[len(out)-1], line) {
			out = append(out, "")
		}
		out = append(out, line)
	}
	return []byte(strings.Join(out, "\n"))
}

// beginsPart tells a rule, the list of them, and comments before them.
func beginsPart(lines []string) bool {
	return strings.HasPrefix(lines[0], "  - ") || lines[0] == "rules:" || lines[0] == "limits:" || lines[0] == "log:" || strings.HasPrefix(lines[0], "#") ||
		strings.HasPrefix(lines[0], "  #") && nextBegins(lines[1:])
}

// staysWith tells that no empty line comes between two lines.
func staysWith(before, line string) bool {
	return before == "" || before == "rules:" || before == "limits:" || before == "log:" || strings.HasPrefix(strings.TrimSpace(before), "#") || oneLine(before) && oneLine(line)
}

// oneLine is a rule on one line.
func oneLine(line string) bool {
	return strings.HasPrefix(line, "  - {") && strings.HasSuffix(line, "}")
}

// nextBegins tells that a rule follows the comments.
func nextBegins(lines []string) bool {
	for _, line := range lines {
		if !strings.HasPrefix(strings.TrimSpace(line), "#") {
			return strings.HasPrefix(line, "  - ")
		}
	}
	return false
}

// sameMeaning compares two texts as data, and their comments.
func sameMeaning(a, b []byte) error {
	var x, y any
	if err := errors.Join(yaml.Unmarshal(a, &x), yaml.Unmarshal(b, &y)); err != nil {
		return err
	}
	if fmt.Sprint(x) != fmt.Sprint(y) {
		return errors.New("the values would differ")
	}
	if was, is := comments(a), comments(b); !slices.Equal(was, is) {
		return errors.New("a comment would be lost or changed")
	}
	return nil
}

// comments are the words of all comments, sorted.
func comments(src []byte) (words []string) {
	var doc yaml.Node
	if yaml.Unmarshal(src, &doc) != nil {
		return nil
	}
	var walk func(n *yaml.Node)
	walk = func(n *yaml.Node) {
		for _, c := range []string{n.HeadComment, n.LineComment, n.FootComment} {
			words = append(words, strings.Fields(c)...)
		}
		for _, child := range n.Content {
			walk(child)
		}
	}
	walk(&doc)
	slices.Sort(words)
	return words
}
