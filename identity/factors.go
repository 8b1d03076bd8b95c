package identity

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base32"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/pquerna/otp"
	"github.com/pquerna/otp/hotp"
)

// The second factor: codes of RFC 6238 (SHA-1, 6 digits, 30 seconds, one step of
// clock skew to each side), and backup codes for the day on which the phone is gone.
// Each works once. The store keeps the last step that was used, and of backup codes
// only hashes.
const (
	stepSeconds = 30
	skewSteps   = 1
	secretBytes = 20 // as RFC 4226 recommends
	BackupCodes = 8  // how many are made
)

// What may be wrong with a code.
var (
	ErrFactorRequired = errorString("the second factor is needed: a code of the authenticator app, or a backup code")
	ErrFactorWrong    = errorString("the code is wrong, or was used already")
	// ErrNoFactor: there is none, so no code can be right.
	ErrNoFactor = errorString("no second factor is set up")
)

// Methods by which the second factor was shown.
const (
	MethodTOTP   = "totp"
	MethodBackup = "backup_code"
)

// TOTP is the secret of an authenticator app.
type TOTP struct {
	Secret   []byte
	LastStep int64 // used already, as are all before it
}

// FactorStore keeps second factors.
type FactorStore interface {
	AttemptStore
	// TOTP returns an owner's; ErrNotFound: there is no second factor.
	TOTP(ctx context.Context, ownerID string) (TOTP, error)
	// SpendStep uses a step of this secret; ErrNotFound: it, or a later one, was used, or
	// the secret is not the owner's any more.
	SpendStep(ctx context.Context, ownerID string, secret []byte, step int64) error
	// SpendBackupCode uses a code; ErrNotFound: there is none, or it was used.
	SpendBackupCode(ctx context.Context, ownerID string, hash [32]byte, at time.Time) error
}

// Factors checks second factors.
type Factors struct {
	store FactorStore
	now   func() time.Time
}

// NewFactors checks what a store keeps. now may be nil: time.Now.
func NewFactors(store FactorStore, now func() time.Time) *Factors {
	if now == nil {
		now = time.Now
	}
	return &Factors{store, now}
}

// Enrolled reports whether an owner has set up a second factor.
func (f *Factors) Enrolled(ctx context.Context, ownerID string) (bool, error) {
	_, err := f.store.TOTP(ctx, ownerID)
	if errors.Is(err, ErrNotFound) {
		return false, nil
	}
	return err == nil, err
}

// Verify uses an owner's code, and says by which method it was one. It is the only way
// in which a code is checked: it works once, also when it comes twice at once, and wrong
// ones are limited ([ErrTooMany]). Without a code it is [ErrFactorRequired], which is no
// attempt.
func (f *Factors) Verify(ctx context.Context, ownerID, code string) (method string, err error) {
	known, err := f.store.TOTP(ctx, ownerID)
	if errors.Is(err, ErrNotFound) {
		return "", ErrNoFactor
	}
	if err != nil {
		return "", err
	}
	if code = bare(code); code == "" {
		return "", ErrFactorRequired
	}
	limit := CodeLimit(ownerID)
	if err := f.store.Try(ctx, f.now(), limit); err != nil {
		return "", err
	}
	if method, err = f.spend(ctx, ownerID, known, code); err != nil {
		return "", err
	}
	return method, f.store.Forgive(ctx, limit.Key)
}

// CodeLimit makes a guess of six digits hopeless: after a day of guessing, a day each.
func CodeLimit(ownerID string) Limit {
	return Limit{Key: "code:" + ownerID, Free: 5, Wait: 15 * time.Minute, MaxWait: 24 * time.Hour}
}

func (f *Factors) spend(ctx context.Context, ownerID string, known TOTP, code string) (method string, err error) {
	if len(code) == 6 {
		method, err = MethodTOTP, f.spendStep(ctx, ownerID, known, code)
	} else {
		method, err = MethodBackup, f.store.SpendBackupCode(ctx, ownerID, HashBackupCode(ownerID, code), f.now())
	}
	if errors.Is(err, ErrNotFound) {
		err = ErrFactorWrong
	}
	return method, err
}

func (f *Factors) spendStep(ctx context.Context, ownerID string, known TOTP, code string) error {
	step, ok, err := known.match(code, f.now())
	if err != nil {
		return err
	}
	if !ok {
		return ErrFactorWrong
	}
	return f.store.SpendStep(ctx, ownerID, known.Secret, step)
}

// Match finds the step of a code that was not used yet. It looks at all steps, whichever
// is the right one.
func (t TOTP) match(code string, now time.Time) (step int64, ok bool, err error) {
	at := now.Unix() / stepSeconds
	for s := at - skewSteps; s <= at+skewSteps; s++ {
		want, err := t.code(s)
		if err != nil {
			return 0, false, err
		}
		if subtle.ConstantTimeCompare([]byte(want), []byte(code)) == 1 && s > t.LastStep {
			step, ok = s, true
		}
	}
	return step, ok, nil
}

func (t TOTP) code(step int64) (string, error) {
	code, err := hotp.GenerateCodeCustom(t.Text(), uint64(step), hotp.ValidateOpts{Digits: otp.DigitsSix, Algorithm: otp.AlgorithmSHA1})
	if err != nil {
		return "", fmt.Errorf("computing a code: %w", err)
	}
	return code, nil
}

// Confirm checks a code of a secret that is being set up, and returns its step: the
// first that counts as used.
func (t TOTP) Confirm(code string, now time.Time) (step int64, err error) {
	step, ok, err := t.match(bare(code), now)
	if err == nil && !ok {
		err = ErrFactorWrong
	}
	return step, err
}

// NewTOTP makes a secret.
func NewTOTP() TOTP {
	secret := make([]byte, secretBytes)
	rand.Read(secret) // never fails: it ends the program instead
	return TOTP{Secret: secret}
}

// Text is the secret as authenticator apps take it: base32 without padding.
func (t TOTP) Text() string {
	return base32.StdEncoding.WithPadding(base32.NoPadding).EncodeToString(t.Secret)
}

// backupAlphabet has no letters that look like digits.
const backupAlphabet = "abcdefghjkmnpqrstuvwxyz23456789"

// NewBackupCodes makes codes of ten characters, "x7k2m-9qw4c": 49 random bits each, far
// more than can be guessed within the limits of Verify.
func NewBackupCodes() []string {
	codes := make([]string, BackupCodes)
	for i := range codes {
		text := randomText(10)
		codes[i] = text[:5] + "-" + text[5:]
	}
	return codes
}

// randomText draws characters of backupAlphabet, each as likely as any other.
func randomText(n int) string {
	var text []byte
	for len(text) < n {
		var b [1]byte
		rand.Read(b[:])
		if v := int(b[0]) & 31; v < len(backupAlphabet) {
			text = append(text, backupAlphabet[v])
		}
	}
	return string(text)
}

// HashBackupCode is what is stored of a backup code.
func HashBackupCode(ownerID, code string) [32]byte {
	return sha256.Sum256([]byte("openleash-backup-code\n" + ownerID + "\n" + bare(code)))
}

// maxCode is more than any code has.
const maxCode = 64

// bare is a code without what people put between its parts, in lower case.
func bare(code string) string {
	if len(code) > maxCode {
		code = code[:maxCode]
	}
	return strings.ToLower(strings.Map(func(r rune) rune {
		if r == ' ' || r == '-' || r == '\n' || r == '\r' || r == '\t' {
			return -1
		}
		return r
	}, code))
}
