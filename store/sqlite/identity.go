package sqlite

import (
	"context"
	"errors"
	"time"

	"github.com/google/uuid"

	"github.com/openleash/openleash-go/identity"
)

const selectOwner = "SELECT id, type, name FROM owners ORDER BY n LIMIT 1"

func readOwner(scan scan) (o identity.Owner, err error) {
	err = scan(&o.ID, &o.Type, &o.Name)
	return o, err
}

// EnsureOwner returns the installation's owner.
func (s *Store) EnsureOwner(ctx context.Context, name string) (identity.Owner, error) {
	owner, err := one(ctx, s, errNone, readOwner, selectOwner)
	if !errors.Is(err, errNone) {
		return owner, err
	}
	err = s.write(ctx, func(t *tx) error {
		owner, err = inTx(t, errNone, readOwner, selectOwner)
		if !errors.Is(err, errNone) {
			return err
		}
		owner = identity.Owner{ID: uuid.NewString(), Type: "user", Name: name}
		_, err = t.exec("INSERT INTO owners (id, type, name) VALUES (?, ?, ?)", owner.ID, owner.Type, owner.Name)
		return err
	})
	if err != nil {
		return identity.Owner{}, err
	}
	return owner, nil
}

// PutLink makes a sign-in link.
func (s *Store) PutLink(ctx context.Context, hash [32]byte, owner identity.Owner, until time.Time) error {
	return s.write(ctx, func(t *tx) error {
		_, err := t.exec("INSERT INTO links (hash, owner_id, until) VALUES (?, ?, ?)", hash[:], owner.ID, until.UnixMilli())
		return err
	})
}

// RedeemLink spends a link and opens the session that it becomes. What has run
// out, links and sessions, goes in passing.
func (s *Store) RedeemLink(ctx context.Context, link, session [32]byte, now, until time.Time) (out identity.Session, err error) {
	err = s.write(ctx, func(t *tx) error {
		for _, prune := range []string{"DELETE FROM links WHERE until <= ?", "DELETE FROM sessions WHERE until <= ?"} {
			if _, err := t.exec(prune, now.UnixMilli()); err != nil {
				return err
			}
		}
		if err := t.spendLink(link, session, until); err != nil {
			return err
		}
		out, err = inTx(t, identity.ErrNotFound, readSession, selectSession, session[:], now.UnixMilli())
		return err
	})
	if err != nil {
		return identity.Session{}, err
	}
	return out, nil
}

// spendLink turns a link into a session.
func (t *tx) spendLink(link, session [32]byte, until time.Time) error {
	n, err := t.exec("INSERT INTO sessions (hash, owner_id, until) SELECT ?, owner_id, ? FROM links WHERE hash = ?",
		session[:], until.UnixMilli(), link[:])
	if err != nil {
		return err
	}
	if n != 1 {
		return identity.ErrNotFound
	}
	_, err = t.exec("DELETE FROM links WHERE hash = ?", link[:])
	return err
}

const selectSession = `SELECT s.owner_id, o.name, s.until FROM sessions s JOIN owners o ON o.id = s.owner_id
	WHERE s.hash = ? AND s.until > ?`

func readSession(scan scan) (session identity.Session, err error) {
	var until int64
	err = scan(&session.OwnerID, &session.Name, &until)
	session.Expires = instant(until)
	return session, err
}

// Session finds a session that has not run out.
func (s *Store) Session(ctx context.Context, hash [32]byte, now time.Time) (identity.Session, error) {
	return one(ctx, s, identity.ErrNotFound, readSession, selectSession, hash[:], now.UnixMilli())
}

// EndSession signs out. Ending what is not there is no error.
func (s *Store) EndSession(ctx context.Context, hash [32]byte) error {
	return s.write(ctx, func(t *tx) error {
		_, err := t.exec("DELETE FROM sessions WHERE hash = ?", hash[:])
		return err
	})
}
