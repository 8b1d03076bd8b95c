package sqlite

import (
	"context"
	"errors"
	"slices"
	"time"

	"github.com/openleash/openleash-go/identity"
	"github.com/openleash/openleash-go/owners"
)

const selectTOTP = "SELECT secret, last_step FROM totp WHERE owner_id = ?"

// TOTP returns an owner's second factor.
func (s *Store) TOTP(ctx context.Context, ownerID string) (identity.TOTP, error) {
	return one(ctx, s, identity.ErrNotFound, readTOTP, selectTOTP, ownerID)
}

func readTOTP(scan scan) (t identity.TOTP, err error) {
	err = scan(&t.Secret, &t.LastStep)
	return t, err
}

// SpendStep uses a step of a secret: of two that use the same, one finds it used.
func (s *Store) SpendStep(ctx context.Context, ownerID string, secret []byte, step int64) error {
	return s.writeOne(ctx, "UPDATE totp SET last_step = ? WHERE owner_id = ? AND secret = ? AND last_step < ?", step, ownerID, secret, step)
}

// SpendBackupCode uses a backup code.
func (s *Store) SpendBackupCode(ctx context.Context, ownerID string, hash [32]byte, at time.Time) error {
	return s.writeOne(ctx, "UPDATE backup_codes SET used_at = ? WHERE owner_id = ? AND hash = ? AND used_at IS NULL", at.UnixMilli(), ownerID, hash[:])
}

// writeOne makes a change of one row; ErrNotFound: there is none to which it applies.
func (s *Store) writeOne(ctx context.Context, query string, args ...any) error {
	return s.write(ctx, func(t *tx) error { return t.execOne(query, args...) })
}

func (t *tx) execOne(query string, args ...any) error {
	n, err := t.exec(query, args...)
	if err == nil && n == 0 {
		err = identity.ErrNotFound
	}
	return err
}

const selectAttempt = "SELECT count, until FROM attempts WHERE key = ? AND forget_at > ?"

type attempt struct{ count, until int64 }

func readAttempt(scan scan) (a attempt, err error) {
	err = scan(&a.count, &a.until)
	return a, err
}

// Try counts a try. Who tries too often is sent away without a transaction.
func (s *Store) Try(ctx context.Context, now time.Time, limits ...identity.Limit) error {
	for _, l := range limits {
		a, err := one(ctx, s, errNone, readAttempt, selectAttempt, l.Key, now.UnixMilli())
		if err := a.check(now, err); err != nil {
			return err
		}
	}
	return s.write(ctx, func(t *tx) error {
		if _, err := t.exec("DELETE FROM attempts WHERE forget_at <= ?", now.UnixMilli()); err != nil {
			return err
		}
		for _, l := range limits {
			if err := t.try(now, l); err != nil {
				return err
			}
		}
		return nil
	})
}

// check refuses a try before its time.
func (a attempt) check(now time.Time, err error) error {
	switch {
	case errors.Is(err, errNone):
		return nil
	case err == nil && now.UnixMilli() < a.until:
		return &identity.TooManyError{Until: instant(a.until)}
	}
	return err
}

func (t *tx) try(now time.Time, l identity.Limit) error {
	a, err := inTx(t, errNone, readAttempt, selectAttempt, l.Key, now.UnixMilli())
	if err := a.check(now, err); err != nil {
		return err
	}
	_, err = t.exec(`INSERT INTO attempts (key, count, until, forget_at) VALUES (?1, ?2, ?3, ?4)
		ON CONFLICT (key) DO UPDATE SET count = ?2, until = ?3, forget_at = ?4`,
		l.Key, a.count+1, l.Next(int(a.count+1), now).UnixMilli(), l.Forget(now).UnixMilli())
	return err
}

// Untry takes back one try of each key.
func (s *Store) Untry(ctx context.Context, keys ...string) error {
	return s.write(ctx, func(t *tx) error {
		for _, key := range keys {
			if _, err := t.exec("UPDATE attempts SET count = count - 1, until = 0 WHERE key = ? AND count > 0", key); err != nil {
				return err
			}
		}
		return nil
	})
}

// Forgive forgets all tries of the keys.
func (s *Store) Forgive(ctx context.Context, keys ...string) error {
	return s.write(ctx, func(t *tx) error { return t.forgive(keys) })
}

const selectProposal = "SELECT secret, codes, replaces, until FROM totp_setups WHERE owner_id = ? AND until > ?"

func readProposal(scan scan) (p owners.Proposal, err error) {
	var codes []byte
	var until int64
	err = scan(&p.Secret, &codes, &p.Replaces, &until)
	for hash := range slices.Chunk(codes, len([32]byte{})) {
		p.Codes = append(p.Codes, [32]byte(hash))
	}
	p.Until = instant(until)
	return p, err
}

// Proposal returns the second factor that an owner is setting up.
func (s *Store) Proposal(ctx context.Context, ownerID string, now time.Time) (owners.Proposal, error) {
	p, err := one(ctx, s, identity.ErrNotFound, readProposal, selectProposal, ownerID, now.UnixMilli())
	p.OwnerID = ownerID
	return p, err
}

// BackupCodesLeft counts an owner's codes that were not used.
func (s *Store) BackupCodesLeft(ctx context.Context, ownerID string) (int, error) {
	n, err := one(ctx, s, errNone, readID, "SELECT count(*) FROM backup_codes WHERE owner_id = ? AND used_at IS NULL", ownerID)
	return int(n), err
}

func (t *tx) proposeFactor(p owners.Proposal) error {
	var codes []byte
	for _, hash := range p.Codes {
		codes = append(codes, hash[:]...)
	}
	_, err := t.exec(`INSERT INTO totp_setups (owner_id, secret, codes, replaces, until) VALUES (?1, ?2, ?3, ?4, ?5)
		ON CONFLICT (owner_id) DO UPDATE SET secret = ?2, codes = ?3, replaces = ?4, until = ?5`,
		p.OwnerID, p.Secret, codes, p.Replaces, p.Until.UnixMilli())
	return err
}

// confirmFactor makes what is being set up the second factor. One that was proposed
// while there was none does not replace one that has come since.
func (t *tx) confirmFactor(c owners.Confirmation) error {
	p, err := inTx(t, identity.ErrNotFound, readProposal, selectProposal+
		" AND secret = ? AND (replaces = 1 OR NOT EXISTS (SELECT 1 FROM totp WHERE owner_id = totp_setups.owner_id))",
		c.OwnerID, c.Now.UnixMilli(), c.Secret)
	if err != nil {
		return err
	}
	if err := t.dropFactors(c.OwnerID); err != nil {
		return err
	}
	if _, err := t.exec("INSERT INTO totp (owner_id, secret, last_step) VALUES (?, ?, ?)", c.OwnerID, c.Secret, c.Step); err != nil {
		return err
	}
	for _, hash := range p.Codes {
		if _, err := t.exec("INSERT INTO backup_codes (owner_id, hash) VALUES (?, ?)", c.OwnerID, hash[:]); err != nil {
			return err
		}
	}
	return nil
}

// dropFactors takes away every second factor of an owner.
func (t *tx) dropFactors(ownerID string) error {
	for _, drop := range []string{
		"DELETE FROM totp WHERE owner_id = ?", "DELETE FROM totp_setups WHERE owner_id = ?", "DELETE FROM backup_codes WHERE owner_id = ?",
	} {
		if _, err := t.exec(drop, ownerID); err != nil {
			return err
		}
	}
	return nil
}
