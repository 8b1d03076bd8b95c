package action

import (
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

const (
	actionID  = "5b1c8ae7-27a3-4a77-bb9c-73e0d68d03ae"
	subjectID = "8c5b1c2e-1111-4222-8333-444455556666"
)

// body is a request; edits replace a part of it, in pairs.
func body(edits ...string) []byte {
	text := `{"action_id":"` + actionID + `","action_type":"purchase","requested_at":"2026-01-02T03:04:05.000Z",` +
		`"principal":{"agent_id":"agent-1"},"subject":{"principal_id":"` + subjectID + `"},` +
		`"relying_party":{"rp_id":"` + subjectID + `","domain":"shop.example","trust_profile":"HIGH"},"payload":{"amount_minor":8500}}`
	return []byte(strings.NewReplacer(edits...).Replace(text))
}

func TestParseRequest(t *testing.T) {
	got, err := ParseRequest(body())
	if err != nil {
		t.Fatal(err)
	}
	want := Request{
		ActionID: actionID, ActionType: "purchase", RequestedAt: "2026-01-02T03:04:05.000Z", AgentID: "agent-1", SubjectID: subjectID,
		RelyingParty: RelyingParty{RPID: subjectID, Domain: "shop.example", TrustProfile: "HIGH"},
		Payload:      ObjectValue(Member{"amount_minor", IntValue(8500)}),
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error("request (-want +got):", diff)
	}
	if want.Hash() != got.Hash() {
		t.Error("a request built in code has another hash than the same request read")
	}
	if string(got.Canonical()) != string(mustParse(t, string(body())).Canonical()) {
		t.Errorf("canonical form = %s", got.Canonical())
	}
}

func TestParseRequestDropsUnknownKeys(t *testing.T) {
	plain, err := ParseRequest(body())
	if err != nil {
		t.Fatal(err)
	}
	for _, edit := range [][]string{
		{`{"action_id"`, `{"context":{"n":9007199254740993,"a":1,"A":2},"approval_token":"t","action_id"`},
		{`"agent-1"`, `"agent-1","role":"admin"`},
		{`"HIGH"`, `"HIGH","name":"Shop"`},
		{`{"amount_minor"`, `{"__proto__":{"n":9007199254740993},"amount_minor"`},
	} {
		req, err := ParseRequest(body(edit...))
		if err != nil {
			t.Errorf("%s: %v", edit[1], err)
			continue
		}
		if req.Hash() != plain.Hash() {
			t.Errorf("%s changes the hash", edit[1])
		}
	}
}

func TestRelyingPartyOfARequest(t *testing.T) {
	named := `"relying_party":{"rp_id":"` + subjectID + `","domain":"shop.example","trust_profile":"HIGH"}`
	for _, test := range []struct {
		name, edit, canonical string
		want                  RelyingParty
	}{
		{"absent", `"x":1`, `},"requested_at"`, RelyingParty{}},
		{"blank", `"relying_party":{}`, `"relying_party":{},`, RelyingParty{Blank: true}},
		{"nothing known", `"relying_party":{"name":"n"}`, `"relying_party":{},`, RelyingParty{Blank: true}},
		{"domain", `"relying_party":{"domain":"d"}`, `"relying_party":{"domain":"d"},`, RelyingParty{Domain: "d"}},
	} {
		req, err := ParseRequest(body(named, test.edit))
		if err != nil {
			t.Errorf("%s: %v", test.name, err)
			continue
		}
		if diff := cmp.Diff(test.want, req.RelyingParty); diff != "" {
			t.Errorf("%s (-want +got): %s", test.name, diff)
		}
		if !strings.Contains(string(req.Canonical()), test.canonical) {
			t.Errorf("%s: canonical form %s lacks %s", test.name, req.Canonical(), test.canonical)
		}
	}
}

func TestParseRequestRefuses(t *testing.T) {
	for _, test := range []struct {
		name string
		body []byte
		want map[string]string
	}{
		{"no object", []byte(`[]`), map[string]string{"$": "want an object, got an array"}},
		{"empty", []byte(`{}`), map[string]string{
			"action_id": "missing, want a string", "action_type": "missing, want a string", "requested_at": "missing, want a string",
			"principal": "missing, want an object", "subject": "missing, want an object", "payload": "missing, want an object",
		}},
		{"empty inside", body(`"agent_id":"agent-1"`, ``, `"principal_id":"`+subjectID+`"`, ``), map[string]string{
			"principal.agent_id": "missing, want a string", "subject.principal_id": "missing, want a string",
		}},
		{"empty texts", body(`"purchase"`, `""`, `"agent-1"`, `""`, `"`+actionID+`"`, `""`, `"shop.example"`, `""`), map[string]string{
			"action_type": "want text, got an empty string", "principal.agent_id": "want text, got an empty string",
			"action_id": "want text, got an empty string", "relying_party.domain": "want text, got an empty string: leave it out if there is none",
		}},
		{"wrong types", body(`"purchase"`, `7`, `{"agent_id":"agent-1"}`, `"agent-1"`, `{"amount_minor":8500}`, `[]`, `"2026-01-02T03:04:05.000Z"`, `null`), map[string]string{
			"action_type": "want a string, got a number", "principal": "want an object, got a string",
			"payload": "want an object, got an array", "requested_at": "want a string, got null",
		}},
		{"null for optional", body(`"shop.example"`, `null`, `"HIGH"`, `null`, `"rp_id":"`+subjectID+`"`, `"rp_id":null`), map[string]string{
			"relying_party.domain":        "want a string, got null: leave it out if there is none",
			"relying_party.trust_profile": "want a string, got null: leave it out if there is none",
			"relying_party.rp_id":         "want a string, got null: leave it out if there is none",
		}},
		{"no relying party", body(`{"rp_id":"`+subjectID+`","domain":"shop.example","trust_profile":"HIGH"}`, `null`), map[string]string{
			"relying_party": "want an object, got null: leave it out if there is none",
		}},
		{"no UUIDs", body(actionID, "5b1c8ae7-27a3-4a77-bb9c-73e0d68d03ag", subjectID, "{8c5b1c2e11114222833344445555666}"), map[string]string{
			"action_id":            `want a UUID like 5b1c8ae7-27a3-4a77-bb9c-73e0d68d03ae, got "5b1c8ae7-27a3-4a77-bb9c-73e0d68d03ag"`,
			"subject.principal_id": `want a UUID like 5b1c8ae7-27a3-4a77-bb9c-73e0d68d03ae, got "{8c5b1c2e11114222833344445555666}"`,
			"relying_party.rp_id":  `want a UUID like 5b1c8ae7-27a3-4a77-bb9c-73e0d68d03ae, got "{8c5b1c2e11114222833344445555666}"`,
		}},
		{"trust profile", body(`"HIGH"`, `"high"`), map[string]string{
			"relying_party.trust_profile": `want LOW, MEDIUM, HIGH or REGULATED, got "high"`,
		}},
		{"other case", body(`"payload"`, `"Payload"`, `"agent_id"`, `"agent_ID"`, `"domain"`, `"domain":"a","Domain"`, `{"action_id"`, `{"Approval_token":"t","action_id"`), map[string]string{
			"payload":              `the key "Payload" differs from it only in case, write "payload" and only once`,
			"principal.agent_id":   `the key "agent_ID" differs from it only in case, write "agent_id" and only once`,
			"relying_party.domain": `the key "Domain" differs from it only in case, write "domain" and only once`,
			"approval_token":       `the key "Approval_token" differs from it only in case, write "approval_token" and only once`,
		}},
		{"long s", body(`"subject"`, `"\u017fubject"`), map[string]string{
			"subject": `the key "ſubject" differs from it only in case, write "subject" and only once`,
		}},
		{"inexact", body(`8500`, `[1,{"price":123456789.123456789}]`), map[string]string{
			"payload.amount_minor[1].price": "123456789.123456789 is more than a double holds, send it as a string",
		}},
		{"two things", body(`8500`, `9007199254740993`, `"purchase"`, `true`), map[string]string{
			"payload.amount_minor": "9007199254740993 is more than a double holds, send it as a string",
			"action_type":          "want a string, got a boolean",
		}},
	} {
		req, err := ParseRequest(test.body)
		var fault *RequestError
		if !errors.As(err, &fault) {
			t.Errorf("%s: error %v, want a *RequestError", test.name, err)
			continue
		}
		if diff := cmp.Diff(test.want, fault.Fields); diff != "" {
			t.Errorf("%s (-want +got): %s", test.name, diff)
		}
		if diff := cmp.Diff(Request{}, req); diff != "" {
			t.Errorf("%s: a request beside the error: %s", test.name, diff)
		}
		for field, reason := range test.want {
			if !strings.Contains(err.Error(), field+": "+reason) {
				t.Errorf("%s: %q does not tell of %s", test.name, err, field)
			}
		}
	}
	for _, text := range []string{`{`, "\ufeff{}", `{"a":1,"a":2}`, string(body()) + "x"} {
		var fault *ParseError
		if _, err := ParseRequest([]byte(text)); !errors.As(err, &fault) {
			t.Errorf("ParseRequest(%q) = %v, want a *ParseError", text, err)
		}
	}
}

func TestReadRequest(t *testing.T) {
	arguments := mustParse(t, `{"__proto__":1,"n":[1.10,9007199254740993,1e-300],"s":"\u0000"}`)
	built := Request{
		ActionID: actionID, ActionType: "mcp.shop.buy", AgentID: "local", SubjectID: "owner",
		RelyingParty: RelyingParty{Domain: "shop.example"},
		Payload:      ObjectValue(Member{"__proto__", IntValue(1)}, Member{"arguments", arguments}),
	}
	for _, want := range []Request{built, {}, {ActionID: actionID, RelyingParty: RelyingParty{Blank: true}}} {
		canonical := want.Canonical()
		got, err := ReadRequest(canonical)
		if err != nil {
			t.Errorf("%s: %v", canonical, err)
			continue
		}
		want.Payload = orEmpty(want.Payload)
		if diff := cmp.Diff(want, got); diff != "" {
			t.Error("request read back (-want +got):", diff)
		}
		if got.Hash() != want.Hash() {
			t.Errorf("%s has another hash when it is read back", canonical)
		}
	}
	if !strings.Contains(string(built.Canonical()), "9007199254740993") {
		t.Error("a request built in code is not hashed exactly")
	}
	for _, text := range []string{"", "{}", " " + string(built.Canonical()), string(body()),
		strings.Replace(string(built.Canonical()), `"payload"`, `"more":1,"payload"`, 1)} {
		if _, err := ReadRequest([]byte(text)); err == nil {
			t.Errorf("ReadRequest(%s) accepts what Canonical does not write", text)
		}
	}
}

// vectors reads a file of testdata/vectors into v.
func vectors(t *testing.T, name string, v any) {
	t.Helper()
	data, err := os.ReadFile(filepath.Join("..", "testdata", "vectors", name))
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(data, v); err != nil {
		t.Fatal(err)
	}
}

func TestHashVectors(t *testing.T) {
	var all []struct{ Name, Body, Canonical, Action_hash, Ours string }
	vectors(t, "hash_vectors.json", &all)
	if len(all) == 0 {
		t.Fatal("hash_vectors.json is empty")
	}
	// What ours says, and what an error that says so must hold.
	refusals := map[string]string{
		"refused: 123456789.123456789 is not what a double holds": "payload.d: 123456789.123456789 is more than a double holds",
		"refused: a number that a double cannot hold":             "payload.b: 9007199254740993 is more than a double holds",
		"refused: a lone surrogate":                               `at $.payload.s: \ud800 is a lone surrogate`,
		"refused: duplicate keys":                                 "at $.payload.x: this key occurs twice",
	}
	for _, v := range all {
		t.Run(v.Name, func(t *testing.T) {
			req, err := ParseRequest([]byte(v.Body))
			if v.Ours == "same canonical form and hash (ours is written sha256:HEX)" {
				if err != nil {
					t.Fatal(err)
				}
				if diff := cmp.Diff(v.Canonical, string(req.Canonical())); diff != "" {
					t.Error("canonical form (-want +got):", diff)
				}
				if got := req.Hash().String(); got != "sha256:"+v.Action_hash {
					t.Errorf("hash = %s, want sha256:%s", got, v.Action_hash)
				}
				return
			}
			reason, known := refusals[v.Ours]
			if !known {
				t.Fatalf("ours says %q, which this test does not understand", v.Ours)
			}
			if err == nil || !strings.Contains(err.Error(), reason) {
				t.Errorf("error %v, want %s", err, reason)
			}
		})
	}
}

func TestOpenLeashVector(t *testing.T) {
	var v struct {
		Action         json.RawMessage
		Canonical_json string
		Action_hash    string
	}
	vectors(t, "openleash-0.27.json", &v)
	req, err := ParseRequest(v.Action)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(v.Canonical_json, string(req.Canonical())); diff != "" {
		t.Error("canonical form (-want +got):", diff)
	}
	want, err := ParseHash(v.Action_hash)
	if err != nil {
		t.Fatal(err)
	}
	if req.Hash() != want {
		t.Errorf("hash = %s, want %s", req.Hash(), want)
	}
}

// What is read is hashed, and what is hashed can be read back.
func FuzzRequest(f *testing.F) {
	f.Add(body())
	f.Add(body(`8500`, `9007199254740993`))
	f.Add(body(`"payload"`, `"Payload"`))
	f.Add(body(`"HIGH"`, `null`))
	f.Add(body(`{"amount_minor"`, `{"__proto__":1,"a":1,"A":2,"amount_minor"`))
	f.Add([]byte(`{"relying_party":{}}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		req, err := ParseRequest(data)
		if err != nil {
			var syntax *ParseError
			var fields *RequestError
			if !errors.As(err, &syntax) && !errors.As(err, &fields) {
				t.Fatalf("error %#v", err)
			}
			return
		}
		for _, read := range []func([]byte) (Request, error){ReadRequest, ParseRequest} {
			again, err := read(req.Canonical())
			if err != nil {
				t.Fatalf("%s: %v", req.Canonical(), err)
			}
			if again.Hash() != req.Hash() {
				t.Fatalf("%s: another hash when read back", req.Canonical())
			}
		}
	})
}
