package strictyaml

import (
	"errors"
	"fmt"
	"math"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"gopkg.in/yaml.v3"
)

func TestParseRefuses(t *testing.T) {
	for _, test := range []struct{ name, src, want string }{
		{"empty", "", "f.yaml:1:1: the document is empty, want a mapping (name: value)"},
		{"comment only", "# nothing\n", "f.yaml:1:1: the document is empty, want a mapping (name: value)"},
		{"marker only", "---\n", "f.yaml:2:1: the document is empty, want a mapping (name: value)"},
		{"null", "~\n", "f.yaml:1:1: the document is empty, want a mapping (name: value)"},
		{"second document", "a: 1\n---\nb: 2\n", "f.yaml:2:1: a second document begins here, want one document: remove the ---"},
		{"broken second document", "a: 1\n---\nb: [\n", "f.yaml:4:1: not YAML: did not find expected node content, here or in what begins here"},
		{"byte-order mark", "\ufeffa: 1\n", "f.yaml:1:1: the file begins with a byte-order mark, want plain UTF-8: save it without one"},
		{"UTF-16", "\xff\xfea\x00", "f.yaml:1:1: the file begins with a byte-order mark, want plain UTF-8: save it without one"},
		{"Latin-1", "a: 1\nname: é\xe9\n", "f.yaml:2:8: the byte 0xe9 is not UTF-8: save the file as UTF-8"},
		{"tabs", "a:\n\tb: 1\n  \tc: 2\n", "f.yaml:2:1: a tab in the indentation: indent with spaces\nf.yaml:3:3: a tab in the indentation: indent with spaces"},
		{"too large", "a: " + strings.Repeat("x", 1<<20), "f.yaml:1:1: the file has 1048579 bytes, want at most 1048576"},
		{"syntax", "a: [1\nb: 2\n", "f.yaml:2:1: not YAML: did not find expected ',' or ']', here or in what begins here"},
		{"unknown anchor", "a: 1\nb: *b\n", "f.yaml:2:1: the alias *b has no anchor &b before it"},
		{"duplicate key", "a: 1\nb: 2\na: 3\n", `f.yaml:3:1: the key "a" stands here a second time, the first is on line 1`},
		{"duplicate key, quoted", "x:\n  a: 1\n  \"a\": 3\n", `f.yaml:3:3: the key "a" stands here a second time, the first is on line 2`},
		{"three duplicates", "a: 1\na: 2\nb: 1\nb: 2\n", "f.yaml:2:1: the key \"a\" stands here a second time, the first is on line 1\nf.yaml:4:1: the key \"b\" stands here a second time, the first is on line 3"},
		{"merge key", "a: &a {x: 1}\nb:\n  <<: *a\n", "f.yaml:3:3: merge keys (<<) are not read: repeat the fields here, or use an alias as a whole value"},
		{"number as key", "500: x\n", `f.yaml:1:1: want text as a key, got the number 500: write "500"`},
		{"bool as key", "true: x\n", `f.yaml:1:1: want text as a key, got true: write "true"`},
		{"null as key", "~: x\n", `f.yaml:1:1: want text as a key, got nothing: write "~"`},
		{"on as key", "on: x\n", `f.yaml:1:1: want text as a key, got on, which some readers take for true or false: write "on"`},
		{"mapping as key", "{a: 1}: x\n", "f.yaml:1:1: want text as a key, got a mapping"},
		{"list as key", "[a]: x\n", "f.yaml:1:1: want text as a key, got a list"},
		{"alias as key", "a: &k x\n*k : y\n", "f.yaml:2:1: an alias as a key: write the key itself"},
		{"tag", "a: !mine x\n", "f.yaml:1:4: tags like !mine are not read: write the value without it, text in quotes"},
		{"standard tag", "a: !!str 5\n", "f.yaml:1:4: tags like !!str are not read: write the value without it, text in quotes"},
		{"broken list", "top: 1\nrules:\n  - id: a\n    effect: allow\n   action: x\n", "f.yaml:3:1: not YAML: did not find expected '-' indicator, here or in what begins here"},
		{"a path with an index", "a: 1\nb: {path: $.x.y[0].z}\n", "f.yaml:2:1: not YAML: did not find expected ',' or '}', here or in what begins here; between braces a path with [ stands in quotes: '$.a[0]'"},
		{"a path of every item", "a: 1\nb: {path: $.x.y[*].z}\n", "f.yaml:2:1: not YAML: did not find expected alphabetic or numeric character; between braces a path with [ stands in quotes: '$.a[0]'"},
		{"mapping after a value", "a: 1\nb: c: d\n", "f.yaml:2:1: not YAML: mapping values are not allowed in this context"},
		{"tag of a list", "a: !set [x]\n", "f.yaml:1:4: tags like !set are not read: write the value without it, text in quotes"},
		{"tag of a mapping", "!!map {a: 1}\n", "f.yaml:1:1: tags like !!map are not read: write the value without it, text in quotes"},
		{"tag of a key", "!mine a: 1\n", "f.yaml:1:1: tags like !mine are not read: write the value without it, text in quotes"},
		{"binary", "a: !!binary aGk=\n", "f.yaml:1:4: tags like !!binary are not read: write the value without it, text in quotes"},
		{"circle", "a: &a [*a]\n", "f.yaml:1:4: an alias that contains itself"},
		{"laughs", laughs(), "f.yaml:1:1: the document has more than 100000 values when its aliases are followed"},
		{"deep", "a: " + strings.Repeat("[", 200) + strings.Repeat("]", 200), "f.yaml:1:103: nested too deep, want at most 100 levels"},
		{"deeper than the YAML parser goes", strings.Repeat("[", 100_000), "f.yaml:1:1: not YAML: exceeded max depth of 10000"},
	} {
		doc, err := Parse("f.yaml", []byte(test.src))
		if err == nil || doc != nil {
			t.Errorf("%s: accepted, or a document beside the error %v", test.name, err)
			continue
		}
		if diff := cmp.Diff(test.want, err.Error()); diff != "" {
			t.Errorf("%s (-want +got):\n%s", test.name, diff)
		}
		var one Error
		if !errors.As(err, &one) || one.File != "f.yaml" {
			t.Errorf("%s: errors.As finds no Error in %T", test.name, err)
		}
	}
}

// laughs is the document of a billion laughs.
func laughs() string {
	var b strings.Builder
	b.WriteString("a0: &a0 [x,x,x,x,x,x,x,x,x,x]\n")
	for i := range 9 {
		fmt.Fprintf(&b, "a%d: &a%d [%s*a%d]\n", i+1, i+1, strings.Repeat(fmt.Sprintf("*a%d,", i), 9), i)
	}
	return b.String()
}

func TestParseAccepts(t *testing.T) {
	for name, src := range map[string]string{
		"JSON":             `{"a": {"b": [1, true, null, "x"]}}`,
		"marker":           "%YAML 1.1\n---\na: 1\n...\n",
		"quoted merge key": "\"<<\": 1\n",
		"tab inside":       "a: 1\t# aligned\nb: \"\tx\"\n",
		"alias":            "a: &x [1, 2]\nb: *x\nc: *x\n",
		"scalar":           "just text\n",
		"no final newline": "a: 1",
		"CRLF":             "a: 1\r\nb:\r\n  - x\r\n",
	} {
		if _, err := Parse("f.yaml", []byte(src)); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// read parses src, which has one key v, and gives its node.
func read(t *testing.T, src string) (*Doc, *yaml.Node) {
	t.Helper()
	d, err := Parse("f.yaml", []byte(src))
	if err != nil {
		t.Fatal(err)
	}
	return d, d.Root.Content[1]
}

// fault is the one fault of d without its place, or "".
func fault(t *testing.T, d *Doc) string {
	t.Helper()
	err := d.Err()
	if err == nil {
		return ""
	}
	list := err.(ErrorList)
	if len(list) != 1 {
		t.Fatalf("%d faults: %v", len(list), err)
	}
	return list[0].Message
}

func TestString(t *testing.T) {
	const sixty = ", which some readers take for a number to the base of sixty: write "
	for _, test := range []struct{ src, want, fault string }{
		{`text`, "text", ""},
		{`"500"`, "500", ""},
		{`'yes'`, "yes", ""},
		{`"~"`, "~", ""},
		{`""`, "", ""},
		{`"12:30"`, "12:30", ""},
		{"|\n  500\n", "500\n", ""},
		{">-\n  yes\n", "yes", ""},
		{`2024-01-02`, "2024-01-02", ""},
		{`1.2.3`, "1.2.3", ""},
		{`127.0.0.1:8787`, "127.0.0.1:8787", ""},
		{`:8787`, ":8787", ""},
		{`8080:80`, "8080:80", ""},
		{`yesterday`, "yesterday", ""},
		{`500`, "", `name: want text, got the number 500: write "500"`},
		{`0500`, "", `name: want text, got the number 0500: write "0500"`},
		{`1.10`, "", `name: want text, got the number 1.10: write "1.10"`},
		{`1e3`, "", `name: want text, got the number 1e3: write "1e3"`},
		{`1_000`, "", `name: want text, got the number 1_000: write "1_000"`},
		{`.inf`, "", `name: want text, got the number .inf: write ".inf"`},
		{`true`, "", `name: want text, got true: write "true"`},
		{`False`, "", `name: want text, got False: write "False"`},
		{`yes`, "", `name: want text, got yes, which some readers take for true or false: write "yes"`},
		{`No`, "", `name: want text, got No, which some readers take for true or false: write "No"`},
		{`on`, "", `name: want text, got on, which some readers take for true or false: write "on"`},
		{`OFF`, "", `name: want text, got OFF, which some readers take for true or false: write "OFF"`},
		{`12:30`, "", `name: want text, got 12:30` + sixty + `"12:30"`},
		{`09:30:15.5`, "", `name: want text, got 09:30:15.5` + sixty + `"09:30:15.5"`},
		{`~`, "", "name: want text, got nothing"},
		{`null`, "", "name: want text, got nothing"},
		{``, "", "name: want text, got nothing"},
		{`[a]`, "", "name: want text, got a list"},
		{`{a: b}`, "", "name: want text, got a mapping"},
	} {
		d, n := read(t, "v: "+test.src)
		got, ok := d.String(n, "name")
		if got != test.want || ok != (test.fault == "") {
			t.Errorf("String(%s) = %q, %v, want %q", test.src, got, ok, test.want)
		}
		if diff := cmp.Diff(test.fault, fault(t, d)); diff != "" {
			t.Errorf("String(%s) (-want +got): %s", test.src, diff)
		}
	}
}

func TestInt(t *testing.T) {
	for _, test := range []struct {
		src   string
		want  int64
		fault string
	}{
		{`0`, 0, ""}, {`500`, 500, ""}, {`-7`, -7, ""}, {`9223372036854775807`, math.MaxInt64, ""}, {`-9223372036854775808`, math.MinInt64, ""},
		{`9223372036854775808`, 0, `n: "9223372036854775808" is too large, want a whole number of 64 bits`},
		{`0500`, 0, `n: want a whole number like 500, got 0500, which some readers take for octal: write it without leading zeros`},
		{`0o17`, 0, `n: want a whole number like 500, got 0o17: write it in decimal digits alone`},
		{`0999`, 0, `n: want a whole number like 500, got 0999, which some readers take for octal: write it without leading zeros`},
		{`00`, 0, `n: want a whole number like 500, got 00, which some readers take for octal: write it without leading zeros`},
		{`0x1F`, 0, `n: want a whole number like 500, got 0x1F: write it in decimal digits alone`},
		{`1_000`, 0, `n: want a whole number like 500, got 1_000: write it in decimal digits alone`},
		{`+5`, 0, `n: want a whole number like 500, got +5: write it in decimal digits alone`},
		{`1:30`, 0, `n: want a whole number like 500, got 1:30`},
		{`85.00`, 0, `n: want a whole number like 500, got 85.00`},
		{`1e3`, 0, `n: want a whole number like 500, got 1e3`},
		{`"500"`, 0, `n: want a whole number like 500, got the text "500": write it without quotes`},
		{`five`, 0, `n: want a whole number like 500, got the text "five"`},
		{`true`, 0, `n: want a whole number like 500, got true`},
		{``, 0, `n: want a whole number like 500, got nothing`},
		{`[1]`, 0, `n: want a whole number like 500, got a list`},
	} {
		d, n := read(t, "v: "+test.src)
		got, ok := d.Int(n, "n")
		if got != test.want || ok != (test.fault == "") {
			t.Errorf("Int(%s) = %d, %v, want %d", test.src, got, ok, test.want)
		}
		if diff := cmp.Diff(test.fault, fault(t, d)); diff != "" {
			t.Errorf("Int(%s) (-want +got): %s", test.src, diff)
		}
	}
}

func TestBool(t *testing.T) {
	for _, test := range []struct {
		src   string
		want  bool
		fault string
	}{
		{`true`, true, ""}, {`false`, false, ""}, {`True`, true, ""}, {`FALSE`, false, ""},
		{`yes`, false, `b: want true or false, got yes: write true`},
		{`off`, false, `b: want true or false, got off: write false`},
		{`"true"`, false, `b: want true or false, got the text "true": write true`},
		{`1`, false, `b: want true or false, got 1`},
		{`maybe`, false, `b: want true or false, got the text "maybe"`},
		{``, false, `b: want true or false, got nothing`},
		{`{}`, false, `b: want true or false, got a mapping`},
	} {
		d, n := read(t, "v: "+test.src)
		got, ok := d.Bool(n, "b")
		if got != test.want || ok != (test.fault == "") {
			t.Errorf("Bool(%s) = %v, %v, want %v", test.src, got, ok, test.want)
		}
		if diff := cmp.Diff(test.fault, fault(t, d)); diff != "" {
			t.Errorf("Bool(%s) (-want +got): %s", test.src, diff)
		}
	}
}

func TestListsAndChoices(t *testing.T) {
	const src = `
base: &base {id: a, effect: allow}
name: &name shop.example
domains: &domains [*name, b.example]
rules:
  - *base
  - {id: 5, effct: deny, effect: permit}
  - text
more: *domains
alone: b
mixed: [a, 5, yes]
none: []
`
	d, err := Parse("f.yaml", []byte(src))
	if err != nil {
		t.Fatal(err)
	}
	top := d.Fields(d.Root, "config", "base", "name", "domains", "rules", "more", "alone", "mixed", "none", "absent")
	for _, key := range []string{"domains", "more"} {
		if got, ok := d.Strings(top[key], key); !ok || !cmp.Equal(got, []string{"shop.example", "b.example"}) {
			t.Errorf("%s = %v, %v", key, got, ok)
		}
	}
	if got, ok := d.Strings(top["none"], "none"); !ok || got != nil {
		t.Errorf("none = %v, %v", got, ok)
	}
	if top["more"].Kind != yaml.SequenceNode {
		t.Error("Fields gives an alias, not what it stands for")
	}
	if err := d.Err(); err != nil {
		t.Error(err)
	}
	for i, rule := range d.List(top["rules"], "rules") {
		fields := d.Fields(rule, "rule", "id", "effect", "description")
		id, _ := d.String(fields["id"], "rule: id")
		effect, _ := d.OneOf(fields["effect"], "rule: effect", "allow", "deny")
		if i == 0 && (id != "a" || effect != "allow") {
			t.Errorf("first rule: %q, %q", id, effect)
		}
		if fields["description"] != nil || i == 2 && fields != nil {
			t.Errorf("rule %d: fields %v", i, fields)
		}
	}
	if got, ok := d.Strings(top["alone"], "alone"); ok || got != nil {
		t.Errorf("alone = %v, %v", got, ok)
	}
	if got, ok := d.Strings(top["mixed"], "mixed"); ok || !cmp.Equal(got, []string{"a"}) {
		t.Errorf("mixed = %v, %v", got, ok)
	}
	d.Errorf(nil, "the whole file")
	const want = `f.yaml:1:1: the whole file
f.yaml:7:10: rule: id: want text, got the number 5: write "5"
f.yaml:7:13: rule: unknown key "effct" (did you mean "effect"?)
f.yaml:7:34: rule: effect: want allow, deny, got "permit"
f.yaml:8:5: rule: want a mapping (name: value), got the text "text"
f.yaml:10:8: alone: want a list like [a, b], got the text "b"
f.yaml:11:12: mixed: want text, got the number 5: write "5"
f.yaml:11:15: mixed: want text, got yes, which some readers take for true or false: write "yes"`
	if diff := cmp.Diff(want, d.Err().Error()); diff != "" {
		t.Error("faults (-want +got):", diff)
	}
}

func TestEntries(t *testing.T) {
	d, n := read(t, "v: {b: 1, a: &x [2], c: *x}\n")
	var got []string
	for _, e := range d.Entries(n, "env") {
		got = append(got, fmt.Sprint(e.Key, e.KeyNode.Column, e.Value.Kind == yaml.SequenceNode))
	}
	if diff := cmp.Diff([]string{"b5 false", "a11 true", "c22 true"}, got); diff != "" {
		t.Error("entries (-want +got):", diff)
	}
	if got := d.Entries(n.Content[1], "env"); got != nil || fault(t, d) != "env: want a mapping (name: value), got 1" {
		t.Errorf("entries of a number: %v, %v", got, d.Err())
	}
}

func TestAbsentIsSilent(t *testing.T) {
	d, _ := read(t, "v: 1")
	_, s := d.String(nil, "x")
	_, i := d.Int(nil, "x")
	_, b := d.Bool(nil, "x")
	_, l := d.Strings(nil, "x")
	_, o := d.OneOf(nil, "x", "a")
	if s || i || b || l || o || d.Fields(nil, "x") != nil || d.Entries(nil, "x") != nil || d.List(nil, "x") != nil || d.Err() != nil {
		t.Errorf("an absent node is read, or a fault: %v", d.Err())
	}
}

func TestFaultsAreBounded(t *testing.T) {
	d, err := Parse("f.yaml", []byte(strings.Repeat("- {a: 1}\n", 10_000)))
	if err != nil {
		t.Fatal(err)
	}
	for _, n := range d.List(d.Root, "list") {
		d.Fields(n, "item", "b")
	}
	if got := len(d.Err().(ErrorList)); got != maxFaults {
		t.Errorf("%d faults, want %d", got, maxFaults)
	}
}

func TestOneFaultBehindTwoAliases(t *testing.T) {
	d, n := read(t, "v: [&x {a: 1}, *x]")
	for _, item := range d.List(n, "list") {
		d.Fields(item, "item", "b")
	}
	if got := fault(t, d); got != `item: unknown key "a" (did you mean "b"?)` {
		t.Errorf("fault %q", got)
	}
}

func TestDidYouMean(t *testing.T) {
	known := []string{"description", "effect", "id", "when", "allowed_domains", "blocked_domains"}
	for got, want := range map[string]string{
		"effct": "effect", "efefct": "effect", "Effect": "effect", "descripton": "description", "wen": "when", "ID": "id",
		"allow_domains": "allowed_domains", "something": "", "": "", strings.Repeat("effect", 100): "", "effect": "",
	} {
		if want != "" {
			want = fmt.Sprintf(" (did you mean %q?)", want)
		}
		if hint := DidYouMean(got, known); hint != want {
			t.Errorf("DidYouMean(%q) = %q, want %q", got, hint, want)
		}
	}
	if hint := DidYouMean("x", []string{strings.Repeat("y", 300)}); hint != "" {
		t.Errorf("a name of 300 letters is near: %s", hint)
	}
}

// Whatever the bytes, Parse and the readers return, and every fault has a place
// inside the file.
func FuzzParse(f *testing.F) {
	for _, seed := range []string{
		"a: 1\nb: [x, 'y', \"z\"]\n", "a: &a [*a]\n", "<<: {a: 1}\n", "a: !x y\n---\nb", "{a: {b: [1, true, null]}}", "\tx", "\ufeff", "? [a]\n: b\n",
		"a: |\n  x\n  y\nb: >-\n  z\n", "%YAML 1.1\n---\n- 0500\n- yes\n- 12:30\n- ~\n", "a: *b", "- - - -\n", "a: &x {k: *x}", "\"\\x\"", laughs(),
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, src []byte) {
		d, err := Parse("f.yaml", src)
		if err == nil {
			readAll(d, d.Root, "x")
			err = d.Err()
		} else if d != nil {
			t.Fatal("a document beside an error")
		}
		if err == nil {
			return
		}
		lines := strings.Count(string(src), "\n") + strings.Count(string(src), "\r") + strings.Count(string(src), "\u0085") +
			strings.Count(string(src), "\u2028") + strings.Count(string(src), "\u2029") + 1
		for _, e := range err.(ErrorList) {
			if e.Line < 1 || e.Line > lines+1 || e.Column < 1 || e.Message == "" {
				t.Fatalf("fault %+v in %d lines", e, lines)
			}
		}
	})
}

// readAll asks every node for everything.
func readAll(d *Doc, n *yaml.Node, what string) {
	d.String(n, what)
	d.Int(n, what)
	d.Bool(n, what)
	d.Strings(n, what)
	d.OneOf(n, what, "a", "b")
	d.Fields(n, what, "a", "b")
	if n.Kind == yaml.MappingNode {
		for _, e := range d.Entries(n, what) {
			readAll(d, e.Value, e.Key)
		}
	}
	if n.Kind == yaml.SequenceNode {
		for _, item := range d.List(n, what) {
			readAll(d, item, what)
		}
	}
}

func TestExcerpt(t *testing.T) {
	for _, tc := range []struct {
		e    Error
		want string
	}{
		{Error{Line: 6, Column: 13, Source: "    effect: alow\r"}, "6 |     effect: alow\n  |             ^\n"},
		{Error{Line: 12, Column: 1, Source: "a: \x1b[31mred"}, "12 | a: \ufffd[31mred\n   | ^\n"},
		{Error{Line: 1, Column: 5, Source: "\tx: ü y"}, "1 |  x: ü y\n  |     ^\n"},
		{Error{Line: 1, Column: 900, Source: "short"}, "1 | short\n  |      ^\n"},
		{Error{Line: 1, Column: 300, Source: strings.Repeat("x", 299) + "Y" + strings.Repeat("z", 400)},
			"1 | " + strings.Repeat("x", 60) + "Y" + strings.Repeat("z", 59) + "\n  | " + strings.Repeat(" ", 60) + "^\n"},
		{Error{Line: 9, Column: 1}, ""},
	} {
		if got := tc.e.Excerpt(); got != tc.want {
			t.Errorf("%q:\ngot\n%s\nwant\n%s", tc.e.Source, got, tc.want)
		}
	}
}
