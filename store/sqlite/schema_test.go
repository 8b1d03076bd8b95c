package sqlite

import (
	"database/sql"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/openleash/openleash-go/identity"
)

// undoing leads back, from each version of the schema to the one before.
var undoing = map[int]string{
	3: `DROP INDEX approvals_round; ALTER TABLE approvals DROP COLUMN continued_by; ALTER TABLE approvals DROP COLUMN rounds;
		ALTER TABLE approvals DROP COLUMN round_until; ALTER TABLE approvals DROP COLUMN round_hash`,
	4: `ALTER TABLE approvals DROP COLUMN overshoots; DROP TABLE asides; DROP TABLE charge_sums; DROP TABLE charges`,
	5: `DROP TABLE releases; DROP TRIGGER stands_gone; DROP TABLE stands; DROP INDEX charges_decision`,
	6: `DROP INDEX approvals_kind`,
	7: `DROP TABLE pin_gone; DROP TABLE pin_lists; DROP TABLE pin_servers; DROP TABLE pins`,
	8: `DROP TABLE grants; ALTER TABLE approvals DROP COLUMN grant_id`,
	9: `DROP INDEX approvals_waiting; DROP TRIGGER approvals_signal; DROP TABLE signals`,
	10: `DROP TRIGGER pins_signal; DROP TRIGGER pins_first; DROP TABLE holds; DROP TABLE approval_versions; DROP INDEX approvals_quota; DROP INDEX approvals_kin; DROP INDEX approvals_kind; DROP INDEX approvals_waiting;
		ALTER TABLE approvals DROP COLUMN bytes; ALTER TABLE approvals DROP COLUMN near_to; ALTER TABLE approvals DROP COLUMN last_asked;
		ALTER TABLE approvals DROP COLUMN asked; ALTER TABLE approvals DROP COLUMN version; ALTER TABLE approvals DROP COLUMN action_type;
		CREATE INDEX approvals_kind ON approvals (agent_id, server, tool, created_at) WHERE grant_until IS NOT NULL;
		CREATE INDEX approvals_waiting ON approvals (owner_id, expires_at, id) WHERE status = 'PENDING'`,
	11: `DROP INDEX approvals_denied`,
	12: `DROP TABLE log_indexed; DROP TABLE log_ids; DROP TABLE log_blocks; DROP INDEX log_index_block; DROP TABLE log_index`,
	13: `ALTER TABLE approvals DROP COLUMN context; ALTER TABLE approvals DROP COLUMN justification; DROP TABLE asked; DROP TABLE nonces; DROP TABLE challenges; DROP TABLE invites;
		CREATE TABLE agents_before (n INTEGER PRIMARY KEY, id TEXT NOT NULL UNIQUE, name TEXT NOT NULL UNIQUE, owner_id TEXT NOT NULL REFERENCES owners (id),
			status TEXT NOT NULL, token_hash BLOB UNIQUE, created_at INTEGER NOT NULL) STRICT;
		INSERT INTO agents_before SELECT n, id, name, owner_id, status, token_hash, created_at FROM agents;
		DROP TABLE agents; ALTER TABLE agents_before RENAME TO agents`,
	14: `DROP TABLE attempts; DROP TABLE backup_codes; DROP TABLE totp_setups; DROP TABLE totp; DROP TABLE sessions;
		CREATE TABLE sessions (hash BLOB PRIMARY KEY, owner_id TEXT NOT NULL, until INTEGER NOT NULL) STRICT, WITHOUT ROWID;
		DROP INDEX links_owner; DROP INDEX links_id; ALTER TABLE links DROP COLUMN spent_at; ALTER TABLE links DROP COLUMN kind; ALTER TABLE links DROP COLUMN id;
		DROP INDEX owners_user; DROP INDEX owners_email; ALTER TABLE owners DROP COLUMN notice; ALTER TABLE owners DROP COLUMN created_at;
		ALTER TABLE owners DROP COLUMN passphrase; ALTER TABLE owners DROP COLUMN status; ALTER TABLE owners DROP COLUMN roles; ALTER TABLE owners DROP COLUMN email`,
	15: `DROP TABLE passkey_tickets; DROP TABLE passkeys; ALTER TABLE approvals DROP COLUMN deposit_reference; ALTER TABLE approvals DROP COLUMN passkey; ALTER TABLE approvals DROP COLUMN factor; ALTER TABLE approvals DROP COLUMN needs`,
	16: `DROP TABLE policy_drafts`,
	17: `ALTER TABLE owners DROP COLUMN reset_by; ALTER TABLE owners DROP COLUMN reset_at`,
}

// undo makes the schema what it was at a version.
func undo(t *testing.T, conn *sql.Conn, version int) {
	t.Helper()
	for v := len(migrations); v > version; v-- {
		for statement := range strings.SplitSeq(undoing[v], ";") {
			run(t, conn, statement)
		}
	}
	run(t, conn, fmt.Sprintf("PRAGMA user_version = %d", version))
}

// Each migration leads from the schema before it to the one after, as it is written
// down by SQLite.
func TestMigrationsLeadBackAndForth(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir)
	want := written(t, s)
	for version := len(migrations) - 1; version >= 2; version-- {
		undo(t, foreign(t, s), version)
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
		s = open(t, dir)
		if got := written(t, s); got != want {
			t.Errorf("from version %d: want\n%s\ngot\n%s", version, want, got)
		}
	}
}

// The owner of an installation that is older than users is a user now, and its admin.
func TestOwnerBecomesAUser(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir)
	o, err := s.EnsureOwner(t.Context(), "Åsa Ek")
	if err != nil {
		t.Fatal(err)
	}
	before := slices.IndexFunc(migrations, func(m string) bool { return strings.Contains(m, "ALTER TABLE owners ADD COLUMN roles") })
	undo(t, foreign(t, s), before)
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	s = open(t, dir)
	u, err := s.FindUser(t.Context(), "Åsa ek")
	if err != nil || u.Owner != o || !u.Admin() || u.Status != identity.UserActive || !u.CreatedAt.IsZero() {
		t.Errorf("want an active admin, %+v; got %+v, %v", o, u, err)
	}
}

// written is the schema as SQLite has it.
func written(t *testing.T, s *Store) string {
	t.Helper()
	objects, err := list(t.Context(), s, func(scan scan) (text string, err error) {
		err = scan(&text)
		return text, err
	}, "SELECT type || ' ' || name || ': ' || coalesce(sql, '') FROM sqlite_schema ORDER BY 1")
	if err != nil {
		t.Fatal(err)
	}
	return strings.Join(objects, "\n")
}
