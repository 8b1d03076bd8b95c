package api

import (
	"encoding/json"
	"fmt"
	"maps"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"gopkg.in/yaml.v3"
)

// document reads openapi.yaml as served.
func document(t *testing.T) map[string]any {
	t.Helper()
	w := ask(newAPI(t, config(t)), "GET", "/v1/openapi.yaml", "")
	var doc map[string]any
	if err := yaml.Unmarshal(w.Body.Bytes(), &doc); err != nil {
		t.Fatalf("openapi.yaml: %v", err)
	}
	return doc
}

// at walks a tree of maps.
func at(t *testing.T, node any, keys ...string) map[string]any {
	t.Helper()
	for _, key := range keys {
		m, ok := node.(map[string]any)
		if !ok || m[key] == nil {
			t.Fatalf("openapi.yaml: no %q on the way %v", key, keys)
		}
		node = m[key]
	}
	m, ok := node.(map[string]any)
	if !ok {
		t.Fatalf("openapi.yaml: %v is no mapping", keys)
	}
	return m
}

func TestSpecHasTheRoutes(t *testing.T) {
	var inCode, inSpec []string
	for _, rt := range (&server{}).routes() {
		inCode = append(inCode, rt.method+" "+rt.path)
	}
	for path, item := range at(t, document(t), "paths") {
		for method := range item.(map[string]any) {
			inSpec = append(inSpec, strings.ToUpper(method)+" "+path)
		}
	}
	slices.Sort(inCode)
	slices.Sort(inSpec)
	if diff := cmp.Diff(inCode, inSpec); diff != "" {
		t.Errorf("routes in code and in openapi.yaml (-code +spec):\n%s", diff)
	}
}

// Who may use a route stands in the specification too.
func TestSpecSaysWhoMay(t *testing.T) {
	for _, rt := range (&server{}).routes() {
		op := at(t, document(t), "paths", rt.path, strings.ToLower(rt.method))
		if _, guarded := op["security"]; guarded != (rt.access != anybody) {
			t.Errorf("%s %s is for %s; openapi.yaml has security: %t", rt.method, rt.path, rt.access, guarded)
		}
		if summary, _ := op["summary"].(string); strings.Contains(summary, "For admins.") != (rt.access == admin) {
			t.Errorf("%s %s is for %s; openapi.yaml says %q", rt.method, rt.path, rt.access, summary)
		}
	}
}

// Real answers are as the specification says they are, to the field.
func TestSpecFitsTheAnswers(t *testing.T) {
	c := config(t)
	h := newAPI(t, c)
	doc := document(t)
	approved := claims()
	approved.TrustProfile = "LOW"
	token, err := c.Key.Sign(approved)
	if err != nil {
		t.Fatal(err)
	}
	tests := []struct{ method, path, query, body string }{
		{"get", "/v1/health", "", ""},
		{"get", "/v1/public-keys", "", ""},
		{"get", "/v1/installation", "?challenge=" + strings.Repeat("A", 22), ""},
		{"get", "/v1/installation", "", ""},
		{"post", "/v1/verify-proof", "", `{"token":"` + token + `"}`},
		{"post", "/v1/verify-proof", "", `{"token":"x"}`},
		{"post", "/v1/verify-proof", "", `{"tokne":"x"}`},
		{"post", "/v1/playground/run", "", playgroundBody("6000")},
		{"post", "/v1/playground/run", "", playgroundBody(`"many"`)},
		{"post", "/v1/playground/run", "", `{}`},
	}
	answered := map[string]bool{}
	compare := func(method, path, asked string, w *httptest.ResponseRecorder) {
		answered[method+" "+path] = answered[method+" "+path] || w.Code == 200
		response := at(t, doc, "paths", path, method, "responses", fmt.Sprint(w.Code))
		schema := at(t, resolve(t, doc, response), "content", "application/json", "schema")
		if err := fits(t, doc, schema, answerOf(t, w), "$"); err != nil {
			t.Errorf("%s %s = %d %s: %v", method, path+asked, w.Code, w.Body, err)
		}
	}
	for _, tt := range tests {
		compare(tt.method, tt.path, tt.query, ask(h, strings.ToUpper(tt.method), tt.path+tt.query, tt.body))
	}
	for _, e := range ownersStory(t).said {
		compare(strings.ToLower(e.method), e.route, "", e.answer)
	}
	for path, item := range at(t, doc, "paths") {
		for method := range item.(map[string]any) {
			if !answered[method+" "+path] {
				t.Errorf("no answer of %s %s was compared", method, path)
			}
		}
	}
}

func answerOf(t *testing.T, w *httptest.ResponseRecorder) any {
	t.Helper()
	var v any
	if err := json.Unmarshal(w.Body.Bytes(), &v); err != nil {
		t.Fatal(err)
	}
	return v
}

// resolve follows a $ref into the document.
func resolve(t *testing.T, doc, node map[string]any) map[string]any {
	t.Helper()
	ref, ok := node["$ref"].(string)
	if !ok {
		return node
	}
	return at(t, doc, strings.Split(strings.TrimPrefix(ref, "#/"), "/")...)
}

// fits checks a value against the part of JSON Schema that openapi.yaml uses.
func fits(t *testing.T, doc, schema map[string]any, v any, where string) error {
	schema = resolve(t, doc, schema)
	if !slices.Contains(types(schema["type"]), typeOf(v)) {
		return fmt.Errorf("%s: want %v, got %v", where, schema["type"], v)
	}
	if enum, ok := schema["enum"].([]any); ok && !slices.Contains(enum, v) {
		return fmt.Errorf("%s: want one of %v, got %v", where, enum, v)
	}
	switch v := v.(type) {
	case []any:
		for i, item := range v {
			if err := fits(t, doc, at(t, schema, "items"), item, fmt.Sprintf("%s[%d]", where, i)); err != nil {
				return err
			}
		}
	case map[string]any:
		return fitsObject(t, doc, schema, v, where)
	}
	return nil
}

func fitsObject(t *testing.T, doc, schema, v map[string]any, where string) error {
	required, _ := schema["required"].([]any)
	for _, name := range required {
		if _, ok := v[name.(string)]; !ok {
			return fmt.Errorf("%s: %v is missing", where, name)
		}
	}
	properties, _ := schema["properties"].(map[string]any)
	for _, name := range slices.Sorted(maps.Keys(v)) {
		property, known := properties[name].(map[string]any)
		if !known {
			if property, known = schema["additionalProperties"].(map[string]any); !known && schema["additionalProperties"] == false {
				return fmt.Errorf("%s: %q is not in openapi.yaml", where, name)
			}
		}
		if !known {
			continue
		}
		if err := fits(t, doc, property, v[name], where+"."+name); err != nil {
			return err
		}
	}
	return nil
}

func types(v any) []string {
	switch v := v.(type) {
	case string:
		return []string{v}
	case []any:
		var all []string
		for _, item := range v {
			all = append(all, item.(string))
		}
		return all
	default:
		return nil
	}
}

func typeOf(v any) string {
	switch v.(type) {
	case nil:
		return "null"
	case bool:
		return "boolean"
	case float64:
		return "number"
	case string:
		return "string"
	case []any:
		return "array"
	default:
		return "object"
	}
}
