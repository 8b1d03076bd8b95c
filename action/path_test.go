package action

import (
	"errors"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestPathLookup(t *testing.T) {
	v := mustParse(t, `{"payload":{"amount":5,"items":[{"name":"a"},[7]],"my-key":{"é \"x\"":1},"null":null,"_x9":true,"":"empty","Dup":1,"dup":2,"Only":3}}`)
	const blocked = "(blocked)"
	for _, test := range []struct{ path, want string }{
		{`$.payload.amount`, `5`},
		{`$.payload.items[0].name`, `"a"`},
		{`$.payload.items[1][0]`, `7`},
		{`$.payload["my-key"]["é \"x\""]`, `1`},
		{`$.payload['my-key']["\u00e9 \"x\""]`, `1`},
		{`$.payload[""]`, `"empty"`},
		{`$.payload._x9`, `true`},
		{`$.payload.null`, `null`},
		{`$.payload.none`, ``},
		{`$.payload.none.deeper[3]["x"]`, ``},
		{`$.none`, ``},
		{`$.payload.items[2]`, ``},
		{`$.payload.items[2].name`, ``},
		{`$.payload.amount.x`, blocked},
		{`$.payload.amount[0]`, blocked},
		{`$.payload.null.x`, blocked},
		{`$.payload.items.length`, blocked},
		{`$.payload.items[0][0]`, blocked},
		{`$.payload["items"][0].name.x`, blocked},
		{`$.payload[0]`, blocked},
		{`$.payload.only`, blocked},
		{`$.Payload`, blocked},
		{`$.payload.Dup`, blocked},
		{`$.payload.dup`, blocked},
	} {
		p, err := ParsePath(test.path)
		if err != nil {
			t.Error(err)
			continue
		}
		if p.String() != test.path {
			t.Errorf("String() = %s, want %s", p, test.path)
		}
		found, ok := p.Lookup(v)
		got := string(found.Canonical())
		if !ok {
			got = blocked + got
		}
		if got != test.want {
			t.Errorf("%s = %s, want %s", test.path, got, test.want)
		}
	}
	p, _ := ParsePath("$.payload")
	if _, ok := p.Lookup(mustParse(t, `[1]`)); ok {
		t.Error("a key of an array is not in the way")
	}
	if got, ok := p.Lookup(Value{}); !ok || got.Kind() != Missing {
		t.Error("a path into Missing is not Missing")
	}
}

func TestParsePathRefuses(t *testing.T) {
	for _, test := range []struct{ path, want string }{
		{``, `path "", character 1: want a path that begins with $. and a name, like $.payload.amount`},
		{`$`, `path "$", character 1: want a path that begins with $. and a name, like $.payload.amount`},
		{`payload.x`, `path "payload.x", character 1: want a path that begins with $. and a name, like $.payload.amount`},
		{`$["payload"]`, `path "$[\"payload\"]", character 1: want a path that begins with $. and a name, like $.payload.amount`},
		{`$.`, `path "$.", character 3: want a name after the dot, got the end; a key with other characters is written ["my-key"]`},
		{`$..a`, `path "$..a", character 3: want a name after the dot, got '.'; a key with other characters is written ["my-key"]`},
		{`$.a.`, `path "$.a.", character 5: want a name after the dot, got the end; a key with other characters is written ["my-key"]`},
		{`$.a.1`, `path "$.a.1", character 5: want a name after the dot, got '1'; a key with other characters is written ["my-key"]`},
		{`$.a.ключ`, `path "$.a.ключ", character 5: want a name after the dot, got 'к'; a key with other characters is written ["my-key"]`},
		{`$.a.my-key`, `path "$.a.my-key", character 7: want . or [ or the end, got '-'; a key with other characters is written ["my-key"]`},
		{`$.a b`, `path "$.a b", character 4: want . or [ or the end, got ' '; a key with other characters is written ["my-key"]`},
		{`$.a[*]`, `path "$.a[*]", character 5: [*] (every item) cannot stand here, where one value is wanted: name one item, like [0]`},
		{`$.a[-1]`, `path "$.a[-1]", character 5: want an index like [0] or a key like ["my-key"], got '-'`},
		{`$.a[]`, `path "$.a[]", character 5: want an index like [0] or a key like ["my-key"], got ']'`},
		{`$.a[b]`, `path "$.a[b]", character 5: want an index like [0] or a key like ["my-key"], got 'b'`},
		{`$.a[`, `path "$.a[", character 5: want an index like [0] or a key like ["my-key"], got the end`},
		{`$.a[01]`, `path "$.a[01]", character 5: an index must not begin with 0`},
		{`$.a[1234567890]`, `path "$.a[1234567890]", character 5: want an index of at most nine digits`},
		{`$.a[1`, `path "$.a[1", character 6: want ], got the end`},
		{`$.a[1:2]`, `path "$.a[1:2]", character 6: want ], got ':'`},
		{`$.a["b"`, `path "$.a[\"b\"", character 8: want ], got the end`},
		{`$.a["b`, `path "$.a[\"b", character 7: the text ends inside the string that began at byte 4`},
		{`$.a["\x"]`, `path "$.a[\"\\x\"]", character 6: want one of \" \\ \/ \b \f \n \r \t \uXXXX, got \ and 'x'`},
		{`$.a['b`, `path "$.a['b", character 7: want the closing ' of the key`},
		{`$.a['b\n']`, `path "$.a['b\\n']", character 7: '\\' is not allowed between single quotes, use double quotes and an escape`},
		{"$.a['\t']", `path "$.a['\t']", character 6: '\t' is not allowed between single quotes, use double quotes and an escape`},
		{"$.a['\xff']", `path "$.a['\xff']", character 6: want UTF-8, got the byte 0xff`},
		{"$.a\x00", `path "$.a\x00", character 4: want . or [ or the end, got '\x00'; a key with other characters is written ["my-key"]`},
	} {
		_, err := ParsePath(test.path)
		var fault *PathError
		if !errors.As(err, &fault) {
			t.Errorf("ParsePath(%q) = %v, want a *PathError", test.path, err)
			continue
		}
		if diff := cmp.Diff(test.want, err.Error()); diff != "" {
			t.Errorf("ParsePath(%q) (-want +got):\n%s", test.path, diff)
		}
	}
}

func TestParseEvery(t *testing.T) {
	for text, want := range map[string][]string{
		`$.a.b[0]["my-key"]`:         {`$.a.b[0]["my-key"]`},
		`$.a[*]`:                     {`$.a`, `$`},
		`$.a[*].b['c']`:              {`$.a`, `$.b.c`},
		`$.a[*][*][0].b`:             {`$.a`, `$`, `$[0].b`},
		`$.a["[*]"]['[*]'].b[*].c.d`: {`$.a["[*]"]["[*]"].b`, `$.c.d`},
	} {
		parts, err := ParseEvery(text)
		if err != nil {
			t.Error(err)
			continue
		}
		var got []string
		for _, p := range parts {
			got = append(got, p.String())
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%s (-want +got):\n%s", text, diff)
		}
	}
	for text, want := range map[string]string{
		`$[*]`:      `path "$[*]", character 1: want a path that begins with $. and a name, like $.payload.amount`,
		`$.a[*`:     `path "$.a[*", character 6: want ], got the end`,
		`$.a[**]`:   `path "$.a[**]", character 6: want ], got '*'`,
		`$.a.*`:     `path "$.a.*", character 5: want a name after the dot, got '*'; a key with other characters is written ["my-key"]`,
		`$.a[*]b.c`: `path "$.a[*]b.c", character 7: want . or [ or the end, got 'b'; a key with other characters is written ["my-key"]`,
	} {
		if _, err := ParseEvery(text); err == nil || err.Error() != want {
			t.Errorf("%s: got %v, want %s", text, err, want)
		}
	}
	parts, err := ParseEvery(`$.a[*].b`)
	if err != nil {
		t.Fatal(err)
	}
	list, _ := parts[0].Lookup(mustParse(t, `{"a":[{"b":1},{"b":2}]}`))
	if v, ok := parts[1].Lookup(list.Index(1)); !ok || v.Text() != "2" {
		t.Errorf("the second item's b is %s, %v", v.Text(), ok)
	}
}

// Written from its steps, a path is the same path.
func FuzzPath(f *testing.F) {
	for _, seed := range []string{`$.a.b[0]["quoted key"]['x']`, `$.payload["é\n"][12]`, `$.a[*]`, `$.`, `$.a['\']`, `$["x"]`, `$.a["\ud83d\ude00"]`} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		p, err := ParsePath(text)
		if parts, each := ParseEvery(text); err == nil && (each != nil || len(parts) != 1 || !cmp.Equal(parts[0].steps, p.steps, cmp.AllowUnexported(step{}))) {
			t.Fatalf("%q: ParsePath takes it, ParseEvery makes %v, %v of it", text, parts, each)
		}
		if err != nil {
			var fault *PathError
			if !errors.As(err, &fault) || fault.Offset < 0 || fault.Offset > len(text) || p.steps != nil {
				t.Fatalf("ParsePath(%q) = %#v, %v", text, p, err)
			}
			return
		}
		rewritten := "$"
		for _, s := range p.steps {
			rewritten += s.String()
		}
		if len(rewritten) < 2 || rewritten[1] != '.' {
			t.Fatalf("%q became %q", text, rewritten)
		}
		again, err := ParsePath(rewritten)
		if err != nil {
			t.Fatalf("%q, rewritten from %q: %v", rewritten, text, err)
		}
		if diff := cmp.Diff(p.steps, again.steps, cmp.AllowUnexported(step{})); diff != "" {
			t.Fatalf("%q and %q (-want +got):\n%s", text, rewritten, diff)
		}
	})
}
