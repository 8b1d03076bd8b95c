// Package storetest is the one suite for all stores: what the packages whose
// Store interfaces they implement rely on, with each condition on both sides of
// its limit, races, and restarts.
package storetest

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/openleash/openleash-go/action"
	"github.com/openleash/openleash-go/approvals"
	"github.com/openleash/openleash-go/audit"
	"github.com/openleash/openleash-go/authz"
	"github.com/openleash/openleash-go/identity"
	"github.com/openleash/openleash-go/owners"
	"github.com/openleash/openleash-go/policy"
	"github.com/openleash/openleash-go/proof"
)

// Store is everything that a store is to anybody.
type Store interface {
	authz.Store
	audit.Store
	identity.Store
	owners.Store
	policy.Snapshots

	PutKey(ctx context.Context, key proof.PublicKey) error
	Keys(ctx context.Context) ([]proof.PublicKey, error)
	RevokeKey(ctx context.Context, id string, at time.Time) error
	Search(ctx context.Context, q audit.Query) (audit.Page, error)

	Close() error
}

// Open opens the store that lives at place, a folder that belongs to one test,
// and makes it the first time. A second one opened at the same place, before
// or after the first is closed, is another process on the same store.
type Open func(t *testing.T, place string) Store

// Run tests a store.
func Run(t *testing.T, open Open) {
	for _, test := range []struct {
		name string
		run  func(t *testing.T, open Open)
	}{
		{"Request", testRequest},
		{"LastApproved", testLastApproved},
		{"OpenCondition", testOpenCondition},
		{"OpenRefusesOtherHash", testOpenRefusesOtherHash},
		{"AnswerCondition", testAnswerCondition},
		{"Needs", testNeeds},
		{"ApproveByPasskey", testApproveByPasskey},
		{"Passkeys", testPasskeys},
		{"NeedsOfVersion", testNeedsOfVersion},
		{"RedeemCondition", testRedeemCondition},
		{"Supersede", testSupersede},
		{"OpenRoundCondition", testOpenRoundCondition},
		{"ContinueCondition", testContinueCondition},
		{"Rounds", testRounds},
		{"RoundIsWhole", testRoundIsWhole},
		{"BatchIsWhole", testBatchIsWhole},
		{"Grant", testGrant},
		{"GiveCondition", testGiveCondition},
		{"UseCondition", testUseCondition},
		{"UseIsWhole", testUseIsWhole},
		{"Withdraw", testWithdraw},
		{"Grants", testGrants},
		{"UseRace", testUseRace},
		{"ReserveCondition", testReserveCondition},
		{"LimitState", testLimitState},
		{"ReserveIsWhole", testReserveIsWhole},
		{"ChargedOnce", testChargedOnce},
		{"Settle", testSettle},
		{"Aside", testAside},
		{"LimitOverflow", testLimitOverflow},
		{"ChargesAreTidied", testChargesAreTidied},
		{"Fold", testFold},
		{"FoldCondition", testFoldCondition},
		{"FoldRace", testFoldRace},
		{"VersionsAreBounded", testVersionsAreBounded},
		{"Join", testJoin},
		{"Holds", testHolds},
		{"Quota", testQuota},
		{"Kin", testKin},
		{"Tally", testTally},
		{"OpenApproval", testOpenApproval},
		{"Approvals", testApprovals},
		{"OpenRace", testOpenRace},
		{"AnswerRace", testAnswerRace},
		{"RedeemRace", testRedeemRace},
		{"ContinueRace", testContinueRace},
		{"OpenRoundRace", testOpenRoundRace},
		{"ReserveRace", testReserveRace},
		{"LimitKeys", testLimitKeys},
		{"LimitIDs", testLimitIDs},
		{"LimitCharges", testLimitCharges},
		{"Room", testRoom},
		{"Release", testRelease},
		{"ReleaseOfTwo", testReleaseOfTwo},
		{"ReleaseCondition", testReleaseCondition},
		{"ReleaseRace", testReleaseRace},
		{"Pins", testPins},
		{"PinCondition", testPinCondition},
		{"PinRace", testPinRace},
		{"WaitAcrossProcesses", testWaitAcrossProcesses},
		{"Watch", testWatch},
		{"WatchPins", testWatchPins},
		{"WatchFailed", testWatchFailed},
		{"WatchRace", testWatchRace},
		{"Waiting", testWaiting},
		{"CommitCancelled", testCommitCancelled},
		{"Sequencing", testSequencing},
		{"SequencingLarge", testSequencingLarge},
		{"SequencingMoved", testSequencingMoved},
		{"SequencingWhileOthersLook", testSequencingWhileOthersLook},
		{"Dropping", testDropping},
		{"SearchDropped", testSearchDropped},
		{"SequencerSeat", testSequencerSeat},
		{"CommitOrder", testCommitOrder},
		{"Search", testSearch},
		{"SearchLong", testSearchLong},
		{"SearchScope", testSearchScope},
		{"SearchAgent", testSearchAgent},
		{"SearchWhileItGrows", testSearchWhileItGrows},
		{"SearchIsBounded", testSearchIsBounded},
		{"Owner", testOwner},
		{"Agents", testAgents},
		{"Tokens", testTokens},
		{"TokensBetweenProcesses", testTokensBetweenProcesses},
		{"Enrol", testEnrol},
		{"Challenges", testChallenges},
		{"PendingIsBounded", testPendingIsBounded},
		{"EnrolRace", testEnrolRace},
		{"AgentChange", testAgentChange},
		{"RevocationVoids", testRevocationVoids},
		{"Nonces", testNonces},
		{"Asked", testAsked},
		{"Users", testUsers},
		{"LastAdmin", testLastAdmin},
		{"Passphrase", testPassphrase},
		{"ChangeIsWhole", testChangeIsWhole},
		{"Links", testLinks},
		{"LinkRace", testLinkRace},
		{"LinkWithFactor", testLinkWithFactor},
		{"Sessions", testSessions},
		{"SessionsOfDisabled", testSessionsOfDisabled},
		{"Factor", testFactor},
		{"FactorSetup", testFactorSetup},
		{"FactorRace", testFactorRace},
		{"Attempts", testAttempts},
		{"AttemptsRace", testAttemptsRace},
		{"Policies", testPolicies},
		{"Keys", testKeys},
		{"Restart", testRestart},
		{"Closed", testClosed},
	} {
		t.Run(test.name, func(t *testing.T) { test.run(t, open) })
	}
}

// start is when the tests take place: whole milliseconds, UTC, as stores keep them.
var start = time.Date(2026, 5, 5, 13, 42, 11, 7e6, time.UTC)

const ownerID = "11111111-2222-4333-8444-555555555555"

// request is what an agent asks for; the intent stands for its arguments.
func request(id, agent string, intent byte) approvals.Request {
	arguments, err := action.Parse([]byte(`{"to":"a@example.com","amount":9007199254740993,"rate":1.5,"text":"a\u2028 <b>"}`), action.Limits{})
	if err != nil {
		panic(err)
	}
	act := action.Request{
		ActionID: "8e3bdb7c-3a53-4b8e-9d0b-0123456789ab", ActionType: "mcp.shop.buy", RequestedAt: "2026-05-05T13:42:11.000Z",
		AgentID: agent, SubjectID: ownerID,
		RelyingParty: action.RelyingParty{Domain: "example.com"},
		Payload:      action.ObjectValue(action.Member{Key: "arguments", Value: arguments}),
	}
	return approvals.Request{
		ID: id, OwnerID: ownerID, AgentID: agent, DecisionID: "decision of " + id,
		Action: act, ActionHash: act.Hash(), IntentHash: action.Hash{intent},
		Server: "shop", Tool: "buy", ToolInfo: action.ObjectValue(action.Member{Key: "reads", Value: action.BoolValue(false)}),
		PolicyID: "shop", RuleID: "large", Reason: "large purchases are for people",
		Status: approvals.Pending, CreatedAt: start, ExpiresAt: start.Add(time.Hour),
		Version: 1, Asked: 1, LastAsked: start,
	}
}

// Answers and redemptions of request id, given at a time.
func approve(id string, at time.Time) *approvals.Answer {
	return &approvals.Answer{RequestID: id, ActionHash: request(id, "bot", 1).ActionHash, Approve: true, By: "portal:alice", At: at, GrantFor: 10 * time.Minute}
}

// approveShown is approve for a request with another action.
func approveShown(r approvals.Request, at time.Time) *approvals.Answer {
	a := approve(r.ID, at)
	a.ActionHash = r.ActionHash
	return a
}

func deny(id string, at time.Time) *approvals.Answer {
	return &approvals.Answer{RequestID: id, ActionHash: request(id, "bot", 1).ActionHash, By: "cli:alice", Reason: "too expensive", At: at}
}

const spender = "decision that spends"

func redeem(id string, at time.Time) *authz.Redemption {
	r := request(id, "bot", 1)
	return &authz.Redemption{RequestID: id, DecisionID: spender, ActionHash: r.ActionHash.String(), AgentID: r.AgentID, Now: at.UnixMilli()}
}

func commit(t *testing.T, s Store, batches ...authz.Batch) {
	t.Helper()
	for _, b := range batches {
		if err := s.Commit(t.Context(), b); err != nil {
			t.Fatal(err)
		}
	}
}

func ask(r approvals.Request) authz.Batch { return authz.Batch{Open: &r} }

func answer(a *approvals.Answer) authz.Batch { return authz.Batch{Answer: a} }

func spend(r *authz.Redemption) authz.Batch { return authz.Batch{Redeem: r} }

func note(text string) authz.Batch {
	return authz.Batch{Entries: []audit.Entry{{TS: "2026-05-05T13:42:11.007Z", Event: "test", ActorType: "agent", ActorID: "bot", Detail: text}}}
}

func wantErr(t *testing.T, what string, got, want error) {
	t.Helper()
	if !errors.Is(got, want) {
		t.Errorf("%s: want %v, got %v", what, want, got)
	}
}

// same compares values by their canonical form, empty slices as equal to nil.
var same = cmp.Options{
	cmp.Comparer(func(a, b action.Value) bool {
		return a.Kind() == b.Kind() && (a.Kind() == action.Missing || string(a.Canonical()) == string(b.Canonical()))
	}),
}

func wantSame(t *testing.T, what string, want, got any) {
	t.Helper()
	if diff := cmp.Diff(want, got, same); diff != "" {
		t.Errorf("%s (-want +got):\n%s", what, diff)
	}
}

// race calls fn from many goroutines at once, on two stores in turn, and
// returns their errors.
func race(a, b Store, fn func(i int, s Store) error) []error {
	errs := make([]error, 32)
	var wg sync.WaitGroup
	gun := make(chan struct{})
	for i := range errs {
		wg.Go(func() {
			<-gun
			errs[i] = fn(i, []Store{a, b}[i%2])
		})
	}
	close(gun)
	wg.Wait()
	return errs
}

// oneWinner returns the index of the only nil; all others must be loss.
func oneWinner(t *testing.T, errs []error, loss error) int {
	t.Helper()
	winner := -1
	for i, err := range errs {
		switch {
		case err == nil && winner < 0:
			winner = i
		case err == nil:
			t.Errorf("both %d and %d won", winner, i)
		default:
			wantErr(t, fmt.Sprintf("loser %d", i), err, loss)
		}
	}
	if winner < 0 {
		t.Fatal("nobody won")
	}
	return winner
}
