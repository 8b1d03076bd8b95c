package authz

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/openleash/openleash-go/action"
	"github.com/openleash/openleash-go/approvals"
)

// A call that is held for longer than its host waits comes back in legs: the host
// is told to send it again, and brings a text of ours (MCP 2026-07-28, Multi
// Round-Trip Requests, a result without input requests). The text is
//
//	NUMBER.UNTIL.REQUEST.SIGNATURE    unpadded base64url of an Ed25519 signature
//
// signed by this installation's key, purpose "leg", over these lines:
//
//	NUMBER.UNTIL.REQUEST
//	the method
//	the hash of the intent (agent, server, tool, arguments)
//
// So nobody else can make one, every process of the installation knows it, and it is
// good for this call alone, until UNTIL (Unix milliseconds). REQUEST is "definition"
// when it is the tool's definition that waits: there is no request yet. It lets its
// bringer do nothing that the same call without it could not do: each leg is decided on
// anew. It says how often the call has come back, and it is spent when the call has run,
// which is in the store: who brings it then is told so, and the owner is not asked a
// second time. One that was changed, is another's or is too old counts as none.
// Where several machines share a store, so does one that another machine has signed.

const (
	// MaxLegs is how often a host is told to come back. Clients made with go-sdk or
	// mcp-go fail at the third time in a row.
	MaxLegs = 2
	// legFor is how long a host may take to come back.
	legFor = 10 * time.Minute
	// legPurpose keeps the signature from being taken for another.
	legPurpose = "leg"
	// legOfDefinition is in the place of a request.
	legOfDefinition = "definition"
)

// leg is one that was brought back.
type leg struct {
	number  int
	request string
}

// NextLeg is the text with which the host of a held call may come back. It is empty
// when it has come back often enough, or nothing waits.
func (s *Service) NextLeg(who Caller, call *Call, ans Answer) string {
	if !ans.Code.Waits() || ans.legs >= MaxLegs {
		return ""
	}
	request := legOfDefinition
	if ans.Approval != nil {
		request = ans.Approval.ID
	}
	head := fmt.Sprintf("%d.%d.%s", ans.legs+1, s.cfg.Now().Add(legFor).UnixMilli(), request)
	intent := action.IntentHash(who.Agent.Name, call.Server, call.Tool, call.Arguments)
	sig := s.cfg.Key.SignText(legPurpose, legText(head, call, intent))
	return head + "." + base64.RawURLEncoding.EncodeToString(sig)
}

func legText(head string, call *Call, intent action.Hash) []byte {
	method := "tools/call"
	if call.Open {
		method = call.Tool
	}
	return []byte(head + "\n" + method + "\n" + intent.String())
}

// readLeg reads the text that a call has brought back; false for one that is not
// good, or not any more.
func (s *Service) readLeg(a attempt) (l leg, ok bool) {
	fields := strings.Split(a.call.Leg, ".")
	if len(fields) != 4 {
		return l, false
	}
	sig, err := base64.RawURLEncoding.Strict().DecodeString(fields[3])
	head := strings.Join(fields[:3], ".")
	if err != nil || !s.cfg.Key.Public().VerifyText(legPurpose, legText(head, a.call, a.intent), sig) {
		return l, false
	}
	number, err1 := strconv.Atoi(fields[0])
	until, err2 := strconv.ParseInt(fields[1], 10, 64)
	l = leg{number: number, request: fields[2]}
	return l, err1 == nil && err2 == nil && a.now.UnixMilli() < until
}

// leg notes how often a call has come back, and finds out whether it has run
// meanwhile: then why it does not run again.
func (s *Service) leg(ctx context.Context, a *attempt) (refusal Code, reason string) {
	if a.call == nil || a.call.Leg == "" {
		return "", ""
	}
	l, ok := s.readLeg(*a)
	if !ok {
		return "", ""
	}
	a.legs = l.number
	r, err := s.cfg.Store.Approval(ctx, l.request)
	switch {
	case errors.Is(err, approvals.ErrNotFound):
		return "", ""
	case err != nil:
		return StoreUnavailable, "the approvals cannot be read" + because(err)
	case r.Status == approvals.Redeemed && r.IntentHash == a.intent:
		return AlreadyRun, "this call was approved and has run already, for an earlier message; what came of it went to that one"
	}
	return "", ""
}
