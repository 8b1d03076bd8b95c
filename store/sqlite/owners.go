package sqlite

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/google/uuid"
	"modernc.org/sqlite"
	sqlite3 "modernc.org/sqlite/lib"

	"github.com/openleash/openleash-go/identity"
	"github.com/openleash/openleash-go/owners"
)

// Change does what an act does to owners, and records it, or nothing.
func (s *Store) Change(ctx context.Context, c owners.Change) error {
	entries, err := encode(c.Entries)
	if err != nil {
		return fmt.Errorf("changing owners: %w", err)
	}
	return s.explain(s.writer.do(ctx, &job{run: func(t *tx) error { return t.changeOwners(c) }, entries: entries}))
}

// changeOwners takes the parts in the order of owners.Change.
func (t *tx) changeOwners(c owners.Change) error {
	steps := []func() error{
		step(c.Spend, func(s owners.Spend) error { return t.spendLink(s, c.Proved) }),
		step(c.Ticket, t.spendTicket),
		step(c.Add, t.addUser),
		step(c.Set, t.setUser),
		step(c.Secret, t.setPassphrase),
		step(c.Propose, t.proposeFactor),
		step(c.Confirm, t.confirmFactor),
		of(c.Drop, t.dropFactors),
		of(c.Drop, t.dropPasskeys),
		step(c.Passkey, t.addPasskey),
		step(c.Use, t.usePasskey),
		step(c.Forget, t.forgetPasskey),
		step(c.Reset, t.setReset),
		step(c.Notice, t.setNotice),
		func() error { return t.forgive(c.Forgive) },
		step(c.End, t.endSessions),
		of(c.Void, t.voidLinks),
		step(c.Link, t.putLink),
		step(c.Start, func(s identity.Session) error { return t.startSession(s, c.Proved) }),
	}
	for _, do := range steps {
		if err := do(); err != nil {
			return err
		}
	}
	return nil
}

// step does a part of a change, when there is one.
func step[T any](what *T, do func(T) error) func() error {
	return func() error {
		if what == nil {
			return nil
		}
		return do(*what)
	}
}

// of is step for what is done to an owner.
func of(ownerID string, do func(string) error) func() error {
	return func() error {
		if ownerID == "" {
			return nil
		}
		return do(ownerID)
	}
}

const selectUsers = `SELECT id, type, name, coalesce(email, ''), roles, status, created_at, passphrase IS NOT NULL,
	EXISTS (SELECT 1 FROM totp WHERE owner_id = owners.id), notice FROM owners WHERE type = 'user'`

func readUser(scan scan) (u identity.User, err error) {
	var created sql.NullInt64
	var roles []byte
	err = scan(&u.ID, &u.Type, &u.Name, &u.Email, &roles, &u.Status, &created, &u.HasPassphrase, &u.HasFactor, &u.Notice)
	if err != nil {
		return u, err
	}
	u.CreatedAt = optional(created)
	return u, json.Unmarshal(roles, &u.Roles)
}

// User finds a user by id.
func (s *Store) User(ctx context.Context, id string) (identity.User, error) {
	return one(ctx, s, identity.ErrNotFound, readUser, selectUsers+" AND id = ?", id)
}

// FindUser finds a user by what a person types: the id, the e-mail address, or the name.
func (s *Store) FindUser(ctx context.Context, login string) (identity.User, error) {
	if id, err := uuid.Parse(login); err == nil {
		return s.User(ctx, id.String())
	}
	return one(ctx, s, identity.ErrNotFound, readUser,
		selectUsers+" AND (email = ?1 OR name = ?2 COLLATE NOCASE) ORDER BY email = ?1 DESC LIMIT 1", strings.ToLower(login), login)
}

// Users lists all users, the oldest first.
func (s *Store) Users(ctx context.Context) ([]identity.User, error) {
	return list(ctx, s, readUser, selectUsers+" ORDER BY n")
}

// PassphraseHash returns a user's PHC string.
func (s *Store) PassphraseHash(ctx context.Context, ownerID string) (string, error) {
	return one(ctx, s, identity.ErrNotFound, readText, "SELECT coalesce(passphrase, '') FROM owners WHERE type = 'user' AND id = ?", ownerID)
}

func (t *tx) addUser(u identity.User) error {
	roles, err := rolesText(u.Roles)
	if err != nil {
		return err
	}
	_, err = t.exec("INSERT INTO owners (id, type, name, email, roles, status, created_at) VALUES (?, ?, ?, ?, ?, ?, ?)",
		u.ID, u.Type, u.Name, textOrNull(u.Email), roles, u.Status, u.CreatedAt.UnixMilli())
	return asTaken(err)
}

func (t *tx) setUser(s owners.Setting) error {
	var roles *string
	if s.Roles != nil {
		text, err := rolesText(*s.Roles)
		if err != nil {
			return err
		}
		roles = &text
	}
	err := t.execOne(`UPDATE owners SET name = coalesce(?, name), email = nullif(coalesce(?, email), ''),
		roles = coalesce(?, roles), status = coalesce(?, status) WHERE type = 'user' AND id = ?`, s.Name, s.Email, roles, s.Status, s.OwnerID)
	if err != nil {
		return asTaken(err)
	}
	_, err = inTx(t, identity.ErrLastAdmin, readID, `SELECT 1 FROM owners WHERE type = 'user' AND status = 'ACTIVE'
		AND EXISTS (SELECT 1 FROM json_each(roles) WHERE value = 'admin') LIMIT 1`)
	return err
}

func rolesText(roles []string) (string, error) {
	text, err := json.Marshal(append([]string{}, roles...))
	return string(text), err
}

func textOrNull(s string) any {
	if s == "" {
		return nil
	}
	return s
}

// asTaken tells a name or an address that somebody has from other errors.
func asTaken(err error) error {
	var e *sqlite.Error
	if errors.As(err, &e) && e.Code() == sqlite3.SQLITE_CONSTRAINT_UNIQUE {
		return identity.ErrTaken
	}
	return err
}

func (t *tx) setPassphrase(p owners.Secret) error {
	if p.Former != nil {
		return t.execOne("UPDATE owners SET passphrase = ? WHERE type = 'user' AND id = ? AND coalesce(passphrase, '') = ?", textOrNull(p.Hash), p.OwnerID, *p.Former)
	}
	return t.execOne("UPDATE owners SET passphrase = ? WHERE type = 'user' AND id = ?", textOrNull(p.Hash), p.OwnerID)
}

// setReset notes who has given a user's access back.
func (t *tx) setReset(r identity.Reset) error {
	return t.execOne("UPDATE owners SET reset_at = ?, reset_by = ? WHERE id = ?", r.At.UnixMilli(), r.By, r.OwnerID)
}

// LastReset returns the last reset of an owner's access.
func (s *Store) LastReset(ctx context.Context, ownerID string) (identity.Reset, error) {
	return one(ctx, s, identity.ErrNotFound, func(scan scan) (r identity.Reset, err error) {
		var at int64
		err = scan(&r.OwnerID, &at, &r.By)
		r.At = instant(at)
		return r, err
	}, "SELECT id, reset_at, reset_by FROM owners WHERE id = ? AND reset_at IS NOT NULL", ownerID)
}

// maxNotice bounds what an owner is shown; the oldest goes first.
const maxNotice = 2000

func (t *tx) setNotice(n owners.Notice) error {
	if n.Text == "" {
		return t.execOne("UPDATE owners SET notice = '' WHERE id = ? AND notice = ?", n.OwnerID, n.Shown)
	}
	return t.execOne("UPDATE owners SET notice = ltrim(substr(notice || char(10) || ?, ?), char(10)) WHERE id = ?", n.Text, -maxNotice, n.OwnerID)
}

func (t *tx) forgive(keys []string) error {
	for _, key := range keys {
		if _, err := t.exec("DELETE FROM attempts WHERE key = ?", key); err != nil {
			return err
		}
	}
	return nil
}

const selectLinks = "SELECT hash, coalesce(id, ''), kind, owner_id, until, spent_at IS NOT NULL FROM links"

func readLink(scan scan) (l owners.Link, err error) {
	var hash []byte
	var until int64
	err = scan(&hash, &l.ID, &l.Kind, &l.OwnerID, &until, &l.Spent)
	copy(l.Hash[:], hash)
	l.Until = instant(until)
	return l, err
}

// Link finds a link by its hash.
func (s *Store) Link(ctx context.Context, hash [32]byte) (owners.Link, error) {
	return one(ctx, s, identity.ErrNotFound, readLink, selectLinks+" WHERE hash = ?", hash[:])
}

// LinkByID finds a set-up link by its id.
func (s *Store) LinkByID(ctx context.Context, id string) (owners.Link, error) {
	return one(ctx, s, identity.ErrNotFound, readLink, selectLinks+" WHERE id = ?", id)
}

// keepLinks is how long links are kept that have run out.
const keepLinks = 7 * 24 * time.Hour

func (t *tx) putLink(l owners.Link) error {
	_, err := t.exec("INSERT INTO links (hash, id, kind, owner_id, until) VALUES (?, ?, ?, ?, ?)",
		l.Hash[:], textOrNull(l.ID), string(l.Kind), l.OwnerID, l.Until.UnixMilli())
	return err
}

// spendLink uses a link. What has run out, links and sessions, goes in passing.
func (t *tx) spendLink(s owners.Spend, proved bool) error {
	if err := t.tidyLinks(s.Now); err != nil {
		return err
	}
	link, err := inTx(t, identity.ErrNotFound, readLink, selectLinks+" WHERE hash = ? AND kind = ? AND until > ?", s.Hash[:], string(s.Kind), s.Now.UnixMilli())
	if err != nil {
		return err
	}
	if link.Spent {
		return identity.ErrSpent
	}
	if err := t.factorShown(link.OwnerID, proved); err != nil {
		return err
	}
	return t.execOne("UPDATE links SET spent_at = ? WHERE hash = ?", s.Now.UnixMilli(), s.Hash[:])
}

// factorShown refuses who has a second factor that was not shown.
func (t *tx) factorShown(ownerID string, proved bool) error {
	if proved {
		return nil
	}
	_, err := inTx(t, errNone, readTOTP, selectTOTP, ownerID)
	switch {
	case errors.Is(err, errNone):
		return nil
	case err != nil:
		return err
	}
	return identity.ErrFactorRequired
}

func (t *tx) tidyLinks(now time.Time) error {
	if _, err := t.exec("DELETE FROM links WHERE until <= ?", now.Add(-keepLinks).UnixMilli()); err != nil {
		return err
	}
	_, err := t.exec("DELETE FROM sessions WHERE until <= ?", now.UnixMilli())
	return err
}

func (t *tx) voidLinks(ownerID string) error {
	_, err := t.exec("DELETE FROM links WHERE owner_id = ?", ownerID)
	return err
}

const selectSessions = `SELECT s.id, s.owner_id, o.type, o.name, o.roles, s.began_at, s.seen_at, s.until, s.address, s.agent
	FROM sessions s JOIN owners o ON o.id = s.owner_id WHERE o.status = 'ACTIVE'`

func readSession(scan scan) (s identity.Session, err error) {
	var roles []byte
	var began, seen, until int64
	err = scan(&s.ID, &s.OwnerID, &s.OwnerType, &s.Name, &roles, &began, &seen, &until, &s.Address, &s.Agent)
	if err != nil {
		return s, err
	}
	s.BeganAt, s.SeenAt, s.Expires = instant(began), instant(seen), instant(until)
	return s, json.Unmarshal(roles, &s.Roles)
}

// Session finds a session that is good.
func (s *Store) Session(ctx context.Context, id string, now time.Time) (identity.Session, error) {
	return one(ctx, s, identity.ErrNotFound, readSession, selectSessions+" AND s.id = ? AND s.until > ?", id, now.UnixMilli())
}

// maxSessions bounds what is listed.
const maxSessions = 200

// Sessions lists an owner's sessions, those used last first.
func (s *Store) Sessions(ctx context.Context, ownerID string, now time.Time) ([]identity.Session, error) {
	return list(ctx, s, readSession, selectSessions+" AND s.owner_id = ? AND s.until > ? ORDER BY s.seen_at DESC, s.id LIMIT ?", ownerID, now.UnixMilli(), maxSessions)
}

// SeenSession notes that a session was used.
func (s *Store) SeenSession(ctx context.Context, id string, now time.Time) error {
	return s.writeOne(ctx, "UPDATE sessions SET seen_at = max(seen_at, ?) WHERE id = ?", now.UnixMilli(), id)
}

func (t *tx) startSession(s identity.Session, proved bool) error {
	if err := t.factorShown(s.OwnerID, proved); err != nil {
		return err
	}
	return t.execOne(`INSERT INTO sessions (id, owner_id, began_at, seen_at, until, address, agent)
		SELECT ?, id, ?, ?, ?, ?, ? FROM owners WHERE id = ? AND status = 'ACTIVE'`,
		s.ID, s.BeganAt.UnixMilli(), s.SeenAt.UnixMilli(), s.Expires.UnixMilli(), s.Address, s.Agent, s.OwnerID)
}

func (t *tx) endSessions(e owners.Ending) error {
	if e.ID != "" {
		return t.execOne("DELETE FROM sessions WHERE owner_id = ? AND id = ?", e.OwnerID, e.ID)
	}
	_, err := t.exec("DELETE FROM sessions WHERE owner_id = ? AND id <> ?", e.OwnerID, e.But)
	return err
}
