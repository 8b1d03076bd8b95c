package diff

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/openleash/openleash-go/action"
)

func parse(t *testing.T, s string) action.Value {
	t.Helper()
	v, err := action.Parse([]byte(s), action.Limits{})
	if err != nil {
		t.Fatal(err)
	}
	return v
}

func TestValues(t *testing.T) {
	old := parse(t, `{"to":"ann@example.com","n":1,"list":[1,{"a b":true}],"gone":null,"same":{"x":[1.10]},"body":"Dear Ann, see you on Monday at noon.","ask":"Please send me\nthe figures"}`)
	new := parse(t, `{"to":"bob@example.com","n":1.0,"list":[1,{"a b":false},3],"same":{"x":[1.10]},"body":"Hello Ann, see you on Tuesday at noon.","ask":"Could you get us\nour figures","more":{}}`)
	var got []string
	for _, c := range Values(old, new) {
		line := c.Path + ": " + string(c.Old.Raw()) + " → " + string(c.New.Raw())
		for _, p := range c.Words {
			line += " " + [...]string{"=", "-", "+"}[p.Op] + p.Text
		}
		got = append(got, line)
	}
	want := []string{
		`.to: "ann@example.com" → "bob@example.com" -ann +bob =@example.com`,
		`.list[1]["a b"]: true → false`,
		`.list[2]:  → 3`,
		`.body: "Dear Ann, see you on Monday at noon." → "Hello Ann, see you on Tuesday at noon." -Dear +Hello = Ann, see you on  -Monday +Tuesday = at noon.`,
		`.ask: "Please send me\nthe figures" → "Could you get us\nour figures" -Please send me +Could you get us =` + "\n" + ` -the +our = figures`,
		`.more:  → {}`,
		`.gone: null → `,
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	if Values(old, old) != nil || len(Values(old, action.Value{})) != 1 || Values(parse(t, `"a"`), parse(t, `1`))[0].Words != nil {
		t.Error("the whole")
	}
}

// A path is what a policy would say after $.
func TestPath(t *testing.T) {
	for _, key := range []string{"a", "a_1", "1a", "ä", "a b", `"`, "", "\u202e", "\n"} {
		old := action.ObjectValue(action.Member{Key: "v", Value: action.ObjectValue(action.Member{Key: key, Value: action.IntValue(1)})})
		changes := Values(old, parse(t, `{"v":{}}`))
		if len(changes) != 1 {
			t.Fatalf("%q: %v", key, changes)
		}
		path, err := action.ParsePath("$" + changes[0].Path)
		if err != nil {
			t.Fatal(err)
		}
		if found, ok := path.Lookup(old); !ok || found.Text() != "1" {
			t.Errorf("%q: %s leads to %v", key, changes[0].Path, found)
		}
	}
}

// Nothing that can be sent takes long: long texts, long words, many of both, many keys
// with one that has a twin, deep nesting.
func TestLong(t *testing.T) {
	text := strings.Repeat("a b c d\n", 500_000)
	var long, other, keys, more strings.Builder
	for i := range 900 {
		fmt.Fprintf(&long, `,"k%d":%q`, i, strings.Repeat("a b ", 500))
		fmt.Fprintf(&other, `,"k%d":%q`, i, strings.Repeat("b, c ", 500))
	}
	for i := range 100_000 {
		fmt.Fprintf(&keys, `,"k%d":%d`, i, i)
		fmt.Fprintf(&more, `,"k%d":%d`, i, i+i%3)
	}
	deep := func(end string) string {
		return strings.Repeat(`{"a":[`, 30) + `"` + end + strings.Repeat("x", 1<<20) + `"` + strings.Repeat("]}", 30)
	}
	for name, pair := range map[string][2]string{
		"one word":   {`"x"`, `"` + strings.Repeat("-=", 100_000) + `"`},
		"many texts": {"{" + long.String()[1:] + "}", "{" + other.String()[1:] + "}"},
		"many keys":  {`{"a":1,"A":2` + keys.String() + "}", `{"a":2,"A":1` + more.String() + "}"},
		"deep":       {deep("a"), deep("b")},
	} {
		old, err := action.Parse([]byte(pair[0]), action.Limits{CaseTwins: true})
		if err != nil {
			t.Fatal(name, err)
		}
		new, err := action.Parse([]byte(pair[1]), action.Limits{CaseTwins: true})
		if err != nil {
			t.Fatal(name, err)
		}
		began := time.Now()
		if Values(old, new) == nil {
			t.Errorf("%s: no difference", name)
		}
		if took := time.Since(began); took > 20*time.Second {
			t.Errorf("%s took %v", name, took)
		}
	}
	pieces := Words("begin\n"+text+"end", "begin\n"+strings.ToUpper(text)+"end")
	if len(pieces) != 4 || pieces[0].Text != "begin\n" || pieces[3].Text != "end" {
		t.Errorf("%d pieces", len(pieces))
	}
}

// All texts of a value together are compared with no more than one of them may be: a
// request with a thousand long ones is shown all the same.
func TestManyTextsHaveOneBudget(t *testing.T) {
	texts := func(word string) action.Value {
		var items []action.Value
		for range 300 {
			items = append(items, action.StringValue(strings.Repeat(word+" x ", 400)))
		}
		return action.ArrayValue(items...)
	}
	changes := Values(texts("a"), texts("b"))
	if len(changes) != 300 || len(changes[0].Words) < 100 || len(changes[299].Words) > 4 {
		t.Errorf("%d changes, the first in %d pieces, the last in %d", len(changes), len(changes[0].Words), len(changes[299].Words))
	}
}

// What was not inserted is the old text, and what was not deleted is the new one.
func FuzzWords(f *testing.F) {
	f.Add("a b c", "a x c")
	f.Add("", "\xff\u0301")
	f.Fuzz(func(t *testing.T, old, new string) {
		var before, after strings.Builder
		for _, p := range Words(old, new) {
			if p.Op != Insert {
				before.WriteString(p.Text)
			}
			if p.Op != Delete {
				after.WriteString(p.Text)
			}
		}
		if before.String() != old || after.String() != new {
			t.Errorf("%q and %q became %q and %q", old, new, before.String(), after.String())
		}
	})
}
