package sqlite

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"sync"
	"testing"
	"time"

	"github.com/openleash/openleash-go/action"
	"github.com/openleash/openleash-go/approvals"
	"github.com/openleash/openleash-go/authz"
)

const grantUses = 50

// grantRequest is what a call of process and place asks for.
func grantRequest(id string, intent byte, at time.Time) approvals.Request {
	act := action.Request{ActionID: id, ActionType: "mcp.s.buy", RequestedAt: "2026-05-05T13:42:11.000Z", AgentID: "bot", SubjectID: "owner",
		Payload: action.ObjectValue(action.Member{Key: "arguments", Value: action.ObjectValue()})}
	return approvals.Request{ID: id, OwnerID: "owner", AgentID: "bot", DecisionID: "decision of " + id, Action: act, ActionHash: act.Hash(),
		IntentHash: action.Hash{intent}, Server: "s", Tool: "buy", CreatedAt: at, ExpiresAt: at.Add(time.Hour)}
}

// spendGrant uses the grant from several goroutines until there is nothing left, and
// prints how often it could.
func spendGrant(s *Store) error {
	var mu sync.Mutex
	var wg sync.WaitGroup
	used, fault := 0, error(nil)
	for i := range callers {
		wg.Go(func() {
			for n := 0; ; n++ {
				err := useOnce(s, fmt.Sprintf("%d-%d-%d", os.Getpid(), i, n))
				mu.Lock()
				if err == nil {
					used++
				} else if !errors.Is(err, approvals.ErrSpent) {
					fault = err
				}
				mu.Unlock()
				if err != nil {
					return
				}
			}
		})
	}
	wg.Wait()
	if fault != nil {
		return fault
	}
	return json.NewEncoder(os.Stdout).Encode(used)
}

func useOnce(s *Store, id string) error {
	g, err := s.Grant(context.Background(), "g1")
	if err != nil {
		return err
	}
	now := g.CreatedAt.Add(time.Minute)
	r := grantRequest(id, 2, now)
	b := note(id)
	b.UseGrant = &authz.GrantUse{GrantID: g.ID, Request: g.Use(r), Now: now}
	return s.Commit(context.Background(), b)
}

// Three processes use one grant as fast as they can: exactly as many run as were given,
// each with a request and an entry of its own.
func TestGrantAmongProcesses(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir)
	at := time.Date(2026, 5, 5, 12, 0, 0, 0, time.UTC)
	r := grantRequest("r0", 1, at)
	g, err := r.Standing("g1", approvals.Terms{Uses: grantUses}, "cli:ann", at)
	if err != nil {
		t.Fatal(err)
	}
	for _, b := range []authz.Batch{{Open: &r}, {Grant: &g, Answer: &approvals.Answer{RequestID: r.ID, ActionHash: r.ActionHash, Approve: true, By: "cli:ann", At: at, GrantFor: time.Hour}}} {
		if err := s.Commit(t.Context(), b); err != nil {
			t.Fatal(err)
		}
	}
	var cmds []*exec.Cmd
	var outs []io.Reader
	for range 3 {
		cmd, out := start(t, "grant", dir)
		cmds, outs = append(cmds, cmd), append(outs, out)
	}
	total := 0
	for i, cmd := range cmds {
		used := 0
		decodeErr := json.NewDecoder(outs[i]).Decode(&used)
		if err := cmd.Wait(); err != nil || decodeErr != nil {
			t.Fatalf("process %d: %v, %v", i, err, decodeErr)
		}
		t.Logf("process %d: %d uses", i, used)
		total += used
	}
	if total != grantUses-1 { // the first is that of its request
		t.Errorf("%d uses, want %d", total, grantUses-1)
	}
	list, err := s.Approvals(t.Context(), "owner", approvals.Redeemed, 0)
	if err != nil || len(list) != total {
		t.Errorf("%d requests were let through, want %d (%v)", len(list), total, err)
	}
	entries := details(t, s)
	for _, r := range list {
		if r.GrantID != "g1" || entries[r.ID] != 1 {
			t.Errorf("request %s of grant %s has %d entries", r.ID, r.GrantID, entries[r.ID])
		}
	}
	if g, err = s.Grant(t.Context(), "g1"); err != nil || g.Used != grantUses {
		t.Errorf("the grant says %d, %v", g.Used, err)
	}
}
