package authz_test

import (
	"context"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/openleash/openleash-go/audit"
	"github.com/openleash/openleash-go/authz"
	"github.com/openleash/openleash-go/proof"
)

// A proof carries the latest checkpoint, so that who receives it is a witness.
func TestProofHasTheLatestCheckpoint(t *testing.T) {
	dir := t.TempDir()
	key, err := audit.LoadOrCreateKey(dir)
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(dir, "audit.log.jsonl")
	var log *audit.Sequencer
	r := newRoom(t, rules, func(c *authz.Config) {
		log = audit.NewSequencer(c.Store.(audit.Store), file, key, audit.Keeping{})
		c.Log = log
	})
	if c := proofOf(t, r); c.Log != "" {
		t.Errorf("before there is a checkpoint the claim is %q", c.Log)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- log.Run(ctx) }()
	for end := time.Now().Add(10 * time.Second); log.Latest().Size == 0 && time.Now().Before(end); time.Sleep(5 * time.Millisecond) {
	}
	claim := proofOf(t, r).Log
	cancel()
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	known, err := audit.ParseCheckpoint(claim)
	if err != nil || known.Origin != key.Origin() || known.Size == 0 {
		t.Fatalf("%q: %+v, %v", claim, known, err)
	}
	f, err := os.Open(file)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if report, err := audit.Verify(f, 0, "", known); err != nil || report.Faults != nil || report.Entries <= known.Size {
		t.Errorf("the log against the claim: %+v, %v", report, err)
	}
}

// proofOf is the verified proof of a call that is allowed.
func proofOf(t *testing.T, r *room) proof.Claims {
	t.Helper()
	ans := r.call(t, "read", `{"n":1}`)
	claims, err := proof.Verify(ans.Proof, proof.Expect{Keys: []proof.PublicKey{r.key.Public()}, Now: r.now, AnyAudience: true})
	if err != nil {
		t.Fatal(err)
	}
	return claims
}
