package portal

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"time"

	"github.com/openleash/openleash-go/action"
	"github.com/openleash/openleash-go/draft"
	"github.com/openleash/openleash-go/identity"
	"github.com/openleash/openleash-go/internal/diff"
	"github.com/openleash/openleash-go/internal/visible"
	"github.com/openleash/openleash-go/policy"
	"github.com/openleash/openleash-go/replay"
)

// maxListed is how many drafts are listed, the newest.
const maxListed = 200

type draftsPage struct {
	page
	Waiting  []draft.Proposal
	Answered []draft.Proposal
}

func (p *portal) drafts(w http.ResponseWriter, r *http.Request, s identity.Session) error {
	base, err := p.page(r, s, "Drafts", "drafts")
	if err != nil {
		return err
	}
	data := draftsPage{page: base}
	if data.Waiting, err = p.Store.PolicyDrafts(r.Context(), s.OwnerID, draft.Pending, maxListed); err != nil {
		return err
	}
	all, err := p.Store.PolicyDrafts(r.Context(), s.OwnerID, "", maxListed)
	if err != nil {
		return err
	}
	for _, one := range all {
		if one.Status != draft.Pending {
			data.Answered = append(data.Answered, one)
		}
	}
	return p.render(w, http.StatusOK, "drafts.html", data)
}

// draftPage shows what an agent proposes, and all that there is to know of it.
type draftPage struct {
	page
	Draft     draft.Proposal
	Notice    string  // what became of an answer that did not count
	Says      []field // by the agent
	Look      visible.Look
	Policy    markup // of one that was answered, or cannot be approved here: its text
	InForce   bool   // of one that was approved
	Review    draft.Review
	Diff      []markup
	Set       string // the hash of the policies in force; empty: there are none
	Replay    *replay.Report
	Unplayed  string // why there is no replay
	MaxReason int
}

func (p *portal) draft(w http.ResponseWriter, r *http.Request, s identity.Session) error {
	d, err := p.ownDraft(r, s)
	if err != nil {
		return err
	}
	return p.showDraft(w, r, s, d, http.StatusOK, "")
}

// ownDraft is the draft that the path names, if it is of this owner's agents.
func (p *portal) ownDraft(r *http.Request, s identity.Session) (draft.Proposal, error) {
	d, err := p.Store.PolicyDraft(r.Context(), r.PathValue("id"))
	if err == nil && d.OwnerID != s.OwnerID {
		err = draft.ErrNotFound
	}
	return d, err
}

func (p *portal) showDraft(w http.ResponseWriter, r *http.Request, s identity.Session, d draft.Proposal, status int, notice string) error {
	base, err := p.page(r, s, "A policy for "+d.For(), "drafts")
	if err != nil {
		return err
	}
	says := saysOf(d)
	data := draftPage{
		page: base, Draft: d, Notice: notice, Says: fields(says), Look: visible.LookAt(says, action.StringValue(d.Policy)), MaxReason: maxReason,
	}
	if d.Status != draft.Pending || !p.isOurs(s) { // the policies in force are the installation's owner's
		data.Policy, data.InForce = exactHTML(d.Policy), d.PolicyID != "" && p.inForce(d.PolicyID) != nil
		return p.render(w, status, "draft.html", data)
	}
	book := p.book()
	data.Review = d.Review(book)
	for _, piece := range diff.Fold(data.Review.Changes, 3) {
		data.Diff = append(data.Diff, lineHTML(piece))
	}
	if data.Review.With != nil {
		data.Set = book.Hash
		data.Replay, data.Unplayed = p.replayed(r.Context(), book, data.Review.With)
	}
	return p.render(w, status, "draft.html", data)
}

// saysOf is what the agent says, as an object.
func saysOf(d draft.Proposal) action.Value {
	var members []action.Member
	for _, m := range [][2]string{{"name", d.Name}, {"description", d.Description}, {"justification", d.Justification}} {
		if m[1] != "" {
			members = append(members, action.Member{Key: m[0], Value: action.StringValue(m[1])})
		}
	}
	return action.ObjectValue(members...)
}

// exactHTML shows a text as it was written; a very long one as textHTML does.
func exactHTML(s string) markup {
	if len(s) > bareText {
		return textHTML(s)
	}
	return blockHTML(s)
}

// lineHTML shows lines that stayed, went or came.
func lineHTML(p diff.Piece) markup {
	text := exactHTML(p.Marked())
	switch p.Op {
	case diff.Delete:
		return "<del>" + text + "</del>"
	case diff.Insert:
		return "<ins>" + text + "</ins>"
	case diff.Skip:
		return `<span class="aside">` + text + "</span>"
	}
	return text
}

// longestReplay is how long a page waits for its replay.
const longestReplay = 10 * time.Second

// replayed decides what is recorded with a draft among the policies and without it; or
// says why it does not. One is made at a time.
func (p *portal) replayed(ctx context.Context, book, with *policy.Book) (*replay.Report, string) {
	if p.Recorded == nil {
		return nil, "there is no record here"
	}
	ctx, cancel := context.WithTimeout(ctx, longestReplay)
	defer cancel()
	select {
	case p.replaying <- struct{}{}:
		defer func() { <-p.replaying }()
	case <-ctx.Done():
		return nil, "another one takes long; look again"
	}
	log, err := p.Recorded()
	if err != nil {
		p.Log.Error().Err(err).Msg("portal: opening the log for a replay")
		return nil, "the log cannot be read; what OpenLeash logs says why"
	}
	defer log.Close()
	report, err := replay.Run(untilDone{ctx, log}, with, replay.Options{Examples: 3, With: book})
	switch {
	case ctx.Err() != nil:
		return nil, fmt.Sprintf("it takes longer than %s", longestReplay)
	case err != nil:
		p.Log.Error().Err(err).Msg("portal: replaying the log")
		return nil, "the log cannot be read; what OpenLeash logs says why"
	}
	return &report, ""
}

// untilDone reads until its context is done.
type untilDone struct {
	ctx context.Context
	io.Reader
}

func (r untilDone) Read(b []byte) (int, error) {
	if err := r.ctx.Err(); err != nil {
		return 0, err
	}
	return r.Reader.Read(b)
}

// answerDraft takes the owner's word on exactly the text that the page showed, and, of an
// approval, beside exactly the policies that it was compared with.
func (p *portal) answerDraft(answer func(r *http.Request, s identity.Session, d draft.Proposal, shown action.Hash) error) func(http.ResponseWriter, *http.Request, identity.Session) error {
	return func(w http.ResponseWriter, r *http.Request, s identity.Session) error {
		d, err := p.ownDraft(r, s)
		if err == nil {
			err = parseForm(r)
		}
		if err != nil {
			return err
		}
		shown, err := action.ParseHash(r.PostForm.Get("policy_hash"))
		if err != nil {
			return &pageError{status: http.StatusBadRequest, Title: "The form is not whole", Text: "It does not say which policy was shown. Nothing was done.", Retry: "/drafts/" + d.ID}
		}
		err = answer(r, s, d, shown)
		var refused notDone
		if errors.As(err, &refused) {
			if d, err = p.ownDraft(r, s); err != nil {
				return err
			}
			return p.showDraft(w, r, s, d, http.StatusConflict, string(refused))
		}
		if err != nil {
			return err
		}
		http.Redirect(w, r, "/drafts/"+d.ID, http.StatusSeeOther)
		return nil
	}
}

// notDone is why an answer did not count, or not all of it was done, in sentences for the
// page.
type notDone string

func (n notDone) Error() string { return string(n) }

func nothingDone(err error) error { return notDone("Nothing was done: " + err.Error() + ".") }

// denyDraft records that the owner does not want it.
func (p *portal) denyDraft(r *http.Request, s identity.Session, d draft.Proposal, shown action.Hash) error {
	reason, err := reasonOf(r)
	if err != nil {
		return err
	}
	return didNotCount(p.Service.DenyDraft(r.Context(), "portal:"+s.Name, s.OwnerID, d, shown, reason))
}

// approveDraft records the approval, puts the policy in force, and waits until it is.
func (p *portal) approveDraft(r *http.Request, s identity.Session, d draft.Proposal, shown action.Hash) error {
	if p.Policies == nil {
		return notDone("Nothing was done: no policies folder is known here.")
	}
	if _, err := d.Approvable(p.Policies, r.PostForm.Get("set")); err != nil {
		return nothingDone(err)
	}
	made, err := d.Prepare(p.Policies.Dir())
	if err != nil {
		return nothingDone(err)
	}
	defer made.Drop()
	if err := didNotCount(p.Service.ApproveDraft(r.Context(), "portal:"+s.Name, s.OwnerID, d, shown)); err != nil {
		return err
	}
	if err := made.Put(); err != nil {
		return notDone(err.Error())
	}
	if !p.awaited(r.Context(), d.Place()) {
		return notDone("The file was written, and is not in force yet; the page of the policies says why.")
	}
	return nil
}

// didNotCount tells on the page why an answer did not count.
func didNotCount(err error) error {
	if errors.Is(err, draft.ErrAnswered) || errors.Is(err, draft.ErrOtherText) {
		return notDone("Your answer did not count: " + err.Error() + ".")
	}
	return err
}
