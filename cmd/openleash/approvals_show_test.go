package main

import (
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/openleash/openleash-go/action"
	"github.com/openleash/openleash-go/approvals"
	"github.com/openleash/openleash-go/authz"
)

// What is cut says how to see all of it, wherever it is cut.
func TestCutValuesSayWhereTheRestIs(t *testing.T) {
	long := action.ObjectValue(action.Member{Key: "text", Value: action.StringValue(strings.Repeat("word ", 5000))})
	var list, show, full strings.Builder
	printApprovals(&list, []approvalView{{ID: "7", payload: long}})
	(&approvalPrinter{w: &show, more: "show it --full"}).value(long)
	(&approvalPrinter{w: &full, full: true}).value(long)
	if !strings.Contains(list.String(), ": openleash approvals show 7 --full\n") {
		t.Errorf("the list: %.300s", list.String())
	}
	if !strings.Contains(show.String(), ": show it --full\n") || len(show.String()) > 2*maxBytes {
		t.Errorf("one request: %.300s", show.String())
	}
	if strings.Count(full.String(), "word") != 5000 || strings.Contains(full.String(), "--full") {
		t.Errorf("the whole has %d bytes", full.Len())
	}
}

// JSON names what an action has as the wire does.
func TestShownPartyHasTheNamesOfTheWire(t *testing.T) {
	r := approvals.Request{Action: action.Request{RelyingParty: action.RelyingParty{Domain: "shop.example"}}}
	got, err := json.Marshal(shownApproval(r, authz.Review{}, time.Now()))
	if err != nil || !strings.Contains(string(got), `"relying_party":{"domain":"shop.example"}`) {
		t.Errorf("%s, %v", got, err)
	}
}
