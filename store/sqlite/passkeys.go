package sqlite

import (
	"context"
	"database/sql"
	"encoding/json"

	"github.com/openleash/openleash-go/identity"
	"github.com/openleash/openleash-go/owners"
)

const selectPasskeys = "SELECT id, owner_id, rp_id, name, public_key, sign_count, flags, transports, created_at, used_at FROM passkeys"

func readPasskey(scan scan) (k identity.Passkey, err error) {
	var transports []byte
	var created int64
	var used sql.NullInt64
	if err := scan(&k.ID, &k.OwnerID, &k.RPID, &k.Name, &k.PublicKey, &k.SignCount, &k.Flags, &transports, &created, &used); err != nil {
		return k, err
	}
	k.CreatedAt, k.UsedAt = instant(created), optional(used)
	return k, json.Unmarshal(transports, &k.Transports)
}

// Passkey finds one by its credential id.
func (s *Store) Passkey(ctx context.Context, id []byte) (identity.Passkey, error) {
	return one(ctx, s, identity.ErrNotFound, readPasskey, selectPasskeys+" WHERE id = ?", id)
}

// Passkeys lists an owner's, oldest first.
func (s *Store) Passkeys(ctx context.Context, ownerID string) ([]identity.Passkey, error) {
	return list(ctx, s, readPasskey, selectPasskeys+" WHERE owner_id = ? ORDER BY created_at, id", ownerID)
}

func (t *tx) addPasskey(k identity.Passkey) error {
	have, err := inTx(t, errNone, readID, "SELECT count(*) FROM passkeys WHERE owner_id = ?", k.OwnerID)
	if err != nil {
		return err
	}
	if have >= identity.MaxPasskeys {
		return identity.ErrTooManyPasskey
	}
	transports, err := json.Marshal(append([]string{}, k.Transports...))
	if err != nil {
		return err
	}
	n, err := t.exec(`INSERT INTO passkeys (id, owner_id, rp_id, name, public_key, sign_count, flags, transports, created_at)
		VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT (id) DO NOTHING`,
		k.ID, k.OwnerID, k.RPID, k.Name, k.PublicKey, k.SignCount, k.Flags, string(transports), k.CreatedAt.UnixMilli())
	if err == nil && n != 1 {
		err = identity.ErrPasskeyTaken
	}
	return err
}

// usePasskey: of two uses with one counter, one finds that it has not gone on. A passkey
// that does not count says 0 each time.
func (t *tx) usePasskey(u owners.PasskeyUse) error {
	n, err := t.exec(`UPDATE passkeys SET sign_count = ?1, used_at = ?2
		WHERE id = ?3 AND owner_id = ?4 AND (sign_count < ?1 OR sign_count = 0 AND ?1 = 0)`,
		u.Counter, u.Now.UnixMilli(), u.ID, u.OwnerID)
	if err == nil && n != 1 {
		err = identity.ErrPasskey
	}
	return err
}

func (t *tx) forgetPasskey(d owners.PasskeyDrop) error {
	return t.execOne("DELETE FROM passkeys WHERE id = ? AND owner_id = ?", d.ID, d.OwnerID)
}

func (t *tx) dropPasskeys(ownerID string) error {
	_, err := t.exec("DELETE FROM passkeys WHERE owner_id = ?", ownerID)
	return err
}

// spendTicket keeps a challenge that was used until nobody could use it again anyway.
func (t *tx) spendTicket(k owners.Ticket) error {
	if _, err := t.exec("DELETE FROM passkey_tickets WHERE until <= ?", k.Now.UnixMilli()); err != nil {
		return err
	}
	n, err := t.exec("INSERT INTO passkey_tickets (challenge, until) VALUES (?, ?) ON CONFLICT (challenge) DO NOTHING", k.Challenge[:], k.Until.UnixMilli())
	if err == nil && n != 1 {
		err = identity.ErrSpent
	}
	return err
}
