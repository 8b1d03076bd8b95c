package sqlite

import (
	"strings"
	"testing"

	"github.com/openleash/openleash-go/approvals"
	"github.com/openleash/openleash-go/authz"
)

// A request that an earlier program has opened has a kind, a size and a count.
func TestOlderRequests(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir)
	r := request("r1")
	r.Server, r.Tool = "shop", "buy"
	if err := s.Commit(t.Context(), authz.Batch{Open: &r}); err != nil {
		t.Fatal(err)
	}
	conn := foreign(t, s)
	undo(t, conn, 9)
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	s = open(t, dir)
	list, err := s.Kin(t.Context(), r.Kind(), approvals.Pending, 9)
	if err != nil || len(list) != 1 || list[0].Version != 1 || list[0].Asked != 1 || !list[0].LastAsked.Equal(list[0].CreatedAt) {
		t.Fatalf("%+v, %v", list, err)
	}
	other := request("r2")
	other.IntentHash[0]++
	err = s.Commit(t.Context(), authz.Batch{Open: &other, Quota: &authz.Quota{Requests: 2, Bytes: int64(2*len(r.Action.Canonical()) - 1)}})
	if full, ok := err.(*authz.QuotaError); !ok || full.Requests != 1 || full.Bytes != int64(len(r.Action.Canonical())) {
		t.Errorf("its size: %v", err)
	}
}

// Looking at kin, counting and the quota's condition cost the same however many
// requests there are.
func TestVersionQueriesUseIndexes(t *testing.T) {
	s := open(t, t.TempDir())
	for query, index := range map[string]string{
		selectKin: "INDEX approvals_kin ", selectLastApproved: "INDEX approvals_kind ", selectTally: "INDEX approvals_kind ",
		selectQuota: "COVERING INDEX approvals_quota ", selectVersions: "INDEX sqlite_autoindex_approval_versions_1 ",
	} {
		args := make([]any, strings.Count(query, "?"))
		plan, err := list(t.Context(), s, func(scan scan) (step string, err error) {
			var id, parent, unused int
			err = scan(&id, &parent, &unused, &step)
			return step, err
		}, "EXPLAIN QUERY PLAN "+query, args...)
		text := strings.Join(plan, "\n")
		if err != nil || !strings.Contains(text, index) || strings.Contains(text, "SCAN approvals") || strings.Contains(text, "TEMP B-TREE") {
			t.Errorf("%s, %v:\n%s", query, err, text)
		}
	}
}
