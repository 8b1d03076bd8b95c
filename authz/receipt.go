package authz

import (
	"context"
	"fmt"

	"github.com/openleash/openleash-go/action"
	"github.com/openleash/openleash-go/proof"
)

// FinishWithReceipt is Finish for a result that goes back with a receipt. What it returns
// waits until the outcome is on disk, which does not take as long then, and signs: a
// receipt says nothing that the log does not say. result is the hash of the result as
// the host gets it.
func (s *Service) FinishWithReceipt(who Caller, call *Call, ans Answer, o Outcome) (receipt func(ctx context.Context, result action.Hash) (string, error)) {
	told := make(chan error, 1)
	done := s.finished(who, call, ans, o)
	done.told = told
	at := s.cfg.Now()
	s.finisher.add(done)
	return func(ctx context.Context, result action.Hash) (string, error) {
		select {
		case err := <-told:
			if err != nil {
				return "", fmt.Errorf("the outcome could not be recorded: %w", err)
			}
		case <-ctx.Done():
			return "", fmt.Errorf("waiting for the outcome to be recorded: %w", ctx.Err())
		}
		r := proof.Receipt{
			At: at, AgentID: who.Agent.Name, OwnerID: who.Agent.OwnerID, DecisionID: ans.DecisionID,
			ActionID: ans.ActionID, ActionType: ans.ActionType, ActionHash: ans.ActionHash.String(),
			ResultHash: result.String(), Outcome: o.Status, Log: s.Checkpoint(),
		}
		if call != nil {
			r.Server, r.Tool = call.Server, call.Tool
			r.CallHash = action.CallHash(call.Tool, call.Arguments).String()
		}
		return s.cfg.Key.SignReceipt(r)
	}
}
