package authz

import (
	"context"
	"errors"
	"slices"
	"time"

	"github.com/openleash/openleash-go/policy"
)

// LimitReader looks at limits: it charges nothing and waits for nobody. Each answer
// is of one moment, and exact.
type LimitReader interface {
	// Room tells how full the limits of charges are at a time (Unix milliseconds), and
	// whether each charge would fit. The answers are in the order of the charges.
	Room(ctx context.Context, now int64, charges []Charge) ([]Room, error)
	// LimitKeys tells how full a limit is for each key of which something counts, in
	// the order of the keys from the one after on, n of them at most. Of c it reads
	// the limit and the window; and the key if there is one: then it is that alone.
	LimitKeys(ctx context.Context, now int64, c Charge, after string, n int) ([]KeyState, error)
	// LimitIDs are the limits to which charges are kept, or something is set aside:
	// also those that stand in no policy any more.
	LimitIDs(ctx context.Context) ([]string, error)
	// LimitCharges lists what was charged to a limit for a key, the newest first, from
	// what is older than before on, n at most.
	LimitCharges(ctx context.Context, limit, key string, before ChargePlace, n int) ([]Charged, error)
	// DecisionCharges are the charges on which a decision stands, and those from which
	// an owner has released it.
	DecisionCharges(ctx context.Context, decisionID string) ([]Charged, error)
}

// Room is how full a limit is, and whether a charge would fit. Retry is 0 when it does.
type Room struct {
	policy.LimitState
	Fits bool
}

// KeyState is how full a limit is for one key.
type KeyState struct {
	Key  string
	Used int64
	Held int64 // by what runs, and what is set aside
	// Next is when the next of it stops to count; 0: never.
	Next int64
}

// ChargePlace is where a charge stands among those of its key; zero: before the newest.
type ChargePlace struct{ At, N int64 }

// Charged is one charge as it is kept.
type Charged struct {
	ChargePlace
	Limit    string
	Key      string
	Amount   int64
	Held     bool // it is not known yet what came of it
	AgentID  string
	ActionID string
	// Decisions are those that stand on it: the one that was charged, and later ones on
	// the same action.
	Decisions []string

	// ReleasedAt is when an owner released the decision from it, and ReleasedBy who;
	// zero: it counts.
	ReleasedAt int64
	ReleasedBy string
}

// RoomFor tells of each charge of a decision how full its limit is now, and whether it
// would fit, without charging anything. A charge that cannot be counted (Doubt) fits
// nowhere.
func RoomFor(ctx context.Context, r LimitReader, now time.Time, charges []policy.Charge) ([]Room, error) {
	var ask []Charge
	for _, c := range charges {
		if c.Doubt == "" {
			ask = append(ask, chargeOf(c, now))
		}
	}
	rooms, err := r.Room(ctx, now.UnixMilli(), ask)
	if err != nil {
		return nil, err
	}
	for i, c := range charges {
		if c.Doubt != "" {
			rooms = slices.Insert(rooms, i, Room{LimitState: policy.LimitState{Limit: c.Limit.ID}})
		}
	}
	return rooms, nil
}

// chargeOf is what a decision's charge takes at a time.
func chargeOf(c policy.Charge, now time.Time) Charge {
	from, to := c.Limit.Span(now)
	charge := Charge{
		Limit: c.Limit.ID, Key: c.Key, Amount: c.Amount, Max: c.Limit.Max,
		From: from.UnixMilli(), Trailing: c.Limit.Trailing().Milliseconds(), Aside: c.Limit.ReserveOnHold,
	}
	if !to.IsZero() {
		charge.To = to.UnixMilli()
	}
	return charge
}

// A LimitView is one limit as its owner looks at it.
type LimitView struct {
	ID string
	// Limit is nil when the limit stands in no policy in force: then what is kept of
	// its charges is all that is known.
	Limit *policy.Limit
	Keys  []KeyState
	More  string // the last of Keys, if there are more; else empty
}

// Left is what a key has left; of a limit that stands in no policy nobody knows.
func (v LimitView) Left(k KeyState) int64 { return max(0, v.Limit.Max-k.Used-k.Held) }

// Whose reads a key to people; empty: of all together.
func (v LimitView) Whose(key string) string {
	if v.Limit == nil {
		return policy.KeyWords(key)
	}
	return v.Limit.Whose(key)
}

// Text writes an amount of the limit.
func (v LimitView) Text(n int64) string {
	if v.Limit == nil {
		return (&policy.Limit{}).Text(n)
	}
	return v.Limit.Text(n)
}

// Until is when a charge stops to count; 0: it is not known, or does not by itself.
func (v LimitView) Until(c Charged) int64 {
	if v.Limit == nil {
		return 0
	}
	if trailing := v.Limit.Trailing(); trailing > 0 {
		return c.At + trailing.Milliseconds()
	}
	_, to := v.Limit.Span(time.UnixMilli(c.At))
	return to.UnixMilli()
}

// LookAtLimits tells how full all limits are: those in force in the order of the
// policies, then those that are in no policy any more. book is nil when none is in force;
// keys bounds how many are listed of each limit.
func LookAtLimits(ctx context.Context, r LimitReader, book *policy.Book, now time.Time, keys int) ([]LimitView, error) {
	ids, err := r.LimitIDs(ctx)
	if err != nil {
		return nil, err
	}
	var list []LimitView
	if book != nil {
		for _, l := range book.Limits() {
			list = append(list, LimitView{ID: l.ID, Limit: l})
			ids = slices.DeleteFunc(ids, func(id string) bool { return id == l.ID })
		}
	}
	for _, id := range ids {
		list = append(list, LimitView{ID: id})
	}
	for i := range list {
		if err := list[i].look(ctx, r, now, Look{Keys: keys}); err != nil {
			return nil, err
		}
	}
	return list, nil
}

// A Look is which part of a limit is looked at.
type Look struct {
	Limit string
	Key   string // empty: all keys
	After string // those after this one; empty: from the first on
	Keys  int    // how many at most
}

// ErrNoLimit: no policy in force has such a limit, and nothing is kept of one.
var ErrNoLimit = errors.New("there is no such limit")

// LookAtLimit tells how full one limit is.
func LookAtLimit(ctx context.Context, r LimitReader, book *policy.Book, now time.Time, l Look) (v LimitView, err error) {
	v.ID = l.Limit
	if book != nil {
		if i := slices.IndexFunc(book.Limits(), func(known *policy.Limit) bool { return known.ID == l.Limit }); i >= 0 {
			v.Limit = book.Limits()[i]
		}
	}
	if v.Limit == nil {
		ids, err := r.LimitIDs(ctx)
		if err != nil {
			return v, err
		}
		if !slices.Contains(ids, l.Limit) {
			return v, ErrNoLimit
		}
	}
	return v, v.look(ctx, r, now, l)
}

// look reads the keys, and one more to see whether there are more.
func (v *LimitView) look(ctx context.Context, r LimitReader, now time.Time, l Look) (err error) {
	c, n := Charge{Limit: v.ID}, l.Keys
	if v.Limit != nil {
		c = chargeOf(policy.Charge{Limit: v.Limit}, now)
	}
	c.Key = l.Key
	if v.Keys, err = r.LimitKeys(ctx, now.UnixMilli(), c, l.After, n+1); err == nil && len(v.Keys) > n {
		v.Keys = v.Keys[:n]
		v.More = v.Keys[n-1].Key
	}
	return err
}
