package owners

import (
	"errors"
	"fmt"
	"net/http"
	"time"

	"github.com/openleash/openleash-go/identity"
)

// A Refusal is what a door says of an error: the same words at every one. Nothing in it
// is what somebody has sent.
type Refusal struct {
	Status int
	Code   string
	Why    string        // for the log, in a few words that the program knows
	Told   string        // for who was refused
	Retry  time.Duration // after which it can be tried again; zero: whenever
}

var refusals = []struct {
	err error
	Refusal
}{
	{ErrCredentials, Refusal{401, "INVALID_CREDENTIALS", "an unknown user or a wrong passphrase", "There is no such user with this passphrase.", 0}},
	{ErrSetupRequired, Refusal{401, "SETUP_REQUIRED", "a user who has no passphrase yet", "This user has no passphrase yet. Sign in by a link (openleash open), or ask an admin for a set-up link.", 0}},
	{identity.ErrFactorRequired, Refusal{403, "TOTP_REQUIRED", "no code of the second factor", "Enter the code that your authenticator app shows, or a backup code.", 0}},
	{identity.ErrFactorWrong, Refusal{401, "INVALID_TOTP_CODE", "a wrong code of the second factor", "This code is wrong, or was used already. Wait for the next one.", 0}},
	{ErrSession, Refusal{401, "INVALID_SESSION", "a session that has ended, or never was", "The session has ended, or never was. Sign in again.", 0}},
	{ErrStayed, Refusal{401, "INVALID_SESSION", "a session that was to be longer than a sign-in is good for", "It is too long since you have signed in. Sign in again.", 0}},
	{ErrInviteNotFound, Refusal{404, "INVITE_NOT_FOUND", "a set-up link that never was", "There is no such set-up link.", 0}},
	{ErrInviteToken, Refusal{401, "INVALID_INVITE_TOKEN", "a wrong token of a set-up link", "The token is not the one of this set-up link.", 0}},
	{ErrInviteUsed, Refusal{400, "INVITE_USED", "a set-up link that was used", "This set-up link was used. Ask an admin for a new one.", 0}},
	{ErrInviteExpired, Refusal{400, "INVITE_EXPIRED", "a set-up link that has expired", "This set-up link has expired. Ask an admin for a new one.", 0}},
	{ErrSetUp, Refusal{403, "SETUP_ALREADY_COMPLETED", "a set-up of what is set up", "The installation is set up already. Sign in.", 0}},
	{identity.ErrPasskeyCloned, Refusal{401, "INVALID_PASSKEY", "a passkey whose counter has not gone on", "This passkey may have been copied: its counter has not gone on. Remove it, and sign in another way.", 0}},
	{identity.ErrPasskey, Refusal{401, "INVALID_PASSKEY", "a passkey that does not fit", "This passkey is not known here, or has signed something else.", 0}},
	{ErrTicket, Refusal{403, "INVALID_PASSKEY_TICKET", "a passkey's challenge that was used, is too old, or never was", "This took too long, or was done already. Begin again.", 0}},
	{ErrLink, Refusal{403, "INVALID_LINK", "a link that was used, has expired, or never was", "The link was used, has expired, or never was.", 0}},
}

// Refusal says how to refuse who is not let in; false: the error is none of these.
func (s *Service) Refusal(err error) (Refusal, bool) {
	if busy := new(identity.TooManyError); errors.As(err, &busy) {
		return tooMany(busy.Until.Sub(s.Now())), true
	}
	for _, r := range refusals {
		if errors.Is(err, r.err) {
			return r.Refusal, true
		}
	}
	return Refusal{}, false
}

func tooMany(wait time.Duration) Refusal {
	wait = max(wait.Round(time.Second), time.Second)
	return Refusal{http.StatusTooManyRequests, "TOO_MANY_ATTEMPTS", "too many attempts", fmt.Sprintf("That was tried too often. Try again in %s.", inWords(wait)), wait}
}

func inWords(d time.Duration) string {
	if d < 2*time.Minute {
		return fmt.Sprintf("%d seconds", int(d.Seconds()))
	}
	return fmt.Sprintf("%d minutes", int((d + time.Minute - 1).Minutes()))
}
