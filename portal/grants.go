package portal

import (
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/openleash/openleash-go/action"
	"github.com/openleash/openleash-go/approvals"
	"github.com/openleash/openleash-go/identity"
	"github.com/openleash/openleash-go/internal/visible"
)

// standingPart is what an approval page has of standing grants.
type standingPart struct {
	Form    *boundsForm      // of a request that can be answered; else nil
	Grant   *approvals.Grant // that was given on it, or by which it ran
	Status  string           // the grant's
	Lengths []choice
}

// boundsForm is where an owner says what may differ.
type boundsForm struct {
	Fields []boundField
	More   int // places that have no field: a page shows so many
}

// boundField is one place that can be bounded, and what was said of it.
type boundField struct {
	N     int
	Path  string
	Kind  string
	Now   markup // what stands there
	Ops   []choice
	Value string
}

// choice is one of several to choose from.
type choice struct {
	Value, Text string
	Chosen      bool
}

const (
	maxBounded = 40
	maxPrefill = 200 // characters; forms are small
)

var (
	grantLengths = []choice{{"1h", "an hour", false}, {"8h", "8 hours", true}, {"24h", "a day", false}, {"168h", "7 days", false}, {"720h", "30 days", false}}
	ruleLengths  = []choice{{"24h", "a day", false}, {"168h", "7 days", false}, {"720h", "30 days", true}, {"2160h", "90 days", false}, {"8760h", "a year", false}}
)

func chosen(list []choice, value string) []choice {
	marked := make([]choice, len(list))
	for i, c := range list {
		c.Chosen = c.Chosen && value == "" || c.Value == value
		marked[i] = c
	}
	return marked
}

// newBoundsForm makes the fields for a call, as r has them filled in.
func newBoundsForm(payload action.Value, r *http.Request) *boundsForm {
	form := &boundsForm{}
	places := approvals.Places(payload)
	for i, place := range places[:min(len(places), maxBounded)] {
		form.Fields = append(form.Fields, newBoundField(i, place, r))
	}
	form.More = len(places) - len(form.Fields)
	return form
}

func newBoundField(i int, place approvals.Place, r *http.Request) boundField {
	f := boundField{N: i, Path: place.Path, Kind: kindWord(place.Value.Kind()), Now: shortHTML(place.Value)}
	f.Ops = []choice{{"", "as it is", true}, {"one_of", "one of, a line each", false}, {"any", anyWord(place.Value), false}}
	if place.Value.Kind() == action.Number {
		f.Ops = append(f.Ops, choice{"at_most", "at most", false}, choice{"at_least", "at least", false})
	}
	f.Ops = chosen(f.Ops, r.PostForm.Get(opField(i)))
	f.Value = r.PostForm.Get(valueField(i))
	if !r.PostForm.Has(valueField(i)) {
		// A field shows what is in it as it is: nothing that hides goes there.
		if text := textOf(place.Value); utf8.RuneCountInString(text) <= maxPrefill && visible.Line(text) == text {
			f.Value = text
		}
	}
	return f
}

// shortHTML is the beginning of a value; the whole stands on the approval page.
func shortHTML(v action.Value) markup {
	text := textOf(v)
	if utf8.RuneCountInString(text) > maxPrefill {
		return inlineHTML(string([]rune(text)[:maxPrefill])) + "…"
	}
	return inlineHTML(text)
}

func anyWord(v action.Value) string {
	if v.Kind() == action.String {
		return "any text up to twice as long, or 100 characters"
	}
	return "any " + kindWord(v.Kind())
}

func textOf(v action.Value) string {
	if v.Kind() == action.String {
		return v.Text()
	}
	return string(v.Canonical())
}

func opField(i int) string    { return "op." + strconv.Itoa(i) }
func valueField(i int) string { return "value." + strconv.Itoa(i) }

// boundsOf reads what a form says of a call. It went by the hash of that call, so the
// places are those of the page.
func boundsOf(r *http.Request, payload action.Value) (list []approvals.Bound, err error) {
	for i, place := range approvals.Places(payload) {
		op := approvals.Op(r.PostForm.Get(opField(i)))
		if op == "" || i >= maxBounded {
			continue
		}
		b := approvals.Bound{Path: place.Path, Op: op}
		if op != approvals.Any {
			if b.Values, err = valuesOf(r.PostForm.Get(valueField(i)), place.Value.Kind()); err != nil {
				return nil, fmt.Errorf("%s: %w", place.Path, err)
			}
		}
		list = append(list, b)
	}
	return list, nil
}

// valuesOf reads one value a line, of the kind that stands there.
func valuesOf(text string, kind action.Kind) (list []action.Value, err error) {
	for line := range strings.SplitSeq(strings.ReplaceAll(text, "\r\n", "\n"), "\n") {
		if line == "" {
			continue
		}
		v := action.StringValue(line)
		if kind != action.String {
			if v, err = action.Parse([]byte(strings.TrimSpace(line)), action.Limits{}); err != nil || v.Kind() != kind {
				return nil, fmt.Errorf("want %s, got %s", kind, visible.Line(strconv.Quote(line)))
			}
		}
		list = append(list, v)
	}
	return list, nil
}

// standing is what the page of a request has of standing grants.
func (p *portal) standing(r *http.Request, req approvals.Request, now time.Time) (part standingPart, err error) {
	if req.At(now) == approvals.Pending {
		part.Form, part.Lengths = newBoundsForm(req.Action.Payload, r), chosen(grantLengths, r.PostForm.Get("length"))
		return part, nil
	}
	var g approvals.Grant
	if req.GrantID != "" {
		g, err = p.Store.Grant(r.Context(), req.GrantID)
	} else {
		g, err = p.Store.RequestGrant(r.Context(), req.ID)
	}
	switch {
	case errors.Is(err, approvals.ErrNotFound):
		return part, nil
	case err != nil:
		return part, err
	}
	part.Grant, part.Status = &g, g.Status(now)
	return part, nil
}

// shownRequest is the request of a form, if the form shows what it asks for. The answer
// is given when ok is false.
func (p *portal) shownRequest(w http.ResponseWriter, r *http.Request, s identity.Session) (req approvals.Request, ok bool, err error) {
	if err := parseForm(r); err != nil {
		return req, false, err
	}
	if req, err = p.ownRequest(r, s); err != nil {
		return req, false, err
	}
	shown, err := action.ParseHash(r.PostForm.Get("action_hash"))
	if err != nil || shown != req.ActionHash {
		return req, false, p.showApproval(w, r, s, req, http.StatusConflict, anotherAction)
	}
	return req, true, nil
}

// give approves, and gives a standing grant on exactly the action that the page showed.
func (p *portal) give(w http.ResponseWriter, r *http.Request, s identity.Session) error {
	req, ok, err := p.shownRequest(w, r, s)
	if err != nil || !ok {
		return err
	}
	terms, err := termsOf(r, req)
	if err == nil {
		_, err = req.Standing("", terms, "", p.Now())
	}
	if err != nil {
		return p.showApproval(w, r, s, req, http.StatusBadRequest, "Nothing was answered: "+visible.Line(err.Error())+".")
	}
	_, err = p.Service.Give(r.Context(), "portal:"+s.Name, req.ID, req.ActionHash, terms)
	switch {
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

func termsOf(r *http.Request, req approvals.Request) (t approvals.Terms, err error) {
	if text := strings.TrimSpace(r.PostForm.Get("times")); text != "" {
		if t.Uses, err = strconv.Atoi(text); err != nil || t.Uses < 2 {
			return t, fmt.Errorf("how often: want a number from 2 to %d, or nothing", approvals.MaxGrantUses)
		}
	}
	if t.For, err = time.ParseDuration(r.PostForm.Get("length")); err != nil || t.For <= 0 {
		return t, errors.New("say how long it is good")
	}
	switch r.PostForm.Get("covers") {
	case "exactly":
	case "bounds":
		if t.Bounds, err = boundsOf(r, req.Action.Payload); err == nil && len(t.Bounds) == 0 {
			err = errors.New("within bounds was chosen, and nothing was bounded")
		}
	default:
		err = errors.New("say what the grant covers")
	}
	return t, err
}

// withdrawApproval takes back an approval that nobody has used.
func (p *portal) withdrawApproval(w http.ResponseWriter, r *http.Request, s identity.Session) error {
	req, ok, err := p.shownRequest(w, r, s)
	if err != nil || !ok {
		return err
	}
	_, err = p.Service.WithdrawApproval(r.Context(), "portal:"+s.Name, req.ID, "")
	switch {
	case errors.Is(err, approvals.ErrSpent), errors.Is(err, approvals.ErrExpired), errors.Is(err, approvals.ErrAnswered):
		return p.tooLate(w, r, s)
	case err != nil:
		return err
	}
	http.Redirect(w, r, "/approvals/"+req.ID, http.StatusSeeOther)
	return nil
}

type grantsPage struct {
	page
	Live   []grantItem
	Past   []grantItem
	Notice string
}

type grantItem struct {
	approvals.Grant
	Status string
	Left   string
}

const maxGrants = 500

func (p *portal) grants(w http.ResponseWriter, r *http.Request, s identity.Session) error {
	return p.showGrants(w, r, s, http.StatusOK, "")
}

func (p *portal) showGrants(w http.ResponseWriter, r *http.Request, s identity.Session, status int, notice string) error {
	base, err := p.page(r, s, "Grants", "grants")
	if err != nil {
		return err
	}
	list, err := p.Store.Grants(r.Context(), s.OwnerID, maxGrants)
	if err != nil {
		return err
	}
	data := grantsPage{page: base, Notice: notice}
	for _, g := range list {
		item := grantItem{Grant: g, Status: g.Status(base.Now), Left: "as often as there is time for, " + strconv.Itoa(g.Used) + " so far"}
		if left, counted := g.Left(); counted {
			item.Left = fmt.Sprintf("%d of %d left", left, g.Uses)
		}
		if g.Live(base.Now) == nil {
			data.Live = append(data.Live, item)
		} else if len(data.Past) < maxRecent {
			data.Past = append(data.Past, item)
		}
	}
	return p.render(w, status, "grants.html", data)
}

func (p *portal) withdrawGrant(w http.ResponseWriter, r *http.Request, s identity.Session) error {
	if err := parseForm(r); err != nil {
		return err
	}
	g, err := p.Store.Grant(r.Context(), r.PathValue("id"))
	if err == nil && g.Request.OwnerID != s.OwnerID {
		err = approvals.ErrNotFound
	}
	if err == nil {
		_, err = p.Service.WithdrawGrant(r.Context(), "portal:"+s.Name, g.ID, "")
	}
	switch {
	case errors.Is(err, approvals.ErrNotFound):
		return &pageError{status: http.StatusNotFound, Title: "No such grant", Text: "There is no grant at this address.", Retry: "/grants"}
	case errors.Is(err, approvals.ErrWithdrawn), errors.Is(err, approvals.ErrExpired), errors.Is(err, approvals.ErrSpent):
		return p.showGrants(w, r, s, http.StatusConflict, "Nothing was done: "+err.Error()+".")
	case err != nil:
		return err
	}
	http.Redirect(w, r, "/grants", http.StatusSeeOther)
	return nil
}
