package storetest

import (
	"crypto/ed25519"
	"testing"
	"time"

	"github.com/openleash/openleash-go/approvals"
	"github.com/openleash/openleash-go/identity"
	"github.com/openleash/openleash-go/policy"
	"github.com/openleash/openleash-go/proof"
)

func testPolicies(t *testing.T, open Open) {
	s := open(t, t.TempDir())
	wantPolicies := func(want []policy.Source) {
		t.Helper()
		got, err := s.LastPolicies(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if (got == nil) != (want == nil) {
			t.Errorf("nil means that there were none yet: want %#v, got %#v", want, got)
		}
		wantSame(t, "policies", want, got)
	}
	wantPolicies(nil)
	first := []policy.Source{{Name: "mail.yaml", Text: "version: 1\n# ünï \x00\n"}, {Name: "agents/bot/own.yaml", Text: ""}}
	for _, set := range []struct {
		hash    string
		sources []policy.Source
	}{{"a", first}, {"a", first}, {"b", []policy.Source{}}, {"a", first}} {
		if err := s.SavePolicies(t.Context(), set.hash, set.sources); err != nil {
			t.Fatal(err)
		}
		wantPolicies(set.sources)
	}
	if err := s.SavePolicies(t.Context(), "c", []policy.Source{{Name: "x.yaml", Text: "\xff"}}); err == nil {
		t.Error("a text that is not UTF-8 was saved: it cannot come back as it was")
	}
	wantPolicies(first)
}

func testKeys(t *testing.T, open Open) {
	s := open(t, t.TempDir())
	key := func(id string, b byte) proof.PublicKey {
		bytes := make(ed25519.PublicKey, ed25519.PublicKeySize)
		bytes[0] = b
		return proof.PublicKey{ID: id, Key: bytes, CreatedAt: start}
	}
	k1, k2 := key("k1", 1), key("k2", 2)
	put := func(keys ...proof.PublicKey) {
		t.Helper()
		for _, k := range keys {
			if err := s.PutKey(t.Context(), k); err != nil {
				t.Fatal(err)
			}
		}
	}
	wantKeys := func(want ...proof.PublicKey) {
		t.Helper()
		got, err := s.Keys(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		wantSame(t, "keys", want, got)
	}
	wantKeys()
	put(k2, k1, k2)
	wantKeys(k2, k1)
	wantErr(t, "revoking an unknown key", s.RevokeKey(t.Context(), "k3", start), identity.ErrNotFound)
	for _, at := range []time.Time{start.Add(time.Minute), start.Add(time.Hour)} {
		if err := s.RevokeKey(t.Context(), "k2", at); err != nil {
			t.Fatal(err)
		}
	}
	put(k2) // does not bring it back
	k2.RevokedAt = start.Add(time.Minute)
	wantKeys(k2, k1)
	if err := s.PutKey(t.Context(), key("k1", 9)); err == nil {
		t.Error("a key was replaced by another one of its name")
	}
	if err := s.RevokeKey(t.Context(), "k1", time.Time{}); err == nil {
		t.Error("a key was revoked at no time, which reads as never")
	}
	wantKeys(k2, k1)
}

// What was committed is there when the store is opened again.
func testRestart(t *testing.T, open Open) {
	place := t.TempDir()
	s := open(t, place)
	bot := agent(t, s, "bot")
	batch := note("one")
	r := request("r1", "bot", 1)
	batch.Open = &r
	commit(t, s, batch, answer(approve("r1", start)), note("two"))
	ids, _ := unsequenced(t, s, 1)
	if err := s.SetSequenced(t.Context(), ids, lines(1, 1)); err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}

	s = open(t, place)
	wantSame(t, "agent", bot, agent(t, s, "bot"))
	wantHead(t, s, lines(1, 1)[0])
	wantEntries(t, s, "two")
	got, err := s.Approval(t.Context(), "r1")
	if err != nil {
		t.Fatal(err)
	}
	wantSame(t, "request", r.Answered(*approve("r1", start)), got)
	commit(t, s, spend(redeem("r1", start)))
	wantErr(t, "redeeming again", s.Commit(t.Context(), spend(redeem("r1", start))), approvals.ErrSpent)
}

// A closed store says so and does nothing.
func testClosed(t *testing.T, open Open) {
	place := t.TempDir()
	s := open(t, place)
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if err := s.Commit(t.Context(), note("must not be there")); err == nil {
		t.Error("a closed store committed")
	}
	if _, err := s.Approval(t.Context(), "r1"); err == nil {
		t.Error("a closed store was read")
	}
	wantEntries(t, open(t, place))
}
