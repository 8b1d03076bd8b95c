package approvals

import (
	"testing"
	"time"

	"github.com/openleash/openleash-go/action"
)

func TestFoldable(t *testing.T) {
	for _, tt := range []struct {
		name    string
		request Request
		held    time.Duration // after noon
		after   time.Duration
		hash    action.Hash
		agent   string
		join    error
		fold    error
	}{
		{"pending", made(Pending), 0, time.Hour - tick, mine, "bot", nil, nil},
		{"over", made(Pending), 0, time.Hour, mine, "bot", ErrExpired, ErrExpired},
		{"held", made(Pending), time.Minute, time.Minute - tick, mine, "bot", nil, ErrHeld},
		{"held no more", made(Pending), time.Minute, time.Minute, mine, "bot", nil, nil},
		{"another version", made(Pending), 0, 0, other, "bot", ErrReplaced, ErrReplaced},
		{"another's", made(Pending), 0, 0, mine, "Bot", ErrNotFound, ErrNotFound},
		{"approved", made(Approved), 0, 0, mine, "bot", ErrAnswered, ErrAnswered},
		{"denied", made(Denied), 0, 0, mine, "bot", ErrAnswered, ErrAnswered},
		{"used", made(Redeemed), 0, 0, mine, "bot", ErrAnswered, ErrAnswered},
		{"written expired", made(Expired), 0, 0, mine, "bot", ErrExpired, ErrExpired},
		{"unknown", made("SOMETHING"), 0, 0, mine, "bot", ErrAnswered, ErrAnswered},
	} {
		if tt.held > 0 {
			tt.request.HeldUntil = noon.Add(tt.held)
		}
		if got := tt.request.Joinable(noon.Add(tt.after), tt.hash, tt.agent); got != tt.join {
			t.Errorf("%s: joining: want %v, got %v", tt.name, tt.join, got)
		}
		if got := tt.request.Foldable(noon.Add(tt.after), tt.hash, tt.agent); got != tt.fold {
			t.Errorf("%s: folding: want %v, got %v", tt.name, tt.fold, got)
		}
	}
}

// A new version has a new action, and the place, the age and the count of the old one.
func TestReplaced(t *testing.T) {
	was := made(Pending)
	was.ID, was.Version, was.Asked = "r1", 3, 7
	next := made(Pending)
	next.ID, next.ActionHash, next.CreatedAt, next.ExpiresAt, next.LastAsked = "r2", other, noon.Add(time.Minute), noon.Add(48*time.Hour), noon.Add(time.Minute)
	got := was.Replaced(next)
	if got.ID != "r1" || got.CreatedAt != was.CreatedAt || got.ExpiresAt != was.ExpiresAt || got.Version != 4 || got.Asked != 8 || got.ActionHash != other || got.LastAsked != noon.Add(time.Minute) {
		t.Errorf("%+v", got)
	}
}

func TestAnswerToAnotherVersion(t *testing.T) {
	for _, approve := range []bool{true, false} {
		for _, hash := range []action.Hash{other, {}} {
			if got := made(Pending).Answerable(Answer{ActionHash: hash, Approve: approve, At: noon}); got != ErrReplaced {
				t.Errorf("approve %t: %v", approve, got)
			}
		}
	}
}

func TestTally(t *testing.T) {
	for n, want := range map[int]bool{0: false, 2: false, 3: true, 100: true} {
		if (Tally{Call: n}).OfCall() != want || (Tally{Kind: n}).OfKind() != want {
			t.Errorf("after %d approvals", n)
		}
	}
}
