package portal

import (
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"net/http"
	"slices"

	"github.com/openleash/openleash-go/identity"
)

// agentsPage lists who acts for the owner, those first who wait to be let in.
type agentsPage struct {
	page
	Waiting []agentCard
	Agents  []agentCard
	Revoked []agentCard
	Invite  string // the link that was made just now, shown this once
	Notice  string
}

type agentCard struct {
	identity.Agent
	Token  bool
	KeySum string // SHA-256 of its key; empty: it has none
}

// maxShownAgents bounds each list.
const maxShownAgents = 500

func newAgentCard(a identity.Agent) agentCard {
	c := agentCard{Agent: a, Token: a.TokenHash != [32]byte{}}
	if a.Key != nil {
		sum := sha256.Sum256(a.Key)
		c.KeySum = "SHA256:" + base64.RawStdEncoding.EncodeToString(sum[:])
	}
	return c
}

func (p *portal) agents(w http.ResponseWriter, r *http.Request, s identity.Session) error {
	return p.showAgents(w, r, s, http.StatusOK, agentsPage{})
}

func (p *portal) showAgents(w http.ResponseWriter, r *http.Request, s identity.Session, status int, data agentsPage) (err error) {
	if data.page, err = p.page(r, s, "Agents", "agents"); err != nil {
		return err
	}
	all, err := p.Service.Agents().Agents(r.Context(), s.OwnerID)
	if err != nil {
		return err
	}
	for _, a := range all {
		list := &data.Agents
		switch a.Status {
		case identity.Pending:
			list = &data.Waiting
		case identity.Revoked:
			list = &data.Revoked
		}
		if len(*list) < maxShownAgents {
			*list = append(*list, newAgentCard(a))
		}
	}
	slices.SortStableFunc(data.Revoked, func(a, b agentCard) int { return b.RevokedAt.Compare(a.RevokedAt) })
	return p.render(w, status, "agents.html", data)
}

// inviteAgent makes an invite and shows its link: it is nowhere else.
func (p *portal) inviteAgent(w http.ResponseWriter, r *http.Request, s identity.Session) error {
	if err := parseForm(r); err != nil {
		return err
	}
	name := r.PostForm.Get("name")
	if name != "" && !identity.ValidName(name) {
		return p.showAgents(w, r, s, http.StatusBadRequest, agentsPage{Notice: "A name has letters, digits, dots, dashes and underscores, 64 at the most, and begins with a letter or digit."})
	}
	owner, err := p.Service.Agents().OwnerByID(r.Context(), s.OwnerID)
	if err != nil {
		return err
	}
	i, token, err := p.Service.Invite(r.Context(), "portal:"+s.Name, owner, name)
	if err != nil {
		return err
	}
	link := p.Base + "/v1/agents/register-with-invite?invite_id=" + i.ID + "&invite_token=" + token
	return p.showAgents(w, r, s, http.StatusOK, agentsPage{Invite: link})
}

func (p *portal) confirmAgent(w http.ResponseWriter, r *http.Request, s identity.Session) error {
	return p.changeAgent(w, r, s, func(a identity.Agent) error { return p.Service.ConfirmAgent(r.Context(), "portal:"+s.Name, a) })
}

func (p *portal) revokeAgent(w http.ResponseWriter, r *http.Request, s identity.Session) error {
	return p.changeAgent(w, r, s, func(a identity.Agent) error { return p.Service.RevokeAgent(r.Context(), "portal:"+s.Name, a) })
}

// changeAgent does something to an agent of this owner's.
func (p *portal) changeAgent(w http.ResponseWriter, r *http.Request, s identity.Session, do func(identity.Agent) error) error {
	a, err := p.Service.Agents().Agent(r.Context(), r.PathValue("id"))
	if err == nil && a.OwnerID != s.OwnerID {
		err = identity.ErrNotFound
	}
	if err == nil {
		err = do(a)
	}
	switch {
	case errors.Is(err, identity.ErrNotFound):
		return p.showAgents(w, r, s, http.StatusNotFound, agentsPage{Notice: "There is no such agent."})
	case errors.Is(err, identity.ErrRevoked):
		return p.showAgents(w, r, s, http.StatusConflict, agentsPage{Notice: "The agent is revoked: that cannot be undone."})
	case err != nil:
		return err
	}
	http.Redirect(w, r, "/agents", http.StatusSeeOther)
	return nil
}
