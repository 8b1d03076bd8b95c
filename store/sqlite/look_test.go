package sqlite

import (
	"context"
	"fmt"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/openleash/openleash-go/action"
	"github.com/openleash/openleash-go/authz"
)

// What owners look at is found by an index, however much was charged: no statement goes
// through a whole table.
func TestLooksUseIndexes(t *testing.T) {
	s := open(t, t.TempDir())
	args := []any{"p/a", "[]", 1, 2, 3, 4, 5, 6}
	whole := regexp.MustCompile(`SCAN (charges|charge_sums|stands|releases|c)\b`) // asides are as few as open requests
	for _, query := range []string{selectIDs, selectChargedKeys, selectAsideKeys, selectPage, selectOfDecision, selectReleases} {
		marks := strings.Count(query, "?")
		for i := range args {
			if n := fmt.Sprint("?", i+1); strings.Contains(query, n) {
				marks = i + 1
			}
		}
		plan, err := list(t.Context(), s, func(scan scan) (step string, err error) {
			var id, parent, unused int
			err = scan(&id, &parent, &unused, &step)
			return step, err
		}, "EXPLAIN QUERY PLAN "+query, args[:marks]...)
		if err != nil || len(plan) == 0 {
			t.Fatalf("%s: %v", query, err)
		}
		text := strings.Join(plan, "\n")
		if hit := whole.FindString(text); hit != "" || !strings.Contains(text, "INDEX") {
			t.Errorf("%s:\n%s", query, text)
		}
	}
}

// A look does not wait for the writer: it is answered while a transaction is open.
func TestLookWaitsForNobody(t *testing.T) {
	s := open(t, t.TempDir())
	charge := authz.Charge{Limit: "p/a", Key: "[]", Amount: 1, Max: 9}
	reserve := authz.Batch{Reserve: &authz.Reservation{DecisionID: "d", ActionHash: modelHash, Charges: []authz.Charge{charge}}}
	if err := s.Commit(t.Context(), reserve); err != nil {
		t.Fatal(err)
	}
	within, let := make(chan struct{}), make(chan struct{})
	done := make(chan error, 1)
	go func() {
		done <- s.write(context.Background(), func(tx *tx) error {
			_, err := tx.exec("UPDATE charges SET held = 0")
			close(within)
			<-let
			return err
		})
	}()
	<-within
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
	defer cancel()
	keys, err := s.LimitKeys(ctx, 0, charge, "", 9)
	if err != nil || len(keys) != 1 || keys[0].Held != 1 {
		t.Errorf("%+v, %v; want what was committed", keys, err)
	}
	close(let)
	if err := <-done; err != nil {
		t.Fatal(err)
	}
}

// More look at once than there are connections.
func TestManyLookAtOnce(t *testing.T) {
	s := open(t, t.TempDir())
	fillCharges(t, s, 100, 10)
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	var wg sync.WaitGroup
	for range 8 * readers {
		wg.Go(func() {
			if keys, err := s.LimitKeys(ctx, 0, authz.Charge{Limit: "shop/daily"}, "", 99); err != nil || len(keys) != 10 {
				t.Errorf("%d keys, %v", len(keys), err)
			}
		})
	}
	wg.Wait()
}

// With a charge that is cleared away goes what is known of the decisions on it: another
// charge may get its number.
func TestTidiedWithItsDecisions(t *testing.T) {
	s := open(t, t.TempDir())
	reserve := func(decision, actionID string, now int64) {
		t.Helper()
		charge := authz.Charge{Limit: "p/a", Key: "[]", Amount: 1, Max: 99, From: now}
		r := authz.Reservation{DecisionID: decision, AgentID: "bot", ActionID: actionID, ActionHash: modelHash, Now: now, Charges: []authz.Charge{charge}}
		if err := s.Commit(t.Context(), authz.Batch{Reserve: &r}); err != nil {
			t.Fatal(err)
		}
	}
	stands := func(want int) {
		t.Helper()
		if got, err := list(t.Context(), s, readText, "SELECT decision_id FROM stands"); err != nil || len(got) != want {
			t.Errorf("%v, %v; want %d", got, err, want)
		}
	}
	reserve("first", "the action", 0)
	reserve("second", "the action", 0)
	stands(1)
	reserve("later", "another", keepCharges+1)
	stands(0)
}

// fillCharges makes charges of limit shop/daily, a second apart, for so many keys.
func fillCharges(tb testing.TB, s *Store, charges, keys int) {
	tb.Helper()
	err := s.write(tb.Context(), func(t *tx) error {
		for i := range charges {
			if _, err := t.exec(`INSERT INTO charges (limit_id, key, at, amount, held, agent_id, action_id, action_hash, decision_id)
				VALUES ('shop/daily', ?, ?, 1, 0, 'bot', ?, zeroblob(32), ?)`,
				fmt.Sprintf(`["%06d"]`, i%keys), i*1000, fmt.Sprint(i), fmt.Sprint(i)); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		tb.Fatal(err)
	}
}

// BenchmarkLook measures what the pages and commands read, with 100,000 charges.
func BenchmarkLook(b *testing.B) {
	const charges = 100_000
	for _, keys := range []int{1, 100, 100_000} {
		s := open(b, b.TempDir())
		fillCharges(b, s, charges, keys)
		now := int64(charges * 1000)
		all := authz.Charge{Limit: "shop/daily", Key: `["000000"]`, From: 1, Trailing: now, Amount: 1, Max: 1}
		none := authz.Charge{Limit: "shop/daily", From: now, Trailing: 1} // every key is to be passed over
		for _, look := range []struct {
			name string
			do   func(ctx context.Context) error
		}{
			{"ids", func(ctx context.Context) error { _, err := s.LimitIDs(ctx); return err }},
			{"keys", func(ctx context.Context) error { _, err := s.LimitKeys(ctx, now, all, "", 51); return err }},
			{"nothing", func(ctx context.Context) error { _, err := s.LimitKeys(ctx, now, none, "", 51); return err }},
			{"room", func(ctx context.Context) error { _, err := s.Room(ctx, now, []authz.Charge{all}); return err }},
			{"charges", func(ctx context.Context) error {
				_, err := s.LimitCharges(ctx, "shop/daily", all.Key, authz.ChargePlace{}, 50)
				return err
			}},
			{"decision", func(ctx context.Context) error { _, err := s.DecisionCharges(ctx, "77777"); return err }},
		} {
			b.Run(fmt.Sprintf("%s/keys=%d", look.name, keys), func(b *testing.B) {
				for b.Loop() {
					if err := look.do(b.Context()); err != nil {
						b.Fatal(err)
					}
				}
			})
		}
	}
}

// What each held call looks for takes an index, however often its intent was asked for.
func TestOpenApprovalTakesIndexes(t *testing.T) {
	s := open(t, t.TempDir())
	plan, err := list(t.Context(), s, func(scan scan) (step string, err error) {
		var id, parent, unused int
		err = scan(&id, &parent, &unused, &step)
		return step, err
	}, "EXPLAIN QUERY PLAN "+selectOpen, openArgs("bot", action.Hash{1}, time.Now(), time.Now())...)
	if err != nil {
		t.Fatal(err)
	}
	text := strings.Join(plan, "\n")
	for _, want := range []string{"INDEX approvals_open ", "INDEX approvals_denied ", "USING INTEGER PRIMARY KEY"} {
		if !strings.Contains(text, want) {
			t.Errorf("want %s in\n%s", want, text)
		}
	}
}
