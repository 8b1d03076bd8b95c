package portal

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/openleash/openleash-go/action"
	"github.com/openleash/openleash-go/approvals"
	"github.com/openleash/openleash-go/authz"
	"github.com/openleash/openleash-go/identity"
	"github.com/openleash/openleash-go/internal/visible"
)

// How much the inbox shows. More than maxWaiting at once are not a list that a
// person can answer, and take long to make; the count says all.
const (
	maxWaiting = 100
	maxRecent  = 30
)

// item is one request in the inbox.
type item struct {
	approvals.Request
	Status approvals.Status // as of now
	Amount *amount
}

type inboxPage struct {
	page
	Waiting []item
	Recent  []item
	State   string // changes when what waits does: live.js compares it
}

// waiting lists what can still be answered, newest first.
func (p *portal) waiting(r *http.Request, s identity.Session, now time.Time) ([]item, error) {
	pending, err := p.Store.Approvals(r.Context(), s.OwnerID, approvals.Pending, maxWaiting)
	if err != nil {
		return nil, err
	}
	var items []item
	for _, req := range pending {
		if req.At(now) == approvals.Pending {
			items = append(items, newItem(req, now))
		}
	}
	return items, nil
}

func newItem(r approvals.Request, now time.Time) item {
	return item{Request: r, Status: r.At(now), Amount: amountOf(r.Action.Payload)}
}

// state names what waits, each at its version.
func state(waiting []approvals.Waiting) string {
	h := sha256.New()
	for _, w := range waiting {
		fmt.Fprintln(h, w.ID, w.Version)
	}
	return hex.EncodeToString(h.Sum(nil)[:8])
}

func (p *portal) inbox(w http.ResponseWriter, r *http.Request, s identity.Session) error {
	base, err := p.page(r, s, "Inbox", "inbox")
	if err != nil {
		return err
	}
	data := inboxPage{page: base}
	waiting, err := p.Store.Waiting(r.Context(), s.OwnerID, base.Now)
	if err != nil {
		return err
	}
	data.State = state(waiting) // first: what comes meanwhile is seen by the next look
	if data.Waiting, err = p.waiting(r, s, base.Now); err != nil {
		return err
	}
	all, err := p.Store.Approvals(r.Context(), s.OwnerID, "", maxRecent+len(data.Waiting))
	if err != nil {
		return err
	}
	for _, req := range all {
		if it := newItem(req, base.Now); it.Status != approvals.Pending {
			data.Recent = append(data.Recent, it)
		}
	}
	return p.render(w, http.StatusOK, "inbox.html", data)
}

// inboxCount is for live.js.
func (p *portal) inboxCount(w http.ResponseWriter, r *http.Request, s identity.Session) error {
	waiting, err := p.Store.Waiting(r.Context(), s.OwnerID, p.Now())
	if err != nil {
		return err
	}
	w.Header().Set("Content-Type", "application/json")
	return json.NewEncoder(w).Encode(map[string]any{"pending": len(waiting), "state": state(waiting)})
}

// approvalPage shows everything that will run.
type approvalPage struct {
	page
	item
	Title     string // page's; the embedded structs both would else hide it
	Notice    string // what became of an answer that did not count
	Arguments []field
	Says      []field // what the agent says for it
	Mapped    []field // what the policy was asked about beside the arguments
	Party     []field
	Over      []overLimit // the limits that have no room for it
	Limits    []roomRow   // those that it would be charged to, as they are now
	Last      *sinceLast  // what is different from the last of its kind; nil: it is the first
	Versions  versionsPiece
	Tool      toolInfo
	Pin       *pinMark
	Exact     markup       // the whole action, as JSON; empty: it is too long for that
	Look      visible.Look // what is to be looked at closely
	MaxReason int
	// DenialSticks is how long a denial would stand; Refused is until when this one does.
	DenialSticks string
	Refused      time.Time
	Standing     standingPart
	Confirm      confirmPart // what a yes takes
	Log          string      // the log's latest checkpoint
}

// toolInfo is what the server says of its tool: not believed.
type toolInfo struct {
	Name        string
	Description string
	Annotations []field
	Profile     string // ours
	Reads       bool   // ours
	Destroys    bool   // ours
}

// maxReason bounds a denial's reason, in characters.
const maxReason = 500

func (p *portal) approval(w http.ResponseWriter, r *http.Request, s identity.Session) error {
	req, err := p.ownRequest(r, s)
	if err != nil {
		return err
	}
	return p.showApproval(w, r, s, req, http.StatusOK, "")
}

// ownRequest is the request that the path names, if it is this owner's.
func (p *portal) ownRequest(r *http.Request, s identity.Session) (approvals.Request, error) {
	req, err := p.Store.Approval(r.Context(), r.PathValue("id"))
	if err == nil && req.OwnerID != s.OwnerID {
		err = approvals.ErrNotFound
	}
	return req, err
}

func (p *portal) showApproval(w http.ResponseWriter, r *http.Request, s identity.Session, req approvals.Request, status int, notice string) error {
	base, err := p.page(r, s, what(req), "inbox")
	if err != nil {
		return err
	}
	review, err := p.Service.Review(r.Context(), req)
	if err != nil {
		return err
	}
	payload, arguments := req.Action.Payload, req.Action.Payload.Get("arguments")
	data := approvalPage{
		page: base, item: newItem(req, base.Now), Title: base.Title, Notice: notice,
		Arguments: fields(arguments), Mapped: fields(payload, "arguments"), Party: partyFields(req.Action.RelyingParty), Says: fields(req.Says()),
		Over: overLimits(req.Overshoots), Limits: roomRows(review.Limits), Last: newSinceLast(review.Last, req), Versions: newVersionsPiece(req, review, base.Now),
		Tool: describeTool(req), Look: visible.LookAt(req.Foreign()...), MaxReason: maxReason, DenialSticks: span(p.Service.DenialSticks()),
		Log: p.Service.Checkpoint(),
	}
	if until := req.AnsweredAt.Add(p.Service.DenialSticks()); req.Status == approvals.Denied && base.Now.Before(until) {
		data.Refused = until
	}
	if whole := req.Action.Value(); len(whole.Canonical()) <= bareText {
		data.Exact = jsonHTML(whole)
	}
	if data.Pin, err = p.pinMark(r, s, req); err != nil {
		return err
	}
	if data.Standing, err = p.standing(r, req, base.Now); err != nil {
		return err
	}
	if data.Confirm, err = p.confirmPart(r, req); err != nil {
		return err
	}
	if req.Tool == "" { // asked for over /v1: the payload is all there is
		data.Arguments, data.Mapped = fields(payload), nil
	}
	return p.render(w, status, "approval.html", data)
}

// actionFile gives the action to the byte: its SHA-256 is the action hash.
func (p *portal) actionFile(w http.ResponseWriter, r *http.Request, s identity.Session) error {
	req, err := p.ownRequest(r, s)
	if err != nil {
		return err
	}
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Content-Disposition", `attachment; filename="action.json"`)
	w.Write(req.Action.Canonical()) // the browser may be gone
	return nil
}

// what names the thing asked for, for the page's title.
func what(r approvals.Request) string {
	if r.Tool != "" {
		return visible.Line(r.Tool) + " on " + visible.Line(r.Server)
	}
	return visible.Line(r.Action.ActionType)
}

func partyFields(rp action.RelyingParty) []field {
	var fs []field
	for _, f := range []struct{ name, value string }{
		{"domain", rp.Domain}, {"rp_id", rp.RPID}, {"trust_profile", rp.TrustProfile},
	} {
		if f.value != "" {
			fs = append(fs, newField(f.name, action.StringValue(f.value)))
		}
	}
	return fs
}

func describeTool(r approvals.Request) toolInfo {
	info := r.ToolInfo
	return toolInfo{
		Name: r.Tool, Description: info.Get("description").Text(), Annotations: fields(info.Get("annotations")),
		Profile: info.Get("profile").Text(), Reads: info.Get("reads").IsTrue(), Destroys: info.Get("destroys").IsTrue(),
	}
}

func (p *portal) approve(w http.ResponseWriter, r *http.Request, s identity.Session) error {
	return p.answer(w, r, s, true)
}

func (p *portal) deny(w http.ResponseWriter, r *http.Request, s identity.Session) error {
	return p.answer(w, r, s, false)
}

// answer takes the owner's word on exactly the action that the page showed.
func (p *portal) answer(w http.ResponseWriter, r *http.Request, s identity.Session, yes bool) error {
	req, ok, err := p.shownRequest(w, r, s)
	if err != nil || !ok {
		return err
	}
	reason, err := reasonOf(r)
	if err != nil {
		return err
	}
	if yes {
		var c authz.Confirmation
		if c, err = confirmation(r); err == nil {
			_, err = p.Service.Approve(r.Context(), "portal:"+s.Name, req.ID, req.ActionHash, c)
		}
	} else {
		_, err = p.Service.AnswerShown(r.Context(), "portal:"+s.Name, req.ID, req.ActionHash, false, reason)
	}
	lack, lacking := p.lack(err)
	switch {
	case lacking:
		return p.notConfirmed(w, r, s, req, lack)
	case errors.Is(err, approvals.ErrReplaced): // since it was read, a moment ago
		return p.replaced(w, r, s)
	case errors.Is(err, approvals.ErrAnswered), errors.Is(err, approvals.ErrExpired):
		return p.tooLate(w, r, s)
	case err != nil:
		return err
	}
	http.Redirect(w, r, "/approvals/"+req.ID, http.StatusSeeOther)
	return nil
}

// tooLate tells who was first, or that the time is over.
func (p *portal) tooLate(w http.ResponseWriter, r *http.Request, s identity.Session) error {
	req, err := p.ownRequest(r, s)
	if err != nil {
		return err
	}
	notice := "Your answer did not count: this request was already " + statusWord(req.At(p.Now())) + "."
	if req.AnsweredBy != "" {
		word := "approved"
		if req.Status == approvals.Denied {
			word = "denied"
		}
		notice = "Your answer did not count: this request was already " + word + " by " + answerer(req.AnsweredBy) + "."
	}
	return p.showApproval(w, r, s, req, http.StatusConflict, notice)
}

// reasonOf is the reason that a form gives, or none.
func reasonOf(r *http.Request) (string, error) {
	s := strings.TrimSpace(r.PostForm.Get("reason"))
	if !utf8.ValidString(s) || utf8.RuneCountInString(s) > maxReason {
		return "", &pageError{status: http.StatusBadRequest, Title: "That reason is too long",
			Text: fmt.Sprintf("A reason has at most %d characters. Nothing was done; go back and shorten it.", maxReason)}
	}
	return s, nil
}

// answerer reads "portal:alice" to people.
func answerer(by string) string {
	place, name, ok := strings.Cut(by, ":")
	switch {
	case ok && place == "portal":
		return name + ", in the portal"
	case ok && place == "cli":
		return name + ", on the command line"
	default:
		return by
	}
}

// statusWord is a status in a sentence: "was …".
func statusWord(s approvals.Status) string {
	switch s {
	case approvals.Pending:
		return "waiting"
	case approvals.Redeemed:
		return "approved and used"
	default:
		return strings.ToLower(string(s))
	}
}
