package main

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/openleash/openleash-go/action"
	"github.com/openleash/openleash-go/proof"
)

// keys verify takes a proof as well, and tells it from a receipt.
func TestKeysVerifyAProof(t *testing.T) {
	now := time.Now()
	key, err := proof.NewKey(now)
	if err != nil {
		t.Fatal(err)
	}
	token, err := key.Sign(proof.Claims{
		Subject: "bot", AgentID: "bot", Audience: "mcp:shop", IssuedAt: now, Expires: now.Add(time.Minute), ID: "1", Decision: "ALLOW", DecisionID: "2",
		ActionID: "3", ActionType: "mcp.shop.buy", ActionHash: action.Hash{4}.String(), Log: "log\n1\nLXEWQrcmsEQBYnyp+6wy9chTD7GQPMTbAiWHF5IaSIE=\n",
	})
	if err != nil {
		t.Fatal(err)
	}
	keys := []proof.PublicKey{key.Public()}
	var out strings.Builder
	if err := verifySigned(&out, []byte(token+"\n"), keys, now); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"ok: a proof;", "  for          mcp:shop\n", "\nlog\n1\nLXEW"} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("no %q in %s", want, out.String())
		}
	}
	if err := verifySigned(&out, []byte(token), keys, now.Add(time.Hour)); !errors.Is(err, proof.ErrExpired) {
		t.Errorf("an hour later: %v", err)
	}
	if err := verifySigned(&out, []byte("v4.public.x"), keys, now); !errors.Is(err, proof.ErrMalformed) {
		t.Errorf("nonsense: %v", err)
	}
}
