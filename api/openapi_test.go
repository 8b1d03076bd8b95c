package api

import (
	"crypto/ed25519"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
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
		{"get", "/v1/key-document", "", ""},
		{"get", keyPlace, "", ""},
		{"get", "/v1/agents/policy-schema", "", ""},
		{"get", agentsPlace, "", ""},
		{"get", "/v1/openapi.yaml", "", ""},
		{"get", "/v1/installation", "?challenge=" + strings.Repeat("A", 22), ""},
		{"get", "/v1/installation", "", ""},
		{"post", "/v1/verify-proof", "", `{"token":"` + token + `"}`},
		{"post", "/v1/verify-proof", "", `{"token":"x"}`},
		{"post", "/v1/verify-proof", "", `{"tokne":"x"}`},
		{"post", "/v1/playground/run", "", playgroundBody("6000")},
		{"post", "/v1/playground/run", "", playgroundBody(`"many"`)},
		{"post", "/v1/playground/run", "", `{}`},
	}
	samples := agentSamples(t, c, h)
	for _, tt := range tests {
		samples = append(samples, sample{tt.method, tt.path, ask(h, strings.ToUpper(tt.method), tt.path+tt.query, tt.body)})
	}
	for _, e := range append(ownersStory(t).said, ownedStory(t)...) {
		samples = append(samples, sample{strings.ToLower(e.method), e.route, e.answer})
	}
	answered := map[string]bool{}
	for _, x := range samples {
		operation := x.method + " " + x.path
		answered[operation] = answered[operation] || x.answer.Code == 200
		response := at(t, doc, "paths", x.path, x.method, "responses", fmt.Sprint(x.answer.Code))
		media, _, _ := strings.Cut(x.answer.Header().Get("Content-Type"), ";")
		schema := at(t, resolve(t, doc, response), "content", media, "schema")
		if media != "application/json" {
			continue
		}
		if err := fits(t, doc, schema, answerOf(t, x.answer), "$"); err != nil {
			t.Errorf("%s = %d %s: %v", operation, x.answer.Code, x.answer.Body, err)
		}
	}
	for path, item := range at(t, doc, "paths") {
		for method := range item.(map[string]any) {
			if !answered[method+" "+path] {
				t.Errorf("no answer of %s %s was compared", method, path)
			}
		}
	}
}

// sample is a real answer of an operation.
type sample struct {
	method, path string
	answer       *httptest.ResponseRecorder
}

// agentSamples are what an agent sees from its registration on.
func agentSamples(t *testing.T, c Config, h http.Handler) (list []sample) {
	add := func(method, path string, w *httptest.ResponseRecorder) map[string]any {
		list = append(list, sample{method, path, w})
		v, _ := answerOf(t, w).(map[string]any)
		return v
	}
	_, key, _ := ed25519.GenerateKey(nil)
	bot := &signer{t, h, "bot", c.Service.Owner().ID, key}
	add("get", "/v1/agents/register-with-invite", ask(h, "GET", "/v1/agents/register-with-invite?invite_id=a&invite_token=b", ""))
	add("post", "/v1/agents/register-with-invite", bot.redeem(c))
	add("post", "/v1/agents/register-with-invite", bot.redeem(c)) // the name is taken
	other := map[string]any{"agent_id": "other", "agent_pubkey_b64": bot.spki()}
	ch := add("post", "/v1/agents/registration-challenge", ask(h, "POST", "/v1/agents/registration-challenge", jsonOf(other)))
	random, err := base64.StdEncoding.DecodeString(ch["challenge_b64"].(string))
	if err != nil {
		t.Fatal(err)
	}
	other["challenge_id"], other["signature_b64"] = ch["challenge_id"], base64.StdEncoding.EncodeToString(ed25519.Sign(key, random))
	add("post", "/v1/agents/register", ask(h, "POST", "/v1/agents/register", jsonOf(other)))
	add("get", "/v1/agent/self", bot.do("GET", "/v1/agent/self", ""))
	add("get", "/v1/agent/self", ask(h, "GET", "/v1/agent/self", ""))

	small, large := bot.purchase(400), bot.purchase(9000)
	a := add("post", "/v1/authorize", bot.do("POST", "/v1/authorize", jsonOf(small)))
	add("post", "/v1/authorize", bot.do("POST", "/v1/authorize", jsonOf(small))) // again
	dry := bot.purchase(400)
	dry["dry_run"], dry["trace"] = true, true
	add("post", "/v1/authorize", bot.do("POST", "/v1/authorize", jsonOf(dry)))
	add("post", "/v1/agent/outcomes", bot.do("POST", "/v1/agent/outcomes", jsonOf(map[string]any{"decision_id": a["decision_id"], "status": "ok"})))
	waits := add("post", "/v1/authorize", bot.do("POST", "/v1/authorize", jsonOf(large)))
	r := add("post", "/v1/agent/approval-requests", bot.do("POST", "/v1/agent/approval-requests", jsonOf(map[string]any{"decision_id": waits["decision_id"], "action": large})))
	id := r["approval_request_id"].(string)
	if _, err := c.Service.Answer(t.Context(), "portal:ann", id, true, ""); err != nil {
		t.Fatal(err)
	}
	add("get", "/v1/agent/approval-requests/{id}", bot.do("GET", "/v1/agent/approval-requests/"+id, ""))
	add("get", "/v1/agent/approval-requests/{id}", bot.do("GET", "/v1/agent/approval-requests/none", ""))
	return list
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
	if len(schema) == 0 { // anything
		return nil
	}
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

// typeOf is as JSON Schema has it.
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
