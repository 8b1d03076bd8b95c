package openleashtest_test

import (
	"testing"

	"github.com/openleash/openleash-go/openleashtest"
)

const shopPolicy = `version: 1
default: deny
rules:
  - id: small
    effect: allow
    action: purchase
    constraints: {amount_max: 5000, currency: [SEK]}
  - id: large
    effect: allow
    action: purchase
    obligations: [{type: HUMAN_APPROVAL}]
`

// TestBuying is the example of the package comment.
func TestBuying(t *testing.T) {
	srv := openleashtest.NewServer(t, &openleashtest.Options{Policy: shopPolicy})
	buyer := srv.Agent(t, "buyer")

	small := buyer.Authorize(t, buyer.Action("purchase", map[string]any{"amount_minor": 4000, "currency": "SEK"}))
	if small.Decision != "ALLOW" || small.ProofToken == "" {
		t.Errorf("a small purchase: %s, %s; want it allowed, with a proof", small.Decision, small.Reason)
	}

	large := buyer.Action("purchase", map[string]any{"amount_minor": 900000, "currency": "SEK"})
	asked := buyer.Authorize(t, large) // REQUIRE_APPROVAL
	request := buyer.AskOwner(t, asked, large)
	srv.Approve(t, request)
	large["approval_token"] = buyer.ApprovalToken(t, request)
	if approved := buyer.Authorize(t, large); approved.Decision != "ALLOW" {
		t.Errorf("approved: %s, %s; want it allowed", approved.Decision, approved.Reason)
	}
}
