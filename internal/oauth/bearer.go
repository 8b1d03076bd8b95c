package oauth

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"os"
	"sync"
	"time"
)

// Bearer gives the token of one server's login, and renews it. It is used by all
// connections of a process to that server; other processes share the file.
type Bearer struct {
	folder Folder
	server Server
	ended  func(reason string) // told when the authorization server refuses to renew

	turn chan struct{} // held while one renews, for all that wait

	// Guarded by turn: what has just failed need not be tried by each that waits.
	failed   error
	failedAt time.Time
	// Guarded by turn: the token that was got last, for one that was refused.
	renewed   string
	renewedAt time.Time

	mu   sync.Mutex
	seen os.FileInfo // of the file that last was read from
	last *login
}

// NewBearer returns the Bearer of a server. ended is told, once a login, that it
// cannot be renewed any more.
func NewBearer(folder Folder, s Server, ended func(reason string)) *Bearer {
	return &Bearer{folder: folder, server: s, ended: ended, turn: make(chan struct{}, 1)}
}

const (
	// renewWithin is how long a renewal may take, turns of others included.
	renewWithin = 30 * time.Second
	// tryAgainAfter is how long a failure to reach the authorization server counts
	// for those who come next.
	tryAgainAfter = 2 * time.Second
	// renewAgainAfter is how soon a token that came in place of a refused one may be
	// refused itself before another is got: a server that refuses all of them would
	// have one spent for each call.
	renewAgainAfter = 10 * time.Second
)

// Token is what goes with a request, renewed if its end is near; empty when
// nobody has signed in, or for another URL than the server has now. Errors are
// *TokenError, or the context's.
func (b *Bearer) Token(ctx context.Context) (string, error) {
	l, err := b.current()
	if err != nil || l == nil {
		return "", err
	}
	if !l.soon(time.Now()) {
		return l.AccessToken, nil
	}
	return b.renew(ctx, l, false)
}

// Renew is asked for another token after the server has answered 401 to one.
// Empty: there is no other.
func (b *Bearer) Renew(ctx context.Context, refused string) (string, error) {
	l, err := b.current()
	if err != nil || l == nil {
		return "", err
	}
	if l.AccessToken != refused {
		return l.AccessToken, nil // another process was faster
	}
	return b.renew(ctx, l, true)
}

// current is the login as it stands in the file, nil when there is none for this
// URL. Mostly that is one look whether the file is still the same.
func (b *Bearer) current() (*login, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	info, err := os.Stat(b.folder.file(b.server.Name))
	if errors.Is(err, os.ErrNotExist) {
		b.seen, b.last = nil, nil
		return nil, nil
	}
	if err == nil && (b.seen == nil || !os.SameFile(info, b.seen) || !info.ModTime().Equal(b.seen.ModTime())) {
		b.seen = nil
		if b.last, err = b.folder.load(b.server.Name); err == nil {
			b.seen = info
		}
	}
	if err != nil {
		return nil, &TokenError{fmt.Sprintf("the login at the upstream server %s: %v. Nothing was done", b.server.Name, err)}
	}
	if b.last.URL != b.server.URL {
		return nil, nil
	}
	return b.last, nil
}

// renew gets a new token in place of l's, or hands over the one that somebody
// else has got meanwhile. must tells that l's is not accepted; else it may be
// used while it lasts.
func (b *Bearer) renew(ctx context.Context, l *login, must bool) (string, error) {
	select {
	case b.turn <- struct{}{}:
		defer func() { <-b.turn }()
	case <-ctx.Done():
		return "", ctx.Err()
	}
	now, err := b.current()
	if err != nil || now == nil {
		return "", err
	}
	if now.AccessToken != l.AccessToken {
		return now.AccessToken, nil
	}
	if must && b.renewed == l.AccessToken && time.Since(b.renewedAt) < renewAgainAfter {
		return "", nil
	}
	if token := b.try(ctx, l); token != "" {
		if must {
			b.renewed, b.renewedAt = token, time.Now()
		}
		return token, nil
	}
	if !must && !now.over(time.Now()) {
		return now.AccessToken, nil
	}
	return "", b.failed
}

// try refreshes, unless that has just failed; b.failed says why it is empty. A
// host that goes away does not end it: a refresh token that is spent, with nobody
// there to take the next, is a login that is lost.
func (b *Bearer) try(ctx context.Context, l *login) (token string) {
	if b.failed != nil && time.Since(b.failedAt) < tryAgainAfter {
		return ""
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), renewWithin)
	defer cancel()
	if token, b.failed = b.refresh(ctx, l); b.failed != nil {
		b.failedAt = time.Now()
	}
	return token
}

// refresh spends the refresh token, while no other process does: who was second
// finds what the first has written.
func (b *Bearer) refresh(ctx context.Context, old *login) (token string, err error) {
	name := b.server.Name
	unlock, err := b.folder.lock(ctx, name)
	if err != nil {
		return "", &TokenError{fmt.Sprintf("the login at the upstream server %s: %v. Nothing was done", name, err)}
	}
	defer unlock()
	l, err := b.folder.load(name)
	switch {
	case errors.Is(err, os.ErrNotExist):
		return "", loginAgain(name, "it was logged out")
	case err != nil:
		return "", &TokenError{err.Error()}
	case l.URL != b.server.URL:
		return "", loginAgain(name, "it is for another url now")
	case l.AccessToken != old.AccessToken:
		return l.AccessToken, nil
	case l.Ended != "":
		return "", loginAgain(name, l.Ended)
	case l.RefreshToken == "":
		return "", loginAgain(name, "its token has expired or is refused, and there is none to renew it with")
	}
	return b.spend(ctx, l)
}

// spend renews l and keeps it. If we crash after the authorization server has
// answered and before the file is there, a server that rotates has ended the
// login: nothing that we could do would change that.
func (b *Bearer) spend(ctx context.Context, l *login) (string, error) {
	name := b.server.Name
	c, err := callerFor(b.server)
	if err == nil {
		_, err = c.allowed(l.TokenEndpoint, "token_endpoint")
	}
	if err != nil {
		return "", &TokenError{err.Error()}
	}
	t, err := c.exchange(ctx, l.TokenEndpoint, l.client(b.server), url.Values{"grant_type": {"refresh_token"}, "refresh_token": {l.RefreshToken}, "resource": {l.Resource}})
	switch {
	case isOver(err, l.Registered):
		l.Ended, l.RefreshToken = "the authorization server does not renew it: "+err.Error(), ""
		b.ended(l.Ended)
		if err := b.folder.save(l); err != nil {
			return "", &TokenError{err.Error()}
		}
		return "", loginAgain(name, l.Ended)
	case err != nil:
		return "", &TokenError{fmt.Sprintf("the login at the upstream server %s could not be renewed at %s (%v). Nothing was done. Try again; if it stays so, its owner signs in again with: openleash login %s", name, l.Issuer, err, name)}
	}
	l.put(t, time.Now())
	if err := b.folder.save(l); err != nil {
		return "", &TokenError{err.Error() + ". Nothing was done"}
	}
	return l.AccessToken, nil
}
