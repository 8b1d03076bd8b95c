package sqlite

import (
	"bytes"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"time"

	"github.com/openleash/openleash-go/identity"
	"github.com/openleash/openleash-go/proof"
)

const selectKeys = "SELECT id, key, created_at, revoked_at FROM keys"

func readKey(scan scan) (k proof.PublicKey, err error) {
	var created int64
	var revoked sql.NullInt64
	err = scan(&k.ID, (*[]byte)(&k.Key), &created, &revoked)
	k.CreatedAt, k.RevokedAt = instant(created), optional(revoked)
	return k, err
}

// PutKey makes a public key known. One that is known stays as it is: putting a
// revoked key again does not bring it back.
func (s *Store) PutKey(ctx context.Context, key proof.PublicKey) error {
	return s.write(ctx, func(t *tx) error {
		known, err := inTx(t, errNone, readKey, selectKeys+" WHERE id = ?", key.ID)
		switch {
		case errors.Is(err, errNone):
			_, err = t.exec("INSERT INTO keys (id, key, created_at, revoked_at) VALUES (?, ?, ?, ?)",
				key.ID, []byte(key.Key), key.CreatedAt.UnixMilli(), millis(key.RevokedAt))
		case err == nil && !bytes.Equal(known.Key, key.Key):
			err = fmt.Errorf("key %s is known with other bytes", key.ID)
		}
		return err
	})
}

// Keys returns all public keys, oldest first, with RevokedAt where revoked.
func (s *Store) Keys(ctx context.Context) ([]proof.PublicKey, error) {
	return list(ctx, s, readKey, selectKeys+" ORDER BY n")
}

// RevokeKey marks a key as revoked from at on. A second revocation changes
// nothing. An unknown key is identity.ErrNotFound.
func (s *Store) RevokeKey(ctx context.Context, id string, at time.Time) error {
	if at.IsZero() {
		return fmt.Errorf("revoking key %s: want the time from which on, got none", id)
	}
	return s.write(ctx, func(t *tx) error {
		n, err := t.exec("UPDATE keys SET revoked_at = coalesce(revoked_at, ?) WHERE id = ?", at.UnixMilli(), id)
		if err == nil && n == 0 {
			err = fmt.Errorf("key %s: %w", id, identity.ErrNotFound)
		}
		return err
	})
}
