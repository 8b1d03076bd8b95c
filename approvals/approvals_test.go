package approvals

import (
	"context"
	"crypto/sha256"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/openleash/openleash-go/action"
)

var (
	noon  = time.Date(2026, 5, 5, 12, 0, 0, 0, time.UTC)
	tick  = time.Millisecond
	mine  = action.Hash{1}
	other = action.Hash{2}
)

// made is a request of agent bot, an hour from noon, as it is in a status.
func made(status Status) Request {
	r := Request{AgentID: "bot", ActionHash: mine, Status: status, CreatedAt: noon, ExpiresAt: noon.Add(time.Hour)}
	if status != Pending && status != Expired {
		r.AnsweredAt = noon.Add(time.Minute)
	}
	if status == Approved || status == Redeemed {
		r.GrantUntil = noon.Add(2 * time.Hour)
	}
	return r
}

func TestOvershootWithin(t *testing.T) {
	shown := Overshoot{Limit: "p/daily", Key: `["a"]`, Max: 100, Used: 50, Held: 20, Amount: 40}
	for _, tt := range []struct {
		name string
		f    func(*Overshoot)
		want bool
	}{
		{"the same", func(*Overshoot) {}, true},
		{"by less", func(o *Overshoot) { o.Used-- }, true},
		{"by more", func(o *Overshoot) { o.Used++ }, false},
		{"by more, held", func(o *Overshoot) { o.Held++ }, false},
		{"as far beyond another maximum", func(o *Overshoot) { o.Max, o.Used = 200, 150 }, true},
		{"another limit", func(o *Overshoot) { o.Limit = "p/Daily" }, false},
		{"for another", func(o *Overshoot) { o.Key = "[]" }, false},
		{"what cannot be counted", func(o *Overshoot) { *o = Overshoot{Limit: o.Limit, Key: o.Key, Doubt: "x"} }, false},
	} {
		o := shown
		if tt.f(&o); o.Within(shown) != tt.want {
			t.Errorf("%s: want %v", tt.name, tt.want)
		}
	}
	doubt := Overshoot{Limit: "p/daily", Doubt: "x is missing"}
	if !doubt.Within(doubt) || doubt.Within(shown) || doubt.Within(Overshoot{Limit: "p/daily", Doubt: "y is missing"}) {
		t.Error("what cannot be counted is approved for its reason alone")
	}
}

func TestAt(t *testing.T) {
	for _, test := range []struct {
		status Status
		after  time.Duration
		want   Status
	}{
		{Pending, 0, Pending},
		{Pending, time.Hour - tick, Pending},
		{Pending, time.Hour, Expired},
		{Approved, time.Hour, Approved},
		{Approved, 2*time.Hour - tick, Approved},
		{Approved, 2 * time.Hour, Expired},
		{Denied, 24 * time.Hour, Denied},
		{Redeemed, 24 * time.Hour, Redeemed},
		{Expired, 0, Expired},
	} {
		r := made(test.status)
		got := r.At(noon.Add(test.after))
		if got != test.want {
			t.Errorf("%s after %s: want %s, got %s", test.status, test.after, test.want, got)
		}
		if open := r.Open(noon.Add(test.after)); open != (test.want == Pending || test.want == Approved) {
			t.Errorf("%s after %s: open is %t", test.status, test.after, open)
		}
	}
}

func TestAnswerable(t *testing.T) {
	lapsed := made(Expired) // a grant whose time has passed, written down
	lapsed.AnsweredAt = noon
	for _, test := range []struct {
		name    string
		request Request
		after   time.Duration
		approve error
		deny    error
	}{
		{"pending", made(Pending), time.Hour - tick, nil, nil},
		{"pending, too late", made(Pending), time.Hour, ErrExpired, nil},
		{"expired", made(Expired), 0, ErrExpired, nil},
		{"lapsed", lapsed, 0, ErrAnswered, ErrAnswered},
		{"approved", made(Approved), 0, ErrAnswered, ErrAnswered},
		{"denied", made(Denied), 0, ErrAnswered, ErrAnswered},
		{"redeemed", made(Redeemed), 0, ErrAnswered, ErrAnswered},
		{"unknown", made("SOMETHING"), 0, ErrAnswered, ErrAnswered},
	} {
		for approve, want := range map[bool]error{true: test.approve, false: test.deny} {
			if got := test.request.Answerable(Answer{ActionHash: mine, Approve: approve, At: noon.Add(test.after)}); got != want {
				t.Errorf("%s, approve %t: want %v, got %v", test.name, approve, want, got)
			}
		}
	}
}

func TestConfirmable(t *testing.T) {
	step, deposit, both := Needs{StepUp: true}, Needs{Deposit: true}, Needs{StepUp: true, Deposit: true}
	code := Factor{Method: "totp"}
	for _, test := range []struct {
		needs     Needs
		factor    Factor
		reference string
		want      error
	}{
		{Needs{}, Factor{}, "", nil},
		{step, Factor{}, "", ErrFactorNeeded},
		{step, Factor{}, "D-1", ErrFactorNeeded},
		{step, code, "", nil},
		{deposit, code, "", ErrReferenceNeeded},
		{deposit, code, " ", ErrReferenceNeeded},
		{deposit, Factor{}, "D-1", nil},
		{both, code, "", ErrReferenceNeeded},
		{both, Factor{}, "D-1", ErrFactorNeeded},
		{both, code, "D-1", nil},
		{Needs{}, code, "a\nb", ErrReferenceNeeded},
	} {
		r := made(Pending)
		r.Needs = test.needs
		a := Answer{ActionHash: mine, Approve: true, At: noon, Factor: test.factor, DepositReference: test.reference}
		if got := r.Answerable(a); !errors.Is(got, test.want) {
			t.Errorf("%q with %q and %q: want %v, got %v", test.needs, test.factor.Method, test.reference, test.want, got)
		}
		if a.Approve = false; r.Answerable(a) != nil {
			t.Errorf("%q: a denial takes something", test.needs)
		}
	}
}

func TestNeeds(t *testing.T) {
	all := []Needs{{}, {StepUp: true}, {Deposit: true}, {StepUp: true, Deposit: true}}
	for i, n := range all {
		if back, err := ParseNeeds(n.String()); back != n || err != nil {
			t.Errorf("%q is read as %q, %v", n, back, err)
		}
		for j, given := range all {
			if n.MetBy(given) != (i&j == i) {
				t.Errorf("%q by %q: %t", n, given, n.MetBy(given))
			}
		}
	}
	for _, text := range []string{"step_up ", "deposit step_up", "Step_up", "none"} {
		if n, err := ParseNeeds(text); err == nil {
			t.Errorf("%q is read as %q", text, n)
		}
	}
}

// The bytes that a passkey signs for are documented (docs/audit.md).
func TestApprovalChallenge(t *testing.T) {
	text := "openleash-approval-v1\napprove\n80a1d03f\nsha256:0100000000000000000000000000000000000000000000000000000000000000"
	if got := ApprovalChallenge("80a1d03f", mine); got != sha256.Sum256([]byte(text)) {
		t.Errorf("got %x", got)
	}
	seen := map[[32]byte]bool{}
	for _, c := range [][32]byte{ApprovalChallenge("a", mine), ApprovalChallenge("b", mine), ApprovalChallenge("a", other)} {
		seen[c] = true
	}
	if len(seen) != 3 {
		t.Error("two requests, or two actions, share a challenge")
	}
}

func TestAnswered(t *testing.T) {
	at := noon.Add(time.Minute)
	r := made(Pending).Answered(Answer{Approve: true, By: "cli:root", Reason: "ignored", At: at, GrantFor: time.Minute})
	if r.Status != Approved || r.AnsweredAt != at || r.AnsweredBy != "cli:root" || r.DenyReason != "" || r.GrantUntil != at.Add(time.Minute) {
		t.Errorf("approved: %+v", r)
	}
	r = made(Pending).Answered(Answer{By: "cli:root", Reason: "no", At: at, GrantFor: time.Minute})
	if r.Status != Denied || r.AnsweredAt != at || r.DenyReason != "no" || !r.GrantUntil.IsZero() {
		t.Errorf("denied: %+v", r)
	}
}

func TestRedeemable(t *testing.T) {
	for _, test := range []struct {
		status Status
		after  time.Duration
		hash   action.Hash
		agent  string
		want   error
	}{
		{Approved, 2*time.Hour - tick, mine, "bot", nil},
		{Approved, 2 * time.Hour, mine, "bot", ErrExpired},
		{Approved, 0, other, "bot", ErrNotFound},
		{Approved, 0, action.Hash{}, "bot", ErrNotFound},
		{Approved, 0, mine, "Bot", ErrNotFound},
		{Redeemed, 0, mine, "bot", ErrSpent},
		{Redeemed, 0, other, "bot", ErrNotFound},
		{Expired, 0, mine, "bot", ErrExpired},
		{Pending, 0, mine, "bot", ErrAnswered},
		{Pending, time.Hour, mine, "bot", ErrExpired},
		{Denied, 0, mine, "bot", ErrAnswered},
		{"SOMETHING", 0, mine, "bot", ErrAnswered},
	} {
		if got := made(test.status).Redeemable(noon.Add(test.after), test.hash, test.agent); !errors.Is(got, test.want) {
			t.Errorf("%s after %s by %s: want %v, got %v", test.status, test.after, test.agent, test.want, got)
		}
	}
	want := "the request is PENDING, not APPROVED"
	if got := made(Pending).Redeemable(noon, mine, "bot").Error(); got != want {
		t.Errorf("want %q, got %q", want, got)
	}
}

var token, stale = [32]byte{7}, [32]byte{8}

// running is a request whose grant was spent by decision d1, with an open round.
func running() Request {
	r := made(Redeemed)
	r.RedeemedBy, r.Round = "d1", Round{Hash: token, Until: noon.Add(time.Hour)}
	return r
}

func TestRoundOpenable(t *testing.T) {
	first, second, open := made(Redeemed), made(Redeemed), running()
	first.RedeemedBy = "d1"
	second.RedeemedBy, second.Rounds, second.ContinuedBy = "d1", 1, "d2"
	for name, test := range map[string]struct {
		request  Request
		decision string
		hash     action.Hash
		agent    string
		want     error
	}{
		"first":                {first, "d1", mine, "bot", nil},
		"another decision":     {first, "d2", mine, "bot", ErrSpent},
		"no decision":          {first, "", mine, "bot", ErrSpent},
		"second":               {second, "d2", mine, "bot", nil},
		"first, in the second": {second, "d1", mine, "bot", ErrSpent},
		"one is open":          {open, "d1", mine, "bot", ErrSpent},
		"another action":       {first, "d1", other, "bot", ErrNotFound},
		"another agent":        {first, "d1", mine, "Bot", ErrNotFound},
		"pending":              {made(Pending), "", mine, "bot", ErrNotFound},
		"approved":             {made(Approved), "", mine, "bot", ErrNotFound},
		"denied":               {made(Denied), "", mine, "bot", ErrNotFound},
		"expired":              {made(Expired), "", mine, "bot", ErrNotFound},
	} {
		if got := test.request.RoundOpenable(test.decision, test.hash, test.agent); got != test.want {
			t.Errorf("%s: want %v, got %v", name, test.want, got)
		}
	}
}

func TestContinuable(t *testing.T) {
	none, approved := running(), running()
	none.Round = Round{}
	approved.Status = Approved // what no store has
	for name, test := range map[string]struct {
		request Request
		after   time.Duration
		round   [32]byte
		hash    action.Hash
		agent   string
		want    error
	}{
		"open":              {running(), 0, token, mine, "bot", nil},
		"last moment":       {running(), time.Hour - tick, token, mine, "bot", nil},
		"over":              {running(), time.Hour, token, mine, "bot", ErrExpired},
		"another round":     {running(), 0, stale, mine, "bot", ErrSpent},
		"another and over":  {running(), time.Hour, stale, mine, "bot", ErrSpent},
		"none is open":      {none, 0, token, mine, "bot", ErrSpent},
		"none, and no hash": {none, 0, [32]byte{}, mine, "bot", ErrSpent},
		"another action":    {running(), 0, token, other, "bot", ErrNotFound},
		"another agent":     {running(), 0, token, mine, "Bot", ErrNotFound},
		"not redeemed":      {approved, 0, token, mine, "bot", ErrNotFound},
	} {
		if got := test.request.Continuable(noon.Add(test.after), test.round, test.hash, test.agent); got != test.want {
			t.Errorf("%s: want %v, got %v", name, test.want, got)
		}
	}
}

func TestSupersedable(t *testing.T) {
	for status, want := range map[Status]error{
		Pending: nil, Approved: nil, Denied: ErrAnswered, Redeemed: ErrSpent, Expired: ErrExpired, "SOMETHING": ErrAnswered,
	} {
		if got := made(status).Supersedable(); got != want {
			t.Errorf("%s: want %v, got %v", status, want, got)
		}
	}
}

// one is a store of one request; the real ones are tested in store/storetest.
type one struct {
	Reader
	get     func() (Request, error)
	changed chan struct{}
	waiting *int // how many have not called stop
}

func (s one) Approval(context.Context, string) (Request, error) { return s.get() }

func (s one) Watch(string) (<-chan struct{}, func()) {
	*s.waiting++
	return s.changed, func() { *s.waiting-- }
}

func TestWait(t *testing.T) {
	broken := errors.New("broken")
	for _, test := range []struct {
		name   string
		get    func(since time.Duration) (Request, error)
		change time.Duration // when the store says so; 0: never
		limit  time.Duration
		want   Status
		err    error
		within time.Duration
	}{
		{"answered before", func(time.Duration) (Request, error) { return made(Denied), nil }, 0, time.Hour, Denied, nil, 0},
		{"answered later", func(since time.Duration) (Request, error) {
			if since < time.Second {
				return made(Pending), nil
			}
			return made(Approved), nil
		}, time.Second, time.Hour, Approved, nil, time.Second},
		{"changed otherwise", func(time.Duration) (Request, error) { return made(Pending), nil }, time.Second, 2 * time.Hour, Pending, nil, time.Hour},
		{"never answered", func(time.Duration) (Request, error) { return made(Pending), nil }, 0, 2 * time.Hour, Pending, nil, time.Hour},
		{"given up", func(time.Duration) (Request, error) { return made(Pending), nil }, 0, 50 * time.Second, Pending, context.DeadlineExceeded, 50 * time.Second},
		{"not there", func(time.Duration) (Request, error) { return Request{}, ErrNotFound }, 0, time.Hour, "", ErrNotFound, 0},
		{"broken", func(time.Duration) (Request, error) { return Request{}, broken }, 0, time.Hour, "", broken, 0},
	} {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				began := time.Now()
				ctx, cancel := context.WithTimeout(t.Context(), test.limit)
				defer cancel()
				s := one{changed: make(chan struct{}, 1), waiting: new(int), get: func() (Request, error) {
					r, err := test.get(time.Since(began))
					r.ExpiresAt, r.GrantUntil = began.Add(time.Hour), began.Add(2*time.Hour)
					return r, err
				}}
				if test.change > 0 {
					time.AfterFunc(test.change, func() { s.changed <- struct{}{} })
				}
				r, err := Wait(ctx, s, "r1")
				if r.Status != test.want || !errors.Is(err, test.err) {
					t.Errorf("want %q, %v; got %q, %v", test.want, test.err, r.Status, err)
				}
				if took := time.Since(began); took != test.within {
					t.Errorf("want it after %s, got it after %s", test.within, took)
				}
				if *s.waiting != 0 {
					t.Error("it has not left the store's watch")
				}
			})
		})
	}
}

// What changes after Watch has returned, and before the first look has, is not
// missed; a condition without a time of its own is looked at only then.
func TestUntil(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := one{changed: make(chan struct{}, 1), waiting: new(int)}
		looks := 0
		err := Until(t.Context(), s, "tools", func(context.Context) (bool, time.Time, error) {
			if looks++; looks == 1 {
				s.changed <- struct{}{}
				return false, time.Time{}, nil
			}
			return true, time.Time{}, nil
		})
		if err != nil || looks != 2 || *s.waiting != 0 {
			t.Errorf("want two looks and nobody waiting, got %d, %d waiting, %v", looks, *s.waiting, err)
		}
	})
}
