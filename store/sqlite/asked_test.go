package sqlite

import (
	"encoding/binary"
	"fmt"
	"testing"

	"github.com/openleash/openleash-go/authz"
)

// What signed requests have left goes when its time has passed, however much there is; what
// is in time stays.
func TestSignedRequestsAreForgotten(t *testing.T) {
	s := open(t, t.TempDir())
	signed := func(i int, now, until int64) {
		t.Helper()
		b := authz.Batch{
			Nonce: &authz.Nonce{Now: now, Until: until},
			Asked: &authz.Asked{AgentID: "bot", ActionID: fmt.Sprint(i), DecisionID: fmt.Sprint(i), Outcome: "DENY", Now: now, Until: until},
		}
		binary.BigEndian.PutUint64(b.Nonce.Hash[:], uint64(i))
		if err := s.Commit(t.Context(), b); err != nil {
			t.Fatal(err)
		}
	}
	rows := func(table string) int64 {
		t.Helper()
		n, err := one(t.Context(), s, errNone, readID, "SELECT count(*) FROM "+table)
		if err != nil {
			t.Fatal(err)
		}
		return n
	}
	const many = 500
	for i := range many {
		signed(i, 1, 100)
	}
	for _, table := range []string{"nonces", "asked"} {
		if n := rows(table); n != many {
			t.Errorf("%s has %d rows, want all %d: they are in time", table, n, many)
		}
	}
	for i := range many / 2 {
		signed(many+i, 100, 200)
	}
	for _, table := range []string{"nonces", "asked"} {
		if n := rows(table); n != many/2 {
			t.Errorf("%s has %d rows, want the %d that are in time", table, n, many/2)
		}
	}
}
