package main

import (
	"bytes"
	"strings"
	"testing"

	"github.com/openleash/openleash-go/configs"
	"github.com/openleash/openleash-go/policy"
)

// What ships comes as told (configs): one that does not is made here.
func TestPlaygroundNotAsTold(t *testing.T) {
	s, err := policy.ParseScenario("scenarios/wrong.yaml", []byte(`
title: Wrong
shows: It tells what does not come.
policies: [appointments]
steps:
  - {does: It books a haircut., at: "2026-11-23T09:00:00Z", action: {action_type: appointment.book, payload: {kind: haircut}}, want: DENY, rule: other}
  - {does: It looks for free times., at: "2026-11-23T09:01:00Z", action: {action_type: appointment.search}, want: ALLOW}
`), configs.FS)
	if err != nil {
		t.Fatal(err)
	}
	for _, asJSON := range []bool{false, true} {
		var out bytes.Buffer
		p := playground{out: &out}
		if err := p.run([]*policy.Scenario{s}); err != nil {
			t.Fatal(err)
		}
		if err := p.report(asJSON); err != exitCode(1) {
			t.Errorf("as JSON %v: %v, want exit code 1", asJSON, err)
		}
		want := "NOT AS TOLD       decision: want DENY, got ALLOW; rule: want other, got\n                    everyday\n"
		if asJSON {
			want = `"decision: want DENY, got ALLOW",`
		}
		if !strings.Contains(out.String(), want) {
			t.Errorf("as JSON %v: %q is not in\n%s", asJSON, want, out.String())
		}
		if !asJSON && !strings.HasSuffix(out.String(), "\n1 scenario, 2 steps: 1 not as told\n") {
			t.Errorf("ends otherwise:\n%s", out.String())
		}
	}
}

func TestWrapped(t *testing.T) {
	for _, tt := range []struct {
		text string
		want []string
	}{
		{"", []string{""}},
		{"one two", []string{"one two"}},
		{"one two three", []string{"one two", "three"}},
		{"äöü äöü äö", []string{"äöü äöü", "äö"}},
		{"a word-that-is-longer b", []string{"a", "word-that-is-longer", "b"}},
		{"\x1b[2J", []string{`\u001b[2J`}},
	} {
		if got := wrapped(tt.text, 8); strings.Join(got, "|") != strings.Join(tt.want, "|") {
			t.Errorf("wrapped(%q) = %q, want %q", tt.text, got, tt.want)
		}
	}
}
