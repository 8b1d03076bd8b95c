package owners

import (
	"context"
	"errors"
	"time"

	"github.com/google/uuid"

	"github.com/openleash/openleash-go/identity"
	"github.com/openleash/openleash-go/proof"
)

// Cookie is the name of the cookie in which browsers keep a session's token: one for
// each port, since browsers do not keep those apart.
func Cookie(port string) string { return "openleash_" + port }

// Session is who shows a token; ErrSession: nobody, whatever the reason.
func (s *Service) Session(ctx context.Context, token string) (identity.Session, error) {
	now := s.Now()
	shown, err := proof.VerifySession(token, s.Keys(), now)
	if err != nil {
		return identity.Session{}, ErrSession
	}
	session, err := s.Store.Session(ctx, shown.ID, now)
	if errors.Is(err, identity.ErrNotFound) || err == nil && session.OwnerID != shown.UserID {
		return identity.Session{}, ErrSession
	}
	if err == nil && now.Sub(session.SeenAt) >= seenEach {
		err = s.seen(ctx, session.ID, now)
	}
	return session, err
}

// seen notes that a session is used. That it cannot be noted does not end it.
func (s *Service) seen(ctx context.Context, id string, now time.Time) error {
	if err := s.Store.SeenSession(ctx, id, now); errors.Is(err, identity.ErrNotFound) {
		return ErrSession // it has ended meanwhile
	}
	return nil
}

// Sessions lists where an owner is signed in.
func (s *Service) Sessions(ctx context.Context, ownerID string) ([]identity.Session, error) {
	return s.Store.Sessions(ctx, ownerID, s.Now())
}

// SignOut ends the session itself.
func (s *Service) SignOut(ctx context.Context, from From, session identity.Session) error {
	return s.end(ctx, from.actor(session.Name), Ending{OwnerID: session.OwnerID, ID: session.ID}, "signed out")
}

// Revoke ends a session of an owner, by its id; identity.ErrNotFound: the owner has none
// such.
func (s *Service) Revoke(ctx context.Context, actor, ownerID, id string) error {
	return s.end(ctx, actor, Ending{OwnerID: ownerID, ID: id}, "session "+id+" revoked")
}

// RevokeAll ends all sessions of an owner, but one when that is named.
func (s *Service) RevokeAll(ctx context.Context, actor, ownerID, but string) error {
	what := "all sessions revoked"
	if but != "" {
		what = "all other sessions revoked"
	}
	return s.end(ctx, actor, Ending{OwnerID: ownerID, But: but}, what)
}

func (s *Service) end(ctx context.Context, actor string, e Ending, why string) error {
	return s.change(ctx, Change{End: &e, Entries: s.entry("session.ended", actor, e.OwnerID, why)})
}

// Refresh starts a session in place of one, as if its owner had signed in again; not for
// longer than StayFor.
func (s *Service) Refresh(ctx context.Context, from From, old identity.Session) (SignedIn, error) {
	now := s.Now()
	last := old.BeganAt.Add(StayFor)
	if !now.Before(last) {
		return SignedIn{}, ErrStayed
	}
	next := old
	next.ID, next.SeenAt, next.Expires = uuid.NewString(), now, now.Add(SessionFor)
	next.Address, next.Agent = from.Address, shortAgent(from.Agent)
	if next.Expires.After(last) {
		next.Expires = last
	}
	token, err := s.sign(next)
	if err != nil {
		return SignedIn{}, err
	}
	err = s.change(ctx, Change{
		End: &Ending{OwnerID: old.OwnerID, ID: old.ID}, Start: &next, Proved: true, // as that one was
		Entries: s.entry("session.started", from.actor(old.Name), old.OwnerID, "in place of one before, from "+from.Address),
	})
	if errors.Is(err, identity.ErrNotFound) {
		err = ErrSession
	}
	return SignedIn{next, token}, err
}
