package oauth

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"os"
)

// Logout forgets a server's login and has it revoked (RFC 7009). It is forgotten
// whatever comes of that; revoked tells whether the authorization server has a
// way to revoke. There being none is an error that wraps os.ErrNotExist.
func (f Folder) Logout(ctx context.Context, s Server, record func(State) error) (was State, revoked bool, err error) {
	unlock, err := f.lock(ctx, s.Name)
	if err != nil {
		return State{}, false, err
	}
	defer unlock()
	l, err := f.load(s.Name)
	if err != nil {
		return State{}, false, err
	}
	if err := record(State{Server: l.Server, URL: l.URL, Issuer: l.Issuer, Scope: l.Scope}); err != nil {
		return State{}, false, err
	}
	if err := os.Remove(f.file(s.Name)); err != nil {
		return State{}, false, fmt.Errorf("forgetting the login at %s: %w", s.Name, err)
	}
	was = State{Server: l.Server, URL: l.URL, Issuer: l.Issuer, Scope: l.Scope, Until: l.Expires, Renews: l.RefreshToken != ""}
	if l.RevocationEndpoint == "" {
		return was, false, nil
	}
	return was, true, l.revoke(ctx, s)
}

// revoke revokes both tokens: the refresh token first, with which "the
// authorization server SHOULD also invalidate all access tokens".
func (l *login) revoke(ctx context.Context, s Server) error {
	c, err := callerFor(Server{Name: l.Server, URL: l.URL})
	if err == nil {
		_, err = c.allowed(l.RevocationEndpoint, "revocation_endpoint")
	}
	if err != nil {
		return err
	}
	var errs []error
	for _, t := range []struct{ token, hint string }{{l.RefreshToken, "refresh_token"}, {l.AccessToken, "access_token"}} {
		if t.token == "" {
			continue
		}
		cl, form := l.client(s), url.Values{"token": {t.token}, "token_type_hint": {t.hint}}
		a, err := c.post(ctx, l.RevocationEndpoint, cl, form)
		if err == nil && a.status != 200 {
			_, text := said(a, append(secretsIn(form), cl.secret))
			err = errors.New(text)
		}
		if err != nil {
			errs = append(errs, fmt.Errorf("the %s: %w", t.hint, err))
		}
	}
	return errors.Join(errs...)
}
