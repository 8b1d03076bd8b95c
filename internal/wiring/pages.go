package wiring

import (
	"context"
	"io"
	"net/http"
	"strconv"

	"github.com/openleash/openleash-go/api"
	"github.com/openleash/openleash-go/audit"
	"github.com/openleash/openleash-go/internal/door"
	"github.com/openleash/openleash-go/owners"
	"github.com/openleash/openleash-go/portal"
	"github.com/openleash/openleash-go/proof"
)

// Serving says where the pages are served, and by what.
type Serving struct {
	Port    int
	Hosts   []string // further values of the Host header; nil: none
	Base    string   // the portal's address, as links have it
	Version string
	MCP     http.Handler // serves /mcp and /sse; nil: they are not served
}

// Pages is what an installation serves: portal and API, behind their door.
func (p *Parts) Pages(s Serving) (http.Handler, error) {
	v1, err := api.New(api.Config{
		Key: p.Key, Keys: p.PublicKeys, Policies: p.Policies, Service: p.Service, LogErr: p.Sequencer.Err,
		Owners: p.Owners, Search: p.Store.Search, Cookie: owners.Cookie(strconv.Itoa(s.Port)), Refused: p.Service.Refused, Version: s.Version, Now: p.config.Now, Log: p.config.Log,
	})
	if err != nil {
		return nil, err
	}
	site, err := portal.New(portal.Config{
		Service: p.Service, Owners: p.Owners, Store: p.Store, Policies: p.Policies, LogErr: p.Sequencer.Err, Base: s.Base, Now: p.config.Now, Log: p.config.Log,
		Recorded: func() (io.ReadCloser, error) { return audit.OpenLatest(p.config.Home.AuditLog(), maxReplayed) },
	})
	if err != nil {
		return nil, err
	}
	mux := http.NewServeMux()
	mux.Handle("/", site)
	if s.MCP != nil {
		for _, at := range []string{"/mcp", "/mcp/", "/sse", "/sse/"} {
			mux.Handle(at, s.MCP)
		}
	}
	return door.Guard(door.Config{Port: s.Port, ExtraHosts: s.Hosts, Refuse: api.Refuse}, api.Before(v1, mux)), nil
}

// maxReplayed is how much of the log the portal replays, its latest part: about a second.
const maxReplayed = 32 << 20

// PublicKeys are the keys that proofs verify with; none while it is not known
// which of them were revoked.
func (p *Parts) PublicKeys() []proof.PublicKey {
	keys, err := p.Store.Keys(context.Background())
	if err != nil {
		p.config.Log.Error().Err(err).Msg("the public keys cannot be read; no proof verifies")
		return nil
	}
	return keys
}
