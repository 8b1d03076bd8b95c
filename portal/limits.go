package portal

import (
	"cmp"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/openleash/openleash-go/approvals"
	"github.com/openleash/openleash-go/authz"
	"github.com/openleash/openleash-go/identity"
	"github.com/openleash/openleash-go/internal/currency"
	"github.com/openleash/openleash-go/internal/visible"
	"github.com/openleash/openleash-go/policy"
)

// overLimit is one limit that a request is over, in words.
type overLimit struct {
	Limit  string
	Key    string
	Window string
	For    string // whom it counts apart; empty: all together
	Max    string
	Taken  string // used and held
	This   string
	Beyond string
	Doubt  string // why it cannot be counted; then there are no numbers
}

func overLimits(list []approvals.Overshoot) (rows []overLimit) {
	for _, o := range list {
		row := overLimit{Limit: o.Limit, Key: o.Key, Window: windowWords(o.Window), For: cmp.Or(o.For, policy.KeyWords(o.Key)), Doubt: o.Doubt}
		if o.Doubt == "" {
			row.Max, row.Taken = quantity(o.Max, o.Currency), quantity(o.Used+o.Held, o.Currency)
			row.This, row.Beyond = quantity(o.Amount, o.Currency), quantity(o.Beyond(), o.Currency)
		}
		rows = append(rows, row)
	}
	return rows
}

// windowWords is a window after an amount: "in 24h", "a day".
func windowWords(window string) string {
	if strings.ContainsAny(window, "0123456789") {
		return "in " + window
	}
	return "a " + window
}

// quantity is money as people write it, or a plain number.
func quantity(n int64, code string) string {
	places, known := currency.MinorDigits(code)
	switch {
	case code == "":
		return point(strconv.FormatInt(n, 10), 0)
	case !known:
		return currency.Text(n, code)
	}
	return code + "\u00a0" + point(strconv.FormatInt(n, 10), places)
}

// How much of limits one page shows.
const (
	maxKeys    = 100
	maxCharges = 50
)

type limitsPage struct {
	page
	Limits []limitCard
}

// limitCard is one limit, with those whom it counts apart.
type limitCard struct {
	ID    string
	Bound string // "EUR 50.00 in 24h"; empty: it stands in no policy
	Each  string // whom it counts apart: "each agent and vendor"; empty: all together
	Keys  []limitState
	More  string // the address of the keys that come after; empty: there are none
}

// limitState is how full a limit is for one key.
type limitState struct {
	For      string // empty: all together
	Href     string // where its charges are
	Used     string
	Held     string
	Left     string // empty: of a limit in no policy, nobody knows
	Next     time.Time
	UsedPart int64 // of 100
	HeldPart int64
}

// book is what is in force, or nil.
func (p *portal) book() *policy.Book {
	if p.Policies == nil {
		return nil
	}
	return p.Policies.Current()
}

func (p *portal) limits(w http.ResponseWriter, r *http.Request, s identity.Session) error {
	base, err := p.page(r, s, "Limits", "limits")
	if err != nil {
		return err
	}
	data := limitsPage{page: base}
	list, err := p.lookAtLimits(r, base.Now)
	if err != nil {
		return err
	}
	for _, v := range list {
		data.Limits = append(data.Limits, newLimitCard(v))
	}
	return p.render(w, http.StatusOK, "limits.html", data)
}

// lookAtLimits reads all limits, or the further keys of the one that the address names.
func (p *portal) lookAtLimits(r *http.Request, now time.Time) ([]authz.LimitView, error) {
	q := r.URL.Query()
	if q.Get("limit") == "" {
		return authz.LookAtLimits(r.Context(), p.Store, p.book(), now, maxKeys)
	}
	v, err := authz.LookAtLimit(r.Context(), p.Store, p.book(), now, authz.Look{Limit: q.Get("limit"), After: q.Get("after"), Keys: maxKeys})
	return []authz.LimitView{v}, err
}

func newLimitCard(v authz.LimitView) limitCard {
	c := limitCard{ID: v.ID}
	if v.Limit != nil {
		c.Bound = quantity(v.Limit.Max, v.Limit.Currency) + " " + windowWords(v.Limit.Window())
		if per := v.Limit.Per(); len(per) > 0 {
			c.Each = "each " + strings.Join(per, " and ")
		}
	}
	for _, k := range v.Keys {
		c.Keys = append(c.Keys, newLimitState(v, k))
	}
	if v.More != "" {
		c.More = "/limits?" + url.Values{"limit": {v.ID}, "after": {v.More}}.Encode()
	}
	return c
}

func newLimitState(v authz.LimitView, k authz.KeyState) limitState {
	code := ""
	if v.Limit != nil {
		code = v.Limit.Currency
	}
	s := limitState{For: v.Whose(k.Key), Href: chargesAddress(v.ID, k.Key), Used: quantity(k.Used, code), Held: quantity(k.Held, code)}
	if k.Next > 0 {
		s.Next = time.UnixMilli(k.Next)
	}
	if v.Limit == nil {
		return s
	}
	s.Left = quantity(v.Left(k), code)
	// What people have approved may be more than the limit: then the bar is full.
	whole := max(v.Limit.Max, k.Used+k.Held, 1)
	s.UsedPart = part(k.Used, whole)
	s.HeldPart = part(k.Used+k.Held, whole) - s.UsedPart
	return s
}

// part is n of whole, in hundredths.
func part(n, whole int64) int64 { return int64(100 * float64(n) / float64(whole)) }

func chargesAddress(limit, key string) string {
	return "/limits/charges?" + url.Values{"limit": {limit}, "key": {key}}.Encode()
}

// chargesPage is what was charged to a limit for one key.
type chargesPage struct {
	page
	limitCard
	State     limitState
	Key       string
	Charges   []charge
	Older     string // the address of the older ones; empty: there are none
	Notice    string // what became of a release
	MaxReason int
}

type charge struct {
	authz.Charged
	Time   time.Time
	Amount string
	Until  time.Time // zero: it is not known
}

func (p *portal) limitCharges(w http.ResponseWriter, r *http.Request, s identity.Session) error {
	q := r.URL.Query()
	notice, err := p.wasReleased(r, q.Get("limit"), q.Get("released"))
	if err != nil {
		return err
	}
	return p.showCharges(w, r, s, q.Get("limit"), q.Get("key"), http.StatusOK, notice)
}

func (p *portal) showCharges(w http.ResponseWriter, r *http.Request, s identity.Session, limit, key string, status int, notice string) error {
	base, err := p.page(r, s, "Limit "+visible.Line(limit), "limits")
	if err != nil {
		return err
	}
	if key == "" {
		key = "[]"
	}
	v, err := authz.LookAtLimit(r.Context(), p.Store, p.book(), base.Now, authz.Look{Limit: limit, Key: key, Keys: 1})
	if err != nil {
		return err
	}
	list, err := p.Store.LimitCharges(r.Context(), limit, key, placeOf(r.URL.Query().Get("before")), maxCharges+1)
	if err != nil {
		return err
	}
	data := chargesPage{page: base, limitCard: newLimitCard(v), Key: key, Notice: notice, MaxReason: maxReason}
	data.State = data.Keys[0]
	if len(list) > maxCharges {
		list = list[:maxCharges]
		last := list[maxCharges-1].ChargePlace
		data.Older = chargesAddress(limit, key) + fmt.Sprintf("&before=%d.%d", last.At, last.N)
	}
	for _, c := range list {
		data.Charges = append(data.Charges, newCharge(v, c))
	}
	return p.render(w, status, "charges.html", data)
}

// placeOf reads the place of an address; what is none is the beginning.
func placeOf(text string) (place authz.ChargePlace) {
	at, n, _ := strings.Cut(text, ".")
	var err error
	if place.At, err = strconv.ParseInt(at, 10, 64); err != nil {
		return authz.ChargePlace{}
	}
	place.N, _ = strconv.ParseInt(n, 10, 64)
	return place
}

func newCharge(v authz.LimitView, c authz.Charged) charge {
	shown := charge{Charged: c, Time: time.UnixMilli(c.At), Amount: v.Text(c.Amount)}
	if v.Limit != nil {
		shown.Amount = quantity(c.Amount, v.Limit.Currency)
	}
	if until := v.Until(c); until > 0 {
		shown.Until = time.UnixMilli(until)
	}
	return shown
}

// wasReleased says what became of a decision's charge to a limit, by what is stored.
func (p *portal) wasReleased(r *http.Request, limit, decision string) (notice string, err error) {
	if decision == "" {
		return "", nil
	}
	list, err := p.Store.DecisionCharges(r.Context(), decision)
	for _, c := range list {
		if c.Limit == limit && c.ReleasedAt > 0 {
			notice = "Decision " + visible.Line(decision) + " was released from it by " + visible.Line(answerer(c.ReleasedBy)) + "."
		}
	}
	return notice, err
}

// releaseCharge gives back what a decision was charged to one limit.
func (p *portal) releaseCharge(w http.ResponseWriter, r *http.Request, s identity.Session) error {
	if err := parseForm(r); err != nil {
		return err
	}
	reason, err := reasonOf(r)
	if err != nil {
		return err
	}
	if reason == "" {
		return &pageError{status: http.StatusBadRequest, Title: "A reason is needed", Text: "The log keeps why something was given back. Nothing was done; go back and say why."}
	}
	limit, key, decision := r.PostForm.Get("limit"), r.PostForm.Get("key"), r.PostForm.Get("decision")
	if limit == "" {
		return authz.ErrNoLimit
	}
	_, err = p.Service.Release(r.Context(), "portal:"+s.Name, decision, []string{limit}, reason)
	switch {
	case errors.Is(err, authz.ErrReleased):
		notice, err := p.wasReleased(r, limit, decision)
		if err != nil {
			return err
		}
		return p.showCharges(w, r, s, limit, key, http.StatusConflict, "Nothing was done. "+notice)
	case err != nil:
		return err
	}
	http.Redirect(w, r, chargesAddress(limit, key)+"&released="+url.QueryEscape(decision), http.StatusSeeOther)
	return nil
}
