package policy

import (
	"fmt"
	"strings"
	"time"

	"golang.org/x/text/cases"
	"golang.org/x/text/unicode/norm"

	"github.com/openleash/openleash-go/action"
	"github.com/openleash/openleash-go/internal/strictyaml"
)

// A Limit bounds what is allowed in a stretch of time. Nothing is counted here: a
// decision names the charges that its action makes, and who commits it counts them
// (authz). What was charged is kept under the ID, so a limit that is changed keeps
// its history.
type Limit struct {
	ID       string // "shop/daily": the policy, and the limit's name in it
	Max      int64
	Currency string // empty: of a count, or of a sum that is no money
	Counts   bool   // calls, not a sum
	// Over is what an action gets that does not fit: Deny, RequireApproval or
	// RequireStepUp.
	Over          Outcome
	Refunds       bool // an error that the server answers gives back what was charged
	ReserveOnHold bool // what waits for its owner is set aside
	Minimal       bool // who is refused does not learn by how much

	name    string
	place   strictyaml.Error // of the id, without a message
	pattern pattern          // which actions; of a limit of a rule: all
	sum     action.Path
	per     []keyPart
	window  window
}

// A Charge is what an action takes from one limit when it runs.
type Charge struct {
	Limit  *Limit
	Key    string // for whom the limit counts: ["bot","shop.example"], [] for all together
	Amount int64  // minor units, or 1
	Doubt  string // why it cannot be counted: then it is over the limit, and takes nothing
}

var currencyAt = mustPath(currencyPath)

// maxAmount is the largest amount that is counted: what every reader of JSON holds
// exactly. No sum of such that is within a limit overflows.
const maxAmount = 1<<53 - 1

// maxWindow is the longest window: what is older than that no limit needs.
const maxWindow = 31 * 24 * time.Hour

// A window is a stretch of time that ends now, or the part of the calendar that it
// is now.
type window struct {
	length time.Duration // zero: of the calendar
	unit   string        // day, week or month
	zone   *time.Location
}

// Window is how the limit's window was written: "24h", "day".
func (l *Limit) Window() string { return l.window.String() }

func (w window) String() string {
	switch {
	case w.length == 0:
		return w.unit
	case w.length%time.Hour == 0:
		return fmt.Sprintf("%dh", w.length/time.Hour)
	}
	return fmt.Sprintf("%dm", w.length/time.Minute)
}

// Trailing is the length of a window that ends now; 0 for one of the calendar.
func (l *Limit) Trailing() time.Duration { return l.window.length }

// Span is what the window covers at a time, in whole milliseconds: from included,
// to not. The end of a trailing window is open: of two calls that are decided on
// at once, the one whose time is earlier may be counted later. So whatever the order
// in which charges are made, no more than Max is charged within the length of the
// window.
func (l *Limit) Span(now time.Time) (from, to time.Time) {
	if w := l.window; w.length == 0 {
		return w.period(now)
	}
	return now.Truncate(time.Millisecond).Add(time.Millisecond - l.window.length), time.Time{}
}

// period is the day, week (from Monday) or month of the place that it is now.
func (w window) period(now time.Time) (from, to time.Time) {
	at := now.In(w.zone)
	y, m, d := at.Date()
	switch w.unit {
	case "month":
		return midnight(y, m, 1, w.zone), midnight(y, m+1, 1, w.zone)
	case "week":
		d -= int(at.Weekday()+6) % 7
		return midnight(y, m, d, w.zone), midnight(y, m, d+7, w.zone)
	}
	return midnight(y, m, d, w.zone), midnight(y, m, d+1, w.zone)
}

// midnight is the first instant of a day, also where clocks are set at midnight, so
// that it is there twice or not at all.
func midnight(y int, m time.Month, d int, zone *time.Location) time.Time {
	plain := time.Date(y, m, d, 0, 0, 0, 0, time.UTC)
	t := time.Date(y, m, d, 0, 0, 0, 0, zone)
	from, to := t.ZoneBounds()
	if t.Day() != plain.Day() { // it is not there, and t is before it
		return to
	}
	if from.IsZero() {
		return t
	}
	_, before := from.Add(-1).In(zone).Zone()
	if first := plain.Add(-time.Duration(before) * time.Second).In(zone); first.Before(from) && first.Day() == plain.Day() {
		return first
	}
	return t
}

// A keyPart is one word of per: what the limit counts apart by.
type keyPart struct {
	name   string // as it was written
	paths  []action.Path
	domain bool // what stands there is a domain
}

// chosen tells whether the agent can say what the part is.
func (k keyPart) chosen() bool { return k.name != "agent" && k.name != "owner" }

// look follows a path in a request.
type look func(action.Path) (action.Value, bool)

// charge says what an action takes from the limit.
func (l *Limit) charge(at look) Charge {
	c := Charge{Limit: l, Amount: 1}
	parts := make([]action.Value, len(l.per))
	for i, part := range l.per {
		text, doubt := part.read(at)
		if doubt != "" {
			return Charge{Limit: l, Doubt: doubt}
		}
		parts[i] = action.StringValue(text)
	}
	c.Key = string(action.ArrayValue(parts...).Canonical())
	if l.Counts {
		return c
	}
	if c.Amount, c.Doubt = l.amount(at); c.Doubt != "" {
		return Charge{Limit: l, Doubt: c.Doubt}
	}
	return c
}

func (l *Limit) amount(at look) (n int64, doubt string) {
	v, ok := at(l.sum)
	amount, isNumber := numberOf(v)
	switch {
	case ok && v.Kind() == action.Missing:
		return 0, fmt.Sprintf("%s is missing", l.sum)
	case !ok || !isNumber || !amount.isAmount():
		return 0, fmt.Sprintf("%s is not %s", l.sum, wantsMoney)
	}
	if amount.whole > maxAmount {
		return 0, fmt.Sprintf("%s is more than %d", l.sum, maxAmount)
	}
	if l.Currency == "" {
		return amount.whole, ""
	}
	return amount.whole, l.otherCurrency(at)
}

func (l *Limit) otherCurrency(at look) (doubt string) {
	v, ok := at(currencyAt)
	switch {
	case ok && v.Kind() == action.String && v.Text() == l.Currency:
		return ""
	case ok && v.Kind() == action.Missing:
		return currencyPath + " is missing"
	case ok && v.Kind() == action.String:
		return fmt.Sprintf("%s is %q, not %s", currencyPath, short(v.Text()), l.Currency)
	}
	return fmt.Sprintf("%s is not %s", currencyPath, l.Currency)
}

// maxKey bounds a part of a key in the store and in the log.
const maxKey = 256

// read gives the part in its one form: what is merely written otherwise is counted
// together.
func (k keyPart) read(at look) (text, doubt string) {
	for _, path := range k.paths {
		v, ok := at(path)
		switch {
		case !ok:
			return "", fmt.Sprintf("%s cannot be followed", path)
		case v.Kind() == action.Missing:
			continue
		case k.domain:
			return domainKey(path, v)
		}
		return plainKey(path, v)
	}
	return "", fmt.Sprintf("%s is missing", k.paths[0])
}

func domainKey(path action.Path, v action.Value) (text, doubt string) {
	if v.Kind() == action.String {
		if name, ok := normalDomain(v.Text()); ok {
			return name, ""
		}
	}
	return "", fmt.Sprintf("%s is not one domain", path)
}

// plainKey takes a text without regard to case, width and a dot or blanks at its
// ends, and a number by its value, also one in quotes.
func plainKey(path action.Path, v action.Value) (text, doubt string) {
	switch v.Kind() {
	case action.String:
		text = strings.Trim(cases.Fold().String(norm.NFKC.String(v.Text())), ". \t\r\n")
	case action.Number:
		text = v.Text()
	case action.Bool:
		text = fmt.Sprint(v.IsTrue())
	default:
		return "", fmt.Sprintf("%s is %s, want a text or a number", path, kindName(v))
	}
	if n, ok := parseNumber(text); ok {
		text = n.String()
	}
	switch {
	case text == "":
		return "", fmt.Sprintf("%s is empty", path)
	case len(text) > maxKey:
		return "", fmt.Sprintf("%s is longer than %d bytes", path, maxKey)
	}
	return text, ""
}

// String writes a number in one form: 1, 1.0 and 1e0 alike.
func (n number) String() string {
	sign := ""
	if n.negative {
		sign = "-"
	}
	switch {
	case n.digits == "":
		return "0"
	case n.isWhole() && n.exp <= 20:
		return sign + n.digits + strings.Repeat("0", n.exp-len(n.digits))
	}
	return fmt.Sprintf("%s0.%se%d", sign, n.digits, n.exp)
}

// limitsOf lists what an allow is charged to: the limits of all policies that are
// bound and mean such actions, those of the rule that gave it, and those of rules
// that cannot be judged. Each once.
func (v *verdict) limitsOf(r *bound, open bool) (list []*Limit) {
	if !open {
		for _, l := range v.set.limits {
			if l.pattern.matches(v.kind) {
				list = append(list, l)
			}
		}
	}
	if r != nil {
		list = append(list, r.limits...)
	}
	for _, other := range v.doubt {
		list = append(list, other.limits...)
	}
	return list
}

// charge adds to an allow, also one that asks for something first, what it is
// charged to.
func (v *verdict) charge(d Decision, r *bound, open bool) Decision {
	if d.Outcome == Deny {
		return d
	}
	for _, l := range v.limitsOf(r, open) {
		d.Charges = append(d.Charges, l.charge(v.look))
	}
	return d
}
