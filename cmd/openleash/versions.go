package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/spf13/cobra"

	"github.com/openleash/openleash-go/action"
	"github.com/openleash/openleash-go/approvals"
	"github.com/openleash/openleash-go/authz"
	"github.com/openleash/openleash-go/identity"
	"github.com/openleash/openleash-go/internal/diff"
	"github.com/openleash/openleash-go/internal/visible"
)

// approve records an owner's yes, with what it takes. An approval is for the version that they name:
// an agent may word anew what waits, between a look and an answer.
func (a *app) approve(cmd *cobra.Command, id string, version int, reference string) (approvals.Request, error) {
	ctx := cmd.Context()
	r, err := a.shown(ctx, id, version)
	if err != nil {
		return r, err
	}
	c := authz.Confirmation{DepositReference: reference}
	if c.Code, err = a.codeFor(cmd, r); err != nil {
		return r, err
	}
	r, err = a.service.Approve(ctx, cliActor(), id, r.ActionHash, c)
	return r, a.refusedHere(err)
}

// shown is a request at the version that the owner was shown.
func (a *app) shown(ctx context.Context, id string, version int) (approvals.Request, error) {
	r, err := a.store.Approval(ctx, id)
	if err == nil && r.Version != version {
		err = fmt.Errorf("%w: it is at version %d, and you answer version %d", approvals.ErrReplaced, r.Version, version)
	}
	return r, err
}

// answerHint is what to do when an answer did not count.
func answerHint(id string, err error) string {
	switch {
	case errors.Is(err, approvals.ErrReplaced):
		return "openleash approvals show " + id + " shows it, and how to answer it"
	case errors.Is(err, approvals.ErrReferenceNeeded):
		return "say by which the deposit is found again: --deposit-reference TEXT"
	case errors.Is(err, identity.ErrNoFactor):
		return "sign in (openleash open) and set one up; it can be denied without"
	case errors.Is(err, identity.ErrFactorRequired), errors.Is(err, identity.ErrFactorWrong):
		return "nothing was answered; give the code that your authenticator app shows now, or a backup code: when it is asked for, or as the first line of standard input; it is never an argument"
	case errors.Is(err, approvals.ErrNoStanding):
		return "approve it without --times, --for and --bound"
	}
	return "openleash approvals list shows what waits"
}

// suggestRule says what would spare the next approval, when there were enough.
func (a *app) suggestRule(ctx context.Context, w io.Writer, r approvals.Request) error {
	if r.Needs != (approvals.Needs{}) {
		return nil
	}
	t, err := a.store.Tally(ctx, r, time.Now().Add(-approvals.SuggestFor))
	switch {
	case err != nil:
		return fmt.Errorf("it is approved; counting such approvals: %w", err)
	case t.OfCall():
		fmt.Fprintf(w, "You have approved this very call %d times in 30 days. A rule of it: openleash approvals rule %s\n", t.Call, r.ID)
	case t.OfKind():
		fmt.Fprintf(w, "You have approved %d such calls in 30 days. A rule for them: openleash approvals rule %s\n", t.Kind, r.ID)
	}
	return nil
}

// askedWords says how often a request was asked for.
func askedWords(r approvals.Request, now time.Time) string {
	if r.Asked < 2 {
		return ""
	}
	words := fmt.Sprintf("%d times, last %s ago", r.Asked, now.Sub(r.LastAsked).Round(time.Second))
	if r.Version > 1 {
		words += fmt.Sprintf("; this is version %d", r.Version)
	}
	return words
}

// versionFlag is what approve has to be told of a request that is not at its first
// version.
func versionFlag(r approvals.Request) string {
	if r.Version < 2 {
		return ""
	}
	return fmt.Sprintf(" --version %d", r.Version)
}

// versionView is a former version as --json shows it.
type versionView struct {
	Version    int          `json:"version"`
	Payload    action.Value `json:"payload"`
	ActionHash string       `json:"action_hash"`
	DecisionID string       `json:"decision_id"`
	AskedAt    string       `json:"asked_at"`
}

func versionViews(list []approvals.Version) (views []versionView) {
	for _, v := range list {
		views = append(views, versionView{v.Version, v.Action.Payload, v.ActionHash.String(), v.DecisionID, v.Action.RequestedAt})
	}
	return views
}

// earlier shows what came before a request as it is now.
func (p *approvalPrinter) earlier(e authz.Earlier) {
	if n := len(e.Versions); n > 0 {
		was := e.Versions[n-1]
		p.heading(fmt.Sprintf("Version %d: the same in other words than version %d", p.r.Version, was.Version))
		p.changes(was.Action.Payload)
	}
	if d := e.Denied; d != nil {
		reason := "without a reason"
		if d.DenyReason != "" {
			reason = visible.Line(d.DenyReason)
		}
		p.heading(fmt.Sprintf("Something like this was denied on %s (%s): %s", d.AnsweredAt.Local().Format(time.DateTime), d.ID, reason))
		p.changes(d.Action.Payload)
	}
}

// changes shows how a former payload became the present one.
func (p *approvalPrinter) changes(was action.Value) {
	for _, c := range diff.Values(was, p.r.Action.Payload) {
		p.change(c)
	}
}
