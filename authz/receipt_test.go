package authz_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/openleash/openleash-go/action"
	"github.com/openleash/openleash-go/audit"
	"github.com/openleash/openleash-go/authz"
	"github.com/openleash/openleash-go/proof"
)

// A receipt says what the log says, and no sooner.
func TestReceiptOfARecordedOutcome(t *testing.T) {
	r := newRoom(t, rules)
	call := &authz.Call{Server: "s", Tool: "read", Arguments: action.ObjectValue()}
	ans := r.call(t, "read", `{}`)
	result := action.Hash{7}
	receipt := r.FinishWithReceipt(r.who, call, ans, authz.Outcome{Status: "tool_error", ResultHash: action.Hash{9}})
	begun := time.Now()
	token, err := receipt(t.Context(), result)
	if err != nil {
		t.Fatal(err)
	}
	if took := time.Since(begun); took > 10*time.Second {
		t.Errorf("it took %s", took)
	}
	got, err := proof.VerifyReceipt(token, []proof.PublicKey{r.key.Public()})
	if err != nil {
		t.Fatal(err)
	}
	want := proof.Receipt{
		KeyID: r.key.ID, At: r.now, AgentID: "bot", OwnerID: r.Owner().ID, DecisionID: ans.DecisionID, ActionID: ans.ActionID, ActionType: "mcp.s.read",
		ActionHash: ans.ActionHash.String(), CallHash: action.CallHash("read", call.Arguments).String(), ResultHash: result.String(), Outcome: "tool_error",
		Server: "s", Tool: "read",
	}
	if got != want {
		t.Errorf("got  %+v\nwant %+v", got, want)
	}
	all := r.entries(t)
	if e := all[len(all)-1]; e.Event != "outcome" || e.DecisionID != got.DecisionID || e.Outcome != got.Outcome {
		t.Errorf("the last entry is %+v", e)
	}
}

// What is not on disk has no receipt.
func TestNoReceiptOfWhatIsNotRecorded(t *testing.T) {
	disk, slow := errors.New("disk full"), make(chan struct{})
	fails := true
	r := newRoom(t, rules, func(c *authz.Config) {
		c.Store = &faulty{c.Store, func(b authz.Batch) (error, error) {
			if len(b.Entries) != 1 || b.Entries[0].Event != "outcome" {
				return nil, nil
			}
			if fails {
				return disk, nil
			}
			<-slow
			return nil, nil
		}}
	})
	defer r.Service.Close()
	defer close(slow)
	finish := func(ctx context.Context) error {
		ans := r.call(t, "read", `{}`)
		_, err := r.FinishWithReceipt(r.who, nil, ans, authz.Outcome{Status: "ok"})(ctx, action.Hash{7})
		return err
	}
	if err := finish(t.Context()); !errors.Is(err, disk) {
		t.Errorf("the disk is full: %v", err)
	}
	fails = false
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if err := finish(ctx); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("the disk is slow: %v", err)
	}
}

// Once the service is closed nothing waits for ever.
func TestNoReceiptAfterTheEnd(t *testing.T) {
	r := newRoom(t, rules)
	ans := r.call(t, "read", `{}`)
	r.Service.Close()
	if _, err := r.FinishWithReceipt(r.who, nil, ans, authz.Outcome{Status: "ok"})(t.Context(), action.Hash{7}); err == nil {
		t.Error("it has one")
	}
	var none []audit.Entry
	for _, e := range r.entries(t) {
		if e.Event == "outcome" {
			none = append(none, e)
		}
	}
	if len(none) > 0 {
		t.Errorf("written: %+v", none)
	}
}
