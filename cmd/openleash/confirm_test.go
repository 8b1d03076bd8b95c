//go:build unix

package main

import (
	"context"
	"path/filepath"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/openleash/openleash-go/identity"
	"github.com/openleash/openleash-go/owners"
	"github.com/openleash/openleash-go/store/sqlite"
)

// cmdEnrol does to the store what setting up a second factor does.
func cmdEnrol(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) == 0 {
		ts.Fatalf("usage: enrol CODE…")
	}
	ctx := context.Background()
	store, err := sqlite.Open(ctx, filepath.Join(ts.Getenv("OPENLEASH_HOME"), "data"))
	ts.Check(err)
	defer store.Close()
	owner, err := store.EnsureOwner(ctx, "")
	ts.Check(err)
	now := time.Now()
	p := owners.Proposal{OwnerID: owner.ID, Secret: identity.NewTOTP().Secret, Until: now.Add(time.Minute)}
	for _, code := range args {
		p.Codes = append(p.Codes, identity.HashBackupCode(owner.ID, code))
	}
	ts.Check(store.Change(ctx, owners.Change{Propose: &p}))
	ts.Check(store.Change(ctx, owners.Change{Confirm: &owners.Confirmation{OwnerID: owner.ID, Secret: p.Secret, Now: now}}))
}
