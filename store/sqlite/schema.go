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
`, `
-- What was charged to limits, each charge with its time. Held: it is not known yet
-- what came of it. Gone when no window can reach it.
CREATE TABLE charges (
	n           INTEGER PRIMARY KEY,
	limit_id    TEXT NOT NULL,
	key         TEXT NOT NULL,
	at          INTEGER NOT NULL,
	amount      INTEGER NOT NULL CHECK (amount BETWEEN 0 AND 9007199254740991),
	held        INTEGER NOT NULL CHECK (held IN (0, 1)),
	agent_id    TEXT NOT NULL,
	action_id   TEXT NOT NULL,
	action_hash BLOB NOT NULL CHECK (length(action_hash) = 32),
	decision_id TEXT NOT NULL
) STRICT;
CREATE INDEX charges_window ON charges (limit_id, key, at, amount, held);
CREATE INDEX charges_action ON charges (agent_id, action_id);

-- The same added up, so that a window costs the same however much is in it: all that
-- was charged in the 2^bits milliseconds from start << bits on. Sums are of the upper
-- and the lower 32 bits of the amounts, which cannot overflow.
CREATE TABLE charge_sums (
	limit_id TEXT NOT NULL,
	key      TEXT NOT NULL,
	bits     INTEGER NOT NULL,
	start    INTEGER NOT NULL,
	charges  INTEGER NOT NULL,
	high     INTEGER NOT NULL,
	low      INTEGER NOT NULL,
	high_held INTEGER NOT NULL,
	low_held  INTEGER NOT NULL,
	PRIMARY KEY (limit_id, key, bits, start)
) STRICT, WITHOUT ROWID;
CREATE TRIGGER charge_made AFTER INSERT ON charges BEGIN
	INSERT INTO charge_sums
		SELECT NEW.limit_id, NEW.key, column1, NEW.at >> column1, 1, NEW.amount >> 32, NEW.amount & 4294967295,
			(NEW.amount >> 32) * NEW.held, (NEW.amount & 4294967295) * NEW.held
		FROM (VALUES (10), (16), (22), (28)) WHERE true
		ON CONFLICT DO UPDATE SET charges = charges + 1, high = high + excluded.high, low = low + excluded.low,
			high_held = high_held + excluded.high_held, low_held = low_held + excluded.low_held;
END;
CREATE TRIGGER charge_settled AFTER UPDATE OF held ON charges BEGIN
	UPDATE charge_sums SET high_held = high_held + (NEW.amount >> 32) * (NEW.held - OLD.held),
			low_held = low_held + (NEW.amount & 4294967295) * (NEW.held - OLD.held)
		WHERE limit_id = NEW.limit_id AND key = NEW.key AND bits IN (10, 16, 22, 28) AND start = NEW.at >> bits;
END;
CREATE TRIGGER charge_gone AFTER DELETE ON charges BEGIN
	UPDATE charge_sums SET charges = charges - 1, high = high - (OLD.amount >> 32), low = low - (OLD.amount & 4294967295),
			high_held = high_held - (OLD.amount >> 32) * OLD.held, low_held = low_held - (OLD.amount & 4294967295) * OLD.held
		WHERE limit_id = OLD.limit_id AND key = OLD.key AND bits IN (10, 16, 22, 28) AND start = OLD.at >> bits;
	DELETE FROM charge_sums WHERE limit_id = OLD.limit_id AND key = OLD.key AND bits IN (10, 16, 22, 28) AND start = OLD.at >> bits AND charges = 0;
END;

-- What is set aside for requests that wait, or for their grants.
CREATE TABLE asides (
	request_id TEXT NOT NULL,
	limit_id   TEXT NOT NULL,
	key        TEXT NOT NULL,
	amount     INTEGER NOT NULL CHECK (amount BETWEEN 0 AND 9007199254740991),
	until      INTEGER NOT NULL,
	PRIMARY KEY (request_id, limit_id, key)
) STRICT, WITHOUT ROWID;
CREATE INDEX asides_limit ON asides (limit_id, key, until, amount);

-- What a request was over, as its owner was shown it: JSON. NULL: nothing.
ALTER TABLE approvals ADD COLUMN overshoots BLOB;
`, `
-- Owners look at charges by their decision, and release decisions from them.
CREATE INDEX charges_decision ON charges (decision_id);

-- The decisions that stand on a charge beside the one that was charged: later ones on
-- the same action. It is given back when the last of all is released.
CREATE TABLE stands (
	n           INTEGER NOT NULL,
	decision_id TEXT NOT NULL,
	PRIMARY KEY (n, decision_id)
) STRICT, WITHOUT ROWID;
CREATE INDEX stands_decision ON stands (decision_id);
CREATE TRIGGER stands_gone AFTER DELETE ON charges BEGIN
	DELETE FROM stands WHERE n = OLD.n;
END;

-- What owners have released. Kept as long as the charges would have been.
CREATE TABLE releases (
	n           INTEGER PRIMARY KEY,
	decision_id TEXT NOT NULL,
	limit_id    TEXT NOT NULL,
	key         TEXT NOT NULL,
	at          INTEGER NOT NULL,
	amount      INTEGER NOT NULL,
	held        INTEGER NOT NULL,
	agent_id    TEXT NOT NULL,
	action_id   TEXT NOT NULL,
	released_at INTEGER NOT NULL,
	released_by TEXT NOT NULL
) STRICT;
CREATE INDEX releases_decision ON releases (decision_id);
`, `
-- The last approved call of a kind, which the owner of the next one is shown.
CREATE INDEX approvals_kind ON approvals (agent_id, server, tool, created_at) WHERE grant_until IS NOT NULL;
`, `
-- What servers say of their tools, prompts and resources: the versions of each
-- definition that were accepted, and at most one that was not.
CREATE TABLE pins (
	owner_id    TEXT NOT NULL,
	server      TEXT NOT NULL,
	kind        TEXT NOT NULL,
	name        TEXT NOT NULL,
	hash        BLOB NOT NULL CHECK (length(hash) = 32),
	state       TEXT NOT NULL CHECK (state IN ('accepted', 'waiting', 'refused')),
	definition  BLOB, -- canonical; NULL: too long to be kept
	seen_at     INTEGER NOT NULL,
	answered_at INTEGER,
	answered_by TEXT NOT NULL,
	PRIMARY KEY (owner_id, server, kind, name, hash)
) STRICT;
CREATE UNIQUE INDEX pins_pending ON pins (owner_id, server, kind, name) WHERE state <> 'accepted';
CREATE TABLE pin_servers (
	owner_id   TEXT NOT NULL,
	server     TEXT NOT NULL,
	generation INTEGER NOT NULL, -- counts the changes
	PRIMARY KEY (owner_id, server)
) STRICT, WITHOUT ROWID;
-- The kinds of which a server's whole list has been seen.
CREATE TABLE pin_lists (
	owner_id TEXT NOT NULL,
	server   TEXT NOT NULL,
	kind     TEXT NOT NULL,
	PRIMARY KEY (owner_id, server, kind)
) STRICT, WITHOUT ROWID;
-- What was not in the list any more, and whether it has come back.
CREATE TABLE pin_gone (
	owner_id TEXT NOT NULL,
	server   TEXT NOT NULL,
	kind     TEXT NOT NULL,
	name     TEXT NOT NULL,
	at       INTEGER NOT NULL,
	back     INTEGER NOT NULL CHECK (back IN (0, 1)),
	PRIMARY KEY (owner_id, server, kind, name)
) STRICT, WITHOUT ROWID;
`, `
-- Standing grants. What one covers is the action of its request, within its bounds: a
-- JSON list of texts, or NULL for exactly that.
CREATE TABLE grants (
	n            INTEGER PRIMARY KEY,
	id           TEXT NOT NULL UNIQUE,
	request_id   TEXT NOT NULL UNIQUE REFERENCES approvals (id),
	owner_id     TEXT NOT NULL,
	agent_id     TEXT NOT NULL,
	action_type  TEXT NOT NULL,
	bounds       BLOB,
	uses         INTEGER NOT NULL CHECK (uses >= 0), -- 0: as many as there is time for
	used         INTEGER NOT NULL CHECK (used >= 1 AND (uses = 0 OR used <= uses)),
	created_at   INTEGER NOT NULL,
	until        INTEGER NOT NULL,
	given_by     TEXT NOT NULL,
	withdrawn_at INTEGER,
	withdrawn_by TEXT NOT NULL DEFAULT ''
) STRICT;
CREATE INDEX grants_live ON grants (agent_id, action_type, until);
CREATE INDEX grants_owner ON grants (owner_id, created_at);
-- The standing grant by which a request was let through: it was never open.
ALTER TABLE approvals ADD COLUMN grant_id TEXT NOT NULL DEFAULT '';
`, `
-- What has changed that somebody may wait for (watch.go): the latest, numbered
-- without gaps. An empty topic concerns everybody.
CREATE TABLE signals (
	n     INTEGER PRIMARY KEY,
	topic TEXT NOT NULL -- a request's id, or the pins of a server
) STRICT;
CREATE TRIGGER signals_tidy AFTER INSERT ON signals BEGIN
	DELETE FROM signals WHERE n <= NEW.n - 256;
END;
CREATE TRIGGER approvals_signal AFTER UPDATE OF status, action_hash ON approvals
WHEN NEW.status <> OLD.status OR NEW.action_hash <> OLD.action_hash BEGIN
	INSERT INTO signals (topic) VALUES (NEW.id);
END;

-- What waits for an owner, without a look at the requests themselves, which can be large.
CREATE INDEX approvals_waiting ON approvals (owner_id, expires_at, id) WHERE status = 'PENDING';
`, `
-- A request shows its newest version; the former ones are in approval_versions. bytes
-- is how much of the store it takes, its former versions aside.
ALTER TABLE approvals ADD COLUMN action_type TEXT NOT NULL DEFAULT '';
ALTER TABLE approvals ADD COLUMN version INTEGER NOT NULL DEFAULT 1;
ALTER TABLE approvals ADD COLUMN asked INTEGER NOT NULL DEFAULT 1;
ALTER TABLE approvals ADD COLUMN last_asked INTEGER NOT NULL DEFAULT 0;
ALTER TABLE approvals ADD COLUMN near_to TEXT NOT NULL DEFAULT '';
ALTER TABLE approvals ADD COLUMN bytes INTEGER NOT NULL DEFAULT 0;
UPDATE approvals SET last_asked = created_at, bytes = length(action) + coalesce(length(tool_info), 0),
	action_type = CASE WHEN json_valid(CAST(action AS TEXT)) THEN coalesce(json_extract(CAST(action AS TEXT), '$.action_type'), '') ELSE '' END;
CREATE INDEX approvals_kin ON approvals (agent_id, server, tool, action_type, status, created_at);
-- Those who wait for an owner's word on a definition are told as well: authz.PinTopic.
CREATE TRIGGER pins_first AFTER INSERT ON pin_servers BEGIN
	INSERT INTO signals (topic) VALUES ('pins ' || NEW.owner_id || ' ' || NEW.server);
END;
CREATE TRIGGER pins_signal AFTER UPDATE ON pin_servers BEGIN
	INSERT INTO signals (topic) VALUES ('pins ' || NEW.owner_id || ' ' || NEW.server);
END;

-- What waits for an owner, and at which version.
DROP INDEX approvals_waiting;
CREATE INDEX approvals_waiting ON approvals (owner_id, expires_at, id, version) WHERE status = 'PENDING';

-- The last approved call of a kind, which the owner of the next one is shown, and how
-- many there were: of those that a person has looked at.
DROP INDEX approvals_kind;
CREATE INDEX approvals_kind ON approvals (agent_id, server, tool, action_type, created_at) WHERE grant_until IS NOT NULL AND grant_id = '';
CREATE INDEX approvals_quota ON approvals (agent_id, expires_at, bytes) WHERE status = 'PENDING';

CREATE TABLE approval_versions (
	n           INTEGER PRIMARY KEY,
	request_id  TEXT NOT NULL,
	version     INTEGER NOT NULL,
	decision_id TEXT NOT NULL,
	action      BLOB NOT NULL, -- canonical; action_hash is its SHA-256
	action_hash BLOB NOT NULL CHECK (length(action_hash) = 32),
	UNIQUE (request_id, version)
) STRICT;

-- The calls that wait for a request; what a dead process has left ends with its time.
CREATE TABLE holds (
	request_id  TEXT NOT NULL,
	decision_id TEXT NOT NULL,
	until       INTEGER NOT NULL,
	PRIMARY KEY (request_id, decision_id)
) STRICT, WITHOUT ROWID;
`, `
-- The last denial of an intent: a request that was asked for before it, and has expired
-- since, must not hide it.
CREATE INDEX approvals_denied ON approvals (agent_id, intent_hash, answered_at) WHERE status = 'DENIED';
`, `
-- What finds lines of the log again (index.go). Of each block of 4096 lines, log_index
-- has those that a term ("agent=bot") is true of; log_ids those with a decision_id,
-- each by a part of the id's sum; log_blocks their earliest and latest time.
-- Lines up to log_indexed are in them: for a start none, a log may be long.
CREATE TABLE log_index (
	term  TEXT NOT NULL,
	block INTEGER NOT NULL,
	lines BLOB NOT NULL,
	PRIMARY KEY (term, block)
) STRICT, WITHOUT ROWID;
CREATE INDEX log_index_block ON log_index (block);
CREATE TABLE log_blocks (
	block INTEGER PRIMARY KEY,
	since INTEGER NOT NULL,
	until INTEGER NOT NULL
) STRICT;
CREATE TABLE log_ids (
	bucket INTEGER NOT NULL,
	block  INTEGER NOT NULL,
	ids    BLOB NOT NULL,
	PRIMARY KEY (bucket, block)
) STRICT, WITHOUT ROWID;
CREATE TABLE log_indexed (
	upto INTEGER NOT NULL
) STRICT;
INSERT INTO log_indexed (upto) VALUES (0);
`, `
-- Agents that have keys. The name is unique among those that are not revoked.
CREATE TABLE agents_keyed (
	n            INTEGER PRIMARY KEY,
	id           TEXT NOT NULL UNIQUE,
	name         TEXT NOT NULL,
	owner_id     TEXT NOT NULL REFERENCES owners (id),
	status       TEXT NOT NULL CHECK (status IN ('PENDING', 'ACTIVE', 'REVOKED')),
	token_hash   BLOB UNIQUE CHECK (length(token_hash) = 32),
	key          BLOB CHECK (length(key) = 32),
	attributes   TEXT, -- a JSON object
	webhook_url  TEXT NOT NULL DEFAULT '',
	webhook_secret TEXT NOT NULL DEFAULT '',
	webhook_auth TEXT NOT NULL DEFAULT '',
	created_at   INTEGER NOT NULL,
	revoked_at   INTEGER,
	CHECK ((status = 'REVOKED') = (revoked_at IS NOT NULL))
) STRICT;
INSERT INTO agents_keyed (n, id, name, owner_id, status, token_hash, created_at, revoked_at)
	SELECT n, id, name, owner_id, status, token_hash, created_at, CASE status WHEN 'REVOKED' THEN created_at END FROM agents;
DROP TABLE agents;
ALTER TABLE agents_keyed RENAME TO agents;
CREATE UNIQUE INDEX agents_name ON agents (name) WHERE status <> 'REVOKED';
CREATE INDEX agents_named ON agents (name);
CREATE INDEX agents_owner ON agents (owner_id, name);
CREATE INDEX agents_pending ON agents (created_at) WHERE status = 'PENDING';

CREATE TABLE invites (
	id         TEXT PRIMARY KEY,
	owner_id   TEXT NOT NULL REFERENCES owners (id),
	hash       BLOB NOT NULL CHECK (length(hash) = 32),
	agent      TEXT NOT NULL,
	until      INTEGER NOT NULL,
	used_by    TEXT NOT NULL DEFAULT '' -- an agent's id
) STRICT, WITHOUT ROWID;
CREATE TABLE challenges (
	id         TEXT PRIMARY KEY,
	bytes      BLOB NOT NULL CHECK (length(bytes) = 32),
	agent      TEXT NOT NULL,
	key        BLOB NOT NULL CHECK (length(key) = 32),
	owner_id   TEXT NOT NULL REFERENCES owners (id),
	until      INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

-- The nonces of signed requests, as long as such a request could be accepted; and what
-- signed requests have asked for, so that the same is known when it comes again. Both
-- are tidied from the oldest on.
CREATE TABLE nonces (
	n     INTEGER PRIMARY KEY,
	hash  BLOB NOT NULL UNIQUE CHECK (length(hash) = 16),
	until INTEGER NOT NULL
) STRICT;
CREATE TABLE asked (
	n           INTEGER PRIMARY KEY,
	agent_id    TEXT NOT NULL,
	action_id   TEXT NOT NULL,
	action_hash BLOB NOT NULL CHECK (length(action_hash) = 32),
	decision_id TEXT NOT NULL UNIQUE,
	action_type TEXT NOT NULL,
	policy_id   TEXT NOT NULL,
	outcome     TEXT NOT NULL,
	claims      BLOB, -- of the proof of an ALLOW that is given again; {}: it had none
	grant_id    TEXT NOT NULL, -- the standing grant by which it was allowed
	reported    INTEGER NOT NULL DEFAULT 0,
	until       INTEGER NOT NULL,
	UNIQUE (agent_id, action_id)
) STRICT;

-- What an agent says for a request, beside the action.
ALTER TABLE approvals ADD COLUMN justification TEXT NOT NULL DEFAULT '';
ALTER TABLE approvals ADD COLUMN context BLOB; -- canonical; NULL: none
`, `
-- Users among the owners. The first is the installation's. Roles are a JSON list.
ALTER TABLE owners ADD COLUMN email TEXT; -- lower case; NULL: none
ALTER TABLE owners ADD COLUMN roles TEXT NOT NULL DEFAULT '[]';
ALTER TABLE owners ADD COLUMN status TEXT NOT NULL DEFAULT 'ACTIVE' CHECK (status IN ('ACTIVE', 'DISABLED'));
ALTER TABLE owners ADD COLUMN passphrase TEXT; -- PHC string; NULL: none
ALTER TABLE owners ADD COLUMN created_at INTEGER; -- NULL: before it was noted
ALTER TABLE owners ADD COLUMN notice TEXT NOT NULL DEFAULT '';
UPDATE owners SET roles = '["admin"]' WHERE n = (SELECT min(n) FROM owners);
CREATE UNIQUE INDEX owners_email ON owners (email) WHERE email IS NOT NULL;
CREATE UNIQUE INDEX owners_user ON owners (name COLLATE NOCASE) WHERE type = 'user';

-- A link signs in, or lets a new passphrase be set ("setup"). One that was spent is
-- kept for a while, so that who comes again can be told.
ALTER TABLE links ADD COLUMN id TEXT; -- of those that are also known by it
ALTER TABLE links ADD COLUMN kind TEXT NOT NULL DEFAULT 'sign-in' CHECK (kind IN ('sign-in', 'setup'));
ALTER TABLE links ADD COLUMN spent_at INTEGER;
CREATE UNIQUE INDEX links_id ON links (id) WHERE id IS NOT NULL;
CREATE INDEX links_owner ON links (owner_id);

-- Sessions are tokens that we have signed; a row here is what makes one good. Those of
-- before had none, and end.
DROP TABLE sessions;
CREATE TABLE sessions (
	id         TEXT PRIMARY KEY, -- jti
	owner_id   TEXT NOT NULL REFERENCES owners (id),
	began_at   INTEGER NOT NULL, -- when the owner has signed in
	seen_at    INTEGER NOT NULL,
	until      INTEGER NOT NULL,
	address    TEXT NOT NULL,
	agent      TEXT NOT NULL
) STRICT, WITHOUT ROWID;
CREATE INDEX sessions_owner ON sessions (owner_id);

-- Second factors, and those that are being set up.
CREATE TABLE totp (
	owner_id  TEXT PRIMARY KEY REFERENCES owners (id),
	secret    BLOB NOT NULL,
	last_step INTEGER NOT NULL -- used already, as are all before it
) STRICT, WITHOUT ROWID;
CREATE TABLE totp_setups (
	owner_id TEXT PRIMARY KEY REFERENCES owners (id),
	secret   BLOB NOT NULL,
	codes    BLOB NOT NULL CHECK (length(codes) % 32 = 0), -- the hashes of the backup codes, one after another
	replaces INTEGER NOT NULL CHECK (replaces IN (0, 1)), -- the former factor was shown
	until    INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
CREATE TABLE backup_codes (
	owner_id TEXT NOT NULL REFERENCES owners (id),
	hash     BLOB NOT NULL CHECK (length(hash) = 32),
	used_at  INTEGER,
	PRIMARY KEY (owner_id, hash)
) STRICT, WITHOUT ROWID;

-- What was tried, and has not succeeded since.
CREATE TABLE attempts (
	key       TEXT PRIMARY KEY,
	count     INTEGER NOT NULL,
	until     INTEGER NOT NULL, -- no try before
	forget_at INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
CREATE INDEX attempts_forget ON attempts (forget_at);
`, `
-- What a yes to a request takes ("step_up", "deposit", "step_up deposit"), and what was
-- given with it: the method of a second factor, what a passkey has signed (JSON), and the
-- reference of a deposit.
ALTER TABLE approvals ADD COLUMN needs TEXT NOT NULL DEFAULT '';
ALTER TABLE approvals ADD COLUMN factor TEXT NOT NULL DEFAULT '';
ALTER TABLE approvals ADD COLUMN passkey BLOB;
ALTER TABLE approvals ADD COLUMN deposit_reference TEXT NOT NULL DEFAULT '';

-- Passkeys of owners, and the challenges that they have answered, as long as those would
-- be good. Transports are a JSON list.
CREATE TABLE passkeys (
	id         BLOB PRIMARY KEY, -- credential id
	owner_id   TEXT NOT NULL REFERENCES owners (id),
	rp_id      TEXT NOT NULL,
	name       TEXT NOT NULL,
	public_key BLOB NOT NULL, -- COSE_Key
	sign_count INTEGER NOT NULL,
	flags      INTEGER NOT NULL,
	transports TEXT NOT NULL,
	created_at INTEGER NOT NULL,
	used_at    INTEGER
) STRICT, WITHOUT ROWID;
CREATE INDEX passkeys_owner ON passkeys (owner_id);
CREATE TABLE passkey_tickets (
	challenge BLOB PRIMARY KEY CHECK (length(challenge) = 32),
	until     INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
CREATE INDEX passkey_tickets_until ON passkey_tickets (until);
`, `
-- Policies that agents propose. An agent is named by its id: who has its name after it
-- has nothing to do with them.
CREATE TABLE policy_drafts (
	n             INTEGER PRIMARY KEY,
	id            TEXT NOT NULL UNIQUE,
	owner_id      TEXT NOT NULL REFERENCES owners (id),
	agent_id      TEXT NOT NULL,
	target_id     TEXT, -- an agent's id; NULL: all of the owner's
	name          TEXT NOT NULL,
	description   TEXT NOT NULL,
	justification TEXT NOT NULL,
	policy        TEXT NOT NULL,
	hash          BLOB NOT NULL CHECK (length(hash) = 32), -- SHA-256 of policy
	status        TEXT NOT NULL CHECK (status IN ('PENDING', 'APPROVED', 'DENIED')),
	created_at    INTEGER NOT NULL,
	resolved_at   INTEGER,
	resolved_by   TEXT NOT NULL DEFAULT '',
	deny_reason   TEXT NOT NULL DEFAULT '',
	policy_id     TEXT NOT NULL DEFAULT '',
	CHECK ((status = 'PENDING') = (resolved_at IS NULL)),
	CHECK ((status = 'APPROVED') = (policy_id <> ''))
) STRICT;
CREATE INDEX policy_drafts_owner ON policy_drafts (owner_id, n);
CREATE INDEX policy_drafts_agent ON policy_drafts (agent_id, n);
CREATE INDEX policy_drafts_waiting ON policy_drafts (owner_id, agent_id) WHERE status = 'PENDING';
`, `
-- When an admin has last given a user's access back, and who: approvals after it say so.
ALTER TABLE owners ADD COLUMN reset_at INTEGER;
ALTER TABLE owners ADD COLUMN reset_by TEXT NOT NULL DEFAULT '';
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
