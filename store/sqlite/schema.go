package sqlite

import (
	"context"
	"database/sql"
	"fmt"
)

// migrations lead from each version of the schema to the next; user_version of
// the file is the number of those it has behind it. What was released is never
// edited: a change is a new entry.
//
// Times are Unix milliseconds, hashes their 32 bytes. "n" is the order of
// arrival. Nothing is deleted but what has lost its meaning.
var migrations = []string{`
CREATE TABLE owners (
	n          INTEGER PRIMARY KEY,
	id         TEXT NOT NULL UNIQUE,
	type       TEXT NOT NULL,
	name       TEXT NOT NULL
) STRICT;

CREATE TABLE agents (
	n          INTEGER PRIMARY KEY,
	id         TEXT NOT NULL UNIQUE,
	name       TEXT NOT NULL UNIQUE,
	owner_id   TEXT NOT NULL REFERENCES owners (id),
	status     TEXT NOT NULL CHECK (status IN ('ACTIVE', 'REVOKED')),
	token_hash BLOB UNIQUE CHECK (length(token_hash) = 32),
	created_at INTEGER NOT NULL
) STRICT;

CREATE TABLE links (
	hash       BLOB PRIMARY KEY CHECK (length(hash) = 32),
	owner_id   TEXT NOT NULL REFERENCES owners (id),
	until      INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE sessions (
	hash       BLOB PRIMARY KEY CHECK (length(hash) = 32),
	owner_id   TEXT NOT NULL REFERENCES owners (id),
	until      INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE approvals (
	n           INTEGER PRIMARY KEY,
	id          TEXT NOT NULL UNIQUE,
	owner_id    TEXT NOT NULL,
	agent_id    TEXT NOT NULL,
	decision_id TEXT NOT NULL,
	action      BLOB NOT NULL, -- canonical; action_hash is its SHA-256
	action_hash BLOB NOT NULL CHECK (length(action_hash) = 32),
	intent_hash BLOB NOT NULL CHECK (length(intent_hash) = 32),
	server      TEXT NOT NULL,
	tool        TEXT NOT NULL,
	tool_info   BLOB, -- canonical; NULL outside MCP
	policy_id   TEXT NOT NULL,
	rule_id     TEXT NOT NULL,
	reason      TEXT NOT NULL,
	status      TEXT NOT NULL CHECK (status IN ('PENDING', 'APPROVED', 'DENIED', 'EXPIRED', 'REDEEMED')),
	created_at  INTEGER NOT NULL,
	expires_at  INTEGER NOT NULL,
	answered_at INTEGER,
	answered_by TEXT NOT NULL DEFAULT '',
	deny_reason TEXT NOT NULL DEFAULT '',
	grant_until INTEGER,
	consumed_at INTEGER,
	redeemed_by TEXT NOT NULL DEFAULT '',
	CHECK ((status = 'REDEEMED') = (consumed_at IS NOT NULL)),
	CHECK (consumed_at IS NULL OR grant_until IS NOT NULL)
) STRICT;
-- The second lock on the door of approvals.Request.Open: one open request an intent.
CREATE UNIQUE INDEX approvals_open ON approvals (agent_id, intent_hash) WHERE status IN ('PENDING', 'APPROVED');
CREATE INDEX approvals_intent ON approvals (agent_id, intent_hash, created_at);
CREATE INDEX approvals_owner ON approvals (owner_id, created_at);
CREATE INDEX approvals_inbox ON approvals (owner_id, status, created_at);

-- Committed entries wait here, in the order of their commits, until they get
-- their place; then they move to lines. Each is stored once, and neither table
-- needs an index.
CREATE TABLE entries (
	id   INTEGER PRIMARY KEY,
	body BLOB NOT NULL
) STRICT;
CREATE TABLE lines (
	seq  INTEGER PRIMARY KEY,
	hash BLOB NOT NULL CHECK (length(hash) = 32),
	line BLOB NOT NULL
) STRICT;

CREATE TABLE policies (
	n        INTEGER PRIMARY KEY,
	hash     TEXT NOT NULL,
	sources  BLOB NOT NULL, -- JSON
	saved_at INTEGER NOT NULL
) STRICT;

CREATE TABLE keys (
	n          INTEGER PRIMARY KEY,
	id         TEXT NOT NULL UNIQUE,
	key        BLOB NOT NULL CHECK (length(key) = 32),
	created_at INTEGER NOT NULL,
	revoked_at INTEGER
) STRICT;
`, `
-- How far entries have moved out of openleash.journal: the id of the last one. An
-- entry of the table entries that comes from there keeps its id; one that was
-- committed here takes the next.
CREATE TABLE journal (
	upto INTEGER NOT NULL
) STRICT;
INSERT INTO journal (upto) SELECT coalesce(max(id), 0) FROM entries;
`, `
-- The further messages of a call that was approved. Of its rounds at most one is
-- open: a spent one leaves nothing here but its place in the count.
ALTER TABLE approvals ADD COLUMN round_hash BLOB CHECK (round_hash IS NULL OR length(round_hash) = 32 AND status = 'REDEEMED');
ALTER TABLE approvals ADD COLUMN round_until INTEGER CHECK ((round_until IS NULL) = (round_hash IS NULL));
ALTER TABLE approvals ADD COLUMN rounds INTEGER NOT NULL DEFAULT 0;
ALTER TABLE approvals ADD COLUMN continued_by TEXT NOT NULL DEFAULT '';
CREATE UNIQUE INDEX approvals_round ON approvals (round_hash) WHERE round_hash IS NOT NULL;
`}

// migrate brings the file to the newest schema, in one transaction. The caller
// holds the write lock, so of two first opens one finds the work done.
func migrate(ctx context.Context, conn *sql.Conn, path string) error {
	var version int
	if err := conn.QueryRowContext(ctx, "PRAGMA user_version").Scan(&version); err != nil {
		return err
	}
	if version > len(migrations) {
		return fmt.Errorf("%s: its schema is version %d and this program knows %d: a newer OpenLeash wrote it; update this one", path, version, len(migrations))
	}
	if version == len(migrations) {
		return nil
	}
	script := "BEGIN IMMEDIATE;"
	for _, m := range migrations[version:] {
		script += m
	}
	script += fmt.Sprintf("PRAGMA user_version = %d; COMMIT", len(migrations))
	_, err := conn.ExecContext(ctx, script)
	return err
}
