package owners

import (
	"context"
	"errors"
	"time"

	"github.com/openleash/openleash-go/identity"
)

// What may be wrong with changes to an account.
var (
	ErrFactorNotSetUp = errors.New("no second factor is being set up, or the time for it is over")
	ErrOvertaken      = errors.New("it was changed by somebody else meanwhile: look again")
)

// User is an account.
func (s *Service) User(ctx context.Context, id string) (identity.User, error) {
	return s.Store.User(ctx, id)
}

// SetProfile changes an owner's own name and e-mail address.
func (s *Service) SetProfile(ctx context.Context, actor, id, name, email string) (identity.User, error) {
	return s.SetUser(ctx, actor, id, Patch{Name: &name, Email: &email})
}

// SetPassphrase changes an owner's own passphrase; the present one must be shown, if
// there is one. All other sessions end: who knew the former one is out.
func (s *Service) SetPassphrase(ctx context.Context, from From, session identity.Session, present, next string) error {
	if err := identity.CheckPassphrase(next); err != nil {
		return err
	}
	former, err := s.Store.PassphraseHash(ctx, session.OwnerID)
	if err != nil {
		return err
	}
	limit := accountLimit(session.OwnerID, "")
	if former != "" {
		if err := s.checkPresent(ctx, limit, former, present); err != nil {
			return err
		}
	}
	hash, err := s.passphrases.Hash(ctx, next)
	if err != nil {
		return err
	}
	return asOvertaken(s.change(ctx, Change{
		Secret:  &Secret{OwnerID: session.OwnerID, Hash: hash, Former: &former},
		Forgive: []string{limit.Key},
		End:     &Ending{OwnerID: session.OwnerID, But: session.ID},
		Entries: s.entry("owner.passphrase", from.actor(session.Name), session.OwnerID, "changed by its owner; all other sessions end"),
	}))
}

func (s *Service) checkPresent(ctx context.Context, limit identity.Limit, former, present string) error {
	if err := s.Store.Try(ctx, s.Now(), limit); err != nil {
		return err
	}
	good, err := s.passphrases.Check(ctx, former, present)
	if errors.Is(err, identity.ErrTooMany) {
		return errors.Join(err, s.Store.Untry(ctx, limit.Key))
	}
	if err == nil && !good {
		err = ErrCredentials
	}
	return err
}

func asOvertaken(err error) error {
	if errors.Is(err, identity.ErrNotFound) {
		return ErrOvertaken
	}
	return err
}

// setupFor is how long a second factor can be set up.
const setupFor = 15 * time.Minute

// A FactorSetup is what its owner sees once: it is not told again.
type FactorSetup struct {
	Secret      string // base32
	URI         string // otpauth://, which the QR code has
	QR          QR
	BackupCodes []string
}

// SetUpFactor begins to set up a second factor. Nothing changes until a code of it has
// come (ConfirmFactor). In place of one that there is, it takes a code of that.
func (s *Service) SetUpFactor(ctx context.Context, from From, session identity.Session, code string) (FactorSetup, error) {
	how, err := s.prove(ctx, session.OwnerID, code)
	if err != nil {
		return FactorSetup{}, err
	}
	secret, codes := identity.NewTOTP(), identity.NewBackupCodes()
	made := FactorSetup{Secret: secret.Text(), URI: factorURI(session.Name, secret), BackupCodes: codes}
	if made.QR, err = newQR(made.URI); err != nil {
		return FactorSetup{}, err
	}
	p := Proposal{OwnerID: session.OwnerID, Secret: secret.Secret, Replaces: how != "", Until: s.Now().Add(setupFor)}
	for _, code := range codes {
		p.Codes = append(p.Codes, identity.HashBackupCode(session.OwnerID, code))
	}
	return made, s.change(ctx, Change{
		Propose: &p, Entries: s.entry("owner.factor", from.actor(session.Name), session.OwnerID, "set-up begun"+how.words()),
	})
}

// ConfirmFactor makes what was set up the second factor. Sessions that came in without
// it end, but for this one.
func (s *Service) ConfirmFactor(ctx context.Context, from From, session identity.Session, code string) error {
	p, err := s.Store.Proposal(ctx, session.OwnerID, s.Now())
	if err != nil {
		return asNotSetUp(err)
	}
	limit := identity.Limit{Key: "confirm:" + session.OwnerID, Free: 10, Wait: time.Minute, MaxWait: time.Hour}
	if err := s.Store.Try(ctx, s.Now(), limit); err != nil {
		return err
	}
	step, err := identity.TOTP{Secret: p.Secret}.Confirm(code, s.Now())
	if err != nil {
		return err
	}
	return asNotSetUp(s.change(ctx, Change{
		Confirm: &Confirmation{OwnerID: session.OwnerID, Secret: p.Secret, Step: step, Now: s.Now()},
		Forgive: []string{limit.Key},
		End:     &Ending{OwnerID: session.OwnerID, But: session.ID},
		Entries: s.entry("owner.factor", from.actor(session.Name), session.OwnerID, "set up; all other sessions end"),
	}))
}

func asNotSetUp(err error) error {
	if errors.Is(err, identity.ErrNotFound) {
		return ErrFactorNotSetUp
	}
	return err
}

// DropFactor takes the second factor away from who shows a code of it.
func (s *Service) DropFactor(ctx context.Context, from From, session identity.Session, code string) error {
	method, err := s.Factors.Verify(ctx, session.OwnerID, code)
	if err != nil {
		return err
	}
	return s.change(ctx, Change{
		Drop:    session.OwnerID,
		Entries: s.entry("owner.factor", from.actor(session.Name), session.OwnerID, "taken away"+proven(method).words()),
	})
}

// BackupCodesLeft counts the backup codes of an owner that were not used.
func (s *Service) BackupCodesLeft(ctx context.Context, ownerID string) (int, error) {
	return s.Store.BackupCodesLeft(ctx, ownerID)
}

// DismissNotice says that its owner has seen what was shown.
func (s *Service) DismissNotice(ctx context.Context, from From, session identity.Session, shown string) error {
	return asOvertaken(s.change(ctx, Change{
		Notice:  &Notice{OwnerID: session.OwnerID, Shown: shown},
		Entries: s.entry("owner.notice", from.actor(session.Name), session.OwnerID, "seen by its owner"),
	}))
}
