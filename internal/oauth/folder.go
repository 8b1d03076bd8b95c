package oauth

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/openleash/openleash-go/internal/durable"
	"github.com/openleash/openleash-go/internal/filelock"
)

// Folder holds the logins, one file a server, 0600: NAME.json. NAME.lock is held
// by who renews or replaces it. The folder itself is made by its owner, 0700.
type Folder string

// login is one file: everything that is needed to go on without the person. The
// secret of a client of the configuration is not in it.
type login struct {
	Server   string `json:"server"`
	URL      string `json:"url"`      // as configured; the token goes to no other
	Resource string `json:"resource"` // as told to the issuer
	Issuer   string `json:"issuer"`

	TokenEndpoint      string `json:"token_endpoint"`
	RevocationEndpoint string `json:"revocation_endpoint,omitempty"`

	ClientID     string `json:"client_id"`
	ClientSecret string `json:"client_secret,omitempty"` // of a client that we registered
	Registered   bool   `json:"registered"`
	AuthMethod   string `json:"token_endpoint_auth_method"`

	AccessToken  string    `json:"access_token"`
	RefreshToken string    `json:"refresh_token,omitempty"`
	Scope        string    `json:"scope,omitempty"`
	Obtained     time.Time `json:"obtained"`
	Expires      time.Time `json:"expires,omitzero"` // zero: not said
	Ended        string    `json:"ended,omitempty"`  // why it is not renewed any more
}

// soon reports whether the token has to be renewed: it ends within 30 seconds,
// or a quarter of a short life.
func (l *login) soon(now time.Time) bool {
	margin := min(30*time.Second, l.Expires.Sub(l.Obtained)/4)
	return !l.Expires.IsZero() && now.Add(margin).After(l.Expires)
}

// over reports whether the token has ended.
func (l *login) over(now time.Time) bool { return !l.Expires.IsZero() && !now.Before(l.Expires) }

// put takes over what the token endpoint gave. "The authorization server MAY
// issue a new refresh token"; without one the old stays, and so does the scope.
func (l *login) put(t tokens, now time.Time) {
	l.AccessToken, l.Obtained, l.Expires, l.Ended = t.access, now.UTC(), time.Time{}, ""
	if t.lifetime > 0 {
		l.Expires = l.Obtained.Add(t.lifetime)
	}
	if t.refresh != "" {
		l.RefreshToken = t.refresh
	}
	if t.scope != "" {
		l.Scope = t.scope
	}
}

// client is who we are to the issuer of this login.
func (l *login) client(s Server) client {
	cl := client{id: l.ClientID, secret: l.ClientSecret, method: l.AuthMethod, registered: l.Registered}
	if !l.Registered && s.ClientID == l.ClientID {
		cl.secret = s.ClientSecret
	}
	return cl
}

func (f Folder) file(server string) string { return filepath.Join(string(f), server+".json") }

// load reads a login; os.ErrNotExist when there is none.
func (f Folder) load(server string) (*login, error) {
	raw, err := os.ReadFile(f.file(server))
	if err != nil {
		return nil, fmt.Errorf("reading the login at %s: %w", server, err)
	}
	l := &login{}
	if err := json.Unmarshal(raw, l); err != nil {
		return nil, fmt.Errorf("%s cannot be read (%v); remove it and sign in again: openleash login %s", f.file(server), err, server)
	}
	return l, nil
}

// save puts a login on the disk, whole or not at all.
func (f Folder) save(l *login) (err error) {
	raw, err := json.MarshalIndent(l, "", "  ")
	if err != nil {
		return err
	}
	tmp, err := os.CreateTemp(string(f), l.Server+".*.tmp") // 0600
	if err != nil {
		return fmt.Errorf("keeping the login at %s: %w", l.Server, err)
	}
	_, err = tmp.Write(append(raw, '\n'))
	if err == nil {
		err = tmp.Sync()
	}
	err = errors.Join(err, tmp.Close())
	if err == nil {
		err = durable.Replace(tmp.Name(), f.file(l.Server))
	}
	if err != nil {
		return errors.Join(fmt.Errorf("keeping the login at %s: %w", l.Server, err), os.Remove(tmp.Name()))
	}
	return durable.Dir(string(f))
}

// lock keeps other processes from renewing or replacing a server's login.
func (f Folder) lock(ctx context.Context, server string) (unlock func() error, err error) {
	return filelock.LockContext(ctx, filepath.Join(string(f), server+".lock"))
}

// State is what a person may know of a login.
type State struct {
	Server, URL, Issuer, Scope string
	Until                      time.Time // zero: not known
	Renews                     bool      // without the person
	Ended                      string    // why it is good no more; empty: it is
}

func (l *login) state(now time.Time) State {
	s := State{Server: l.Server, URL: l.URL, Issuer: l.Issuer, Scope: l.Scope, Until: l.Expires, Renews: l.RefreshToken != "", Ended: l.Ended}
	if s.Ended == "" && l.over(now) && !s.Renews {
		s.Ended = "it has expired"
	}
	return s
}

// States are the logins that there are.
func (f Folder) States(now time.Time) ([]State, error) {
	files, err := os.ReadDir(string(f))
	if err != nil {
		return nil, fmt.Errorf("reading the logins: %w", err)
	}
	var states []State
	for _, file := range files {
		server, ok := strings.CutSuffix(file.Name(), ".json")
		if !ok {
			continue
		}
		l, err := f.load(server)
		if errors.Is(err, os.ErrNotExist) {
			continue // just removed
		}
		if err != nil {
			return nil, err
		}
		states = append(states, l.state(now))
	}
	return states, nil
}
