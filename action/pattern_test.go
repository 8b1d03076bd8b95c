package action

import (
	"strings"
	"testing"
)

// leadsTo are the paths of what a pattern means in a value, and of what it cannot be
// followed in.
func leadsTo(p Pattern, at string, v Value) (list []string) {
	if p.Ends() || !p.Fits(v) {
		return []string{at}
	}
	for i := range v.Len() {
		if rest, leads := p.Into(v, i); leads {
			list = append(list, leadsTo(rest, at+v.Step(i), v.At(i).Value)...)
		}
	}
	return list
}

func TestPattern(t *testing.T) {
	v, err := Parse([]byte(`{"payload":{"to":[{"n":"a"},{"N":"b"},"c",[{"n":"d"}]],"Body":{"x.y":1,"Ω\"":2},"ſ":3}}`), Limits{})
	if err != nil {
		t.Fatal(err)
	}
	for _, tc := range []struct{ pattern, want string }{
		{"$.payload", "$.payload"},
		{"$.payload.to", "$.payload.to"},
		{"$.payload.to[*]", "$.payload.to[0] $.payload.to[1] $.payload.to[2] $.payload.to[3]"},
		{"$.payload.to[1]", "$.payload.to[1]"},
		{"$.payload.to[9]", ""},
		// A text and a list stand where an object was meant.
		{"$.payload.to[*].n", "$.payload.to[0].n $.payload.to[1].N $.payload.to[2] $.payload.to[3]"},
		{"$.payload.to.n", "$.payload.to"},
		{"$.payload.body[*]", "$.payload.Body"},
		{"$.payload.body.other", ""},
		{`$.payload.BODY["X.y"]`, `$.payload.Body["x.y"]`},
		{`$.payload.body["ω\""]`, `$.payload.Body["Ω\""]`},
		{"$.payload.S", `$.payload["ſ"]`},
		{"$.payload.b", ""},
	} {
		p, err := ParsePattern(tc.pattern)
		if err != nil || p.String() != tc.pattern {
			t.Fatalf("%s: %v, %v", tc.pattern, p, err)
		}
		if got := strings.Join(leadsTo(p, "$", v), " "); got != tc.want {
			t.Errorf("%s leads to %s, want %s", tc.pattern, got, tc.want)
		}
	}
	if _, err := ParsePattern("$.payload[*"); err == nil || !strings.Contains(err.Error(), "character 12") {
		t.Errorf("a broken one: %v", err)
	}
}

// What a path leads to, a pattern of the same text leads to.
func FuzzPattern(f *testing.F) {
	for _, seed := range []string{"$.a", "$.a.b[0]", `$.a["x\"y"]`, "$.A['b c'][1].d", "$.a[*].b"} {
		f.Add(seed, `{"a":{"b":[1,{"d":2}],"x\"y":null},"B":[]}`)
		f.Add(seed, `{"a":[{"b":1},{"b":2}],"A c":3}`)
	}
	f.Fuzz(func(t *testing.T, text, doc string) {
		v, err := Parse([]byte(doc), Limits{})
		if err != nil {
			return
		}
		pattern, err := ParsePattern(text)
		parts, fault := ParseEvery(text)
		if (err == nil) != (fault == nil) {
			t.Fatalf("pattern: %v, path: %v", err, fault)
		}
		path, err := ParsePath(text)
		if err != nil || len(parts) > 1 {
			return
		}
		found, ok := path.Lookup(v)
		at := leadsTo(pattern, "$", v)
		if ok && (found.Kind() != Missing) != (len(at) == 1) {
			t.Fatalf("the path leads to %v, the pattern to %v", found, at)
		}
		for _, place := range at {
			if p, err := ParsePath(place); place != "$" && (err != nil || !pattern.Touches(p)) {
				t.Fatalf("%s does not touch %s: %v", path, place, err)
			}
		}
		if !pattern.Touches(path) {
			t.Fatalf("%s does not touch itself", path)
		}
	})
}
