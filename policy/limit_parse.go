package policy

import (
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"gopkg.in/yaml.v3"

	"github.com/openleash/openleash-go/action"
	"github.com/openleash/openleash-go/internal/strictyaml"
)

// limits reads the limits of the policy, for which rule is nil, or of a rule.
func (p *parser) limits(n *yaml.Node, rule *rule, what string) (list []*Limit) {
	if n != nil && rule != nil && !rule.allow {
		p.Errorf(n, "%s: limits: only an allow has limits; a deny allows nothing that could be counted", what)
	}
	for _, item := range p.List(n, what+": limits") {
		if l := p.limit(item, rule, what); l != nil {
			list = append(list, l)
		}
	}
	return list
}

func (p *parser) limit(n *yaml.Node, rule *rule, what string) *Limit {
	f := p.Fields(n, what+": limit", keysIn[limitForm]()...)
	if f == nil {
		return nil
	}
	l := &Limit{pattern: pattern{below: true}}
	l.name, what = p.limitName(f["id"], what)
	if f["id"] != nil {
		l.place = p.At(f["id"], "")
	}
	p.require(n, f, what, "id", "max", "window")
	switch {
	case f["action"] != nil && rule != nil:
		p.Errorf(f["action"], "%s: action: the limit of a rule is about the rule's actions; leave it out, or put the limit beside rules", what)
	case f["action"] != nil:
		l.pattern = p.pattern(f["action"], what)
	}
	p.counts(l, n, f, what)
	l.Max = p.most(l, f["max"], what+": max")
	l.per = p.per(f["per"], what+": per")
	l.window = p.window(f["window"], f["timezone"], what)
	p.manners(l, f, what)
	p.bounded = append(p.bounded, limitPlace{l, rule, f})
	return l
}

// limitPlace is a limit where it stands.
type limitPlace struct {
	*Limit
	rule *rule // nil: of the policy
	f    map[string]*yaml.Node
}

var limitNameForm = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9_.-]{0,63}$`)

func (p *parser) limitName(n *yaml.Node, what string) (name, whole string) {
	name, ok := p.String(n, what+": limit: id")
	if !ok {
		return "", what + ": limit"
	}
	whole = fmt.Sprintf("limit %q", name)
	for _, other := range p.bounded {
		if other.name == name {
			p.Errorf(n, "%s: a limit on line %d has this id already; what was used is counted by the id", whole, other.f["id"].Line)
		}
	}
	if !limitNameForm.MatchString(name) {
		p.Errorf(n, "%s: id: want up to 64 letters, digits, _ . -, that begin with a letter or digit", whole)
	}
	return name, whole
}

// counts reads what the limit adds up.
func (p *parser) counts(l *Limit, n *yaml.Node, f map[string]*yaml.Node, what string) {
	if (f["sum"] == nil) == (f["count"] == nil) {
		p.Errorf(n, "%s: want one of sum (a path to an amount) and count: true", what)
		return
	}
	if f["count"] != nil {
		if yes, ok := p.Bool(f["count"], what+": count"); ok && !yes {
			p.Errorf(f["count"], "%s: count: want true, or sum in its place", what)
		}
		if f["currency"] != nil {
			p.Errorf(f["currency"], "%s: currency: a count has none", what)
		}
		l.Counts = true
		return
	}
	l.sum = p.onePath(f["sum"], what+": sum")
	code, ok := p.String(f["currency"], what+": currency")
	switch {
	case ok && !currencyForm.MatchString(code):
		p.Errorf(f["currency"], "%s: currency: want one code of three capital letters, got %q", what, code)
	case f["currency"] == nil && samePlace(l.sum, amountPath):
		p.Errorf(n, "%s: currency is missing: amounts of different currencies cannot be added", what)
	}
	l.Currency = code
}

// most reads max: an amount, or a plain number for a count.
func (p *parser) most(l *Limit, n *yaml.Node, what string) (most int64) {
	if l.Counts {
		most, _ = p.Int(n, what)
	} else if units := p.minorUnits(n, what); units != nil {
		most = *units
	}
	if most < 0 || most > maxAmount {
		p.Errorf(n, "%s: want 0 to %d, got %d", what, int64(maxAmount), most)
	}
	return most
}

var currencyForm = regexp.MustCompile(`^[A-Z]{3}$`)

// per reads by what the limit counts apart.
func (p *parser) per(n *yaml.Node, what string) (parts []keyPart) {
	items := p.List(n, what)
	if n != nil && n.Kind == yaml.SequenceNode && len(items) == 0 {
		p.Errorf(n, "%s: the list is empty; fill it, or leave the key out", what)
	}
	for _, item := range items {
		part := p.keyPart(item, what)
		if slices.ContainsFunc(parts, func(k keyPart) bool { return k.name == part.name && part.name != "" }) {
			p.Errorf(item, "%s: %s stands there twice", what, part.name)
		}
		parts = append(parts, part)
	}
	return parts
}

// onePath reads a path that leads to one value. After a fault it is empty.
func (p *parser) onePath(n *yaml.Node, what string) action.Path {
	path, items := p.path(n, what)
	if len(items) > 0 {
		p.Errorf(n, "%s: want the path of one value, not of every item of a list ([*])", what)
	}
	if path == nil {
		return action.Path{}
	}
	return *path
}

func (p *parser) keyPart(n *yaml.Node, what string) keyPart {
	if word, _ := p.String(n, what); !strings.HasPrefix(word, "$") {
		p.OneOf(n, what, "agent", "owner", "vendor", "$.…")
		switch word {
		case "agent":
			return keyPart{word, []action.Path{mustPath("$.principal.agent_id")}, false}
		case "owner":
			return keyPart{word, []action.Path{mustPath("$.subject.principal_id")}, false}
		}
		return keyPart{word, []action.Path{mustPath(merchantPath), mustPath(partyPath)}, true}
	}
	path := p.onePath(n, what)
	domain := slices.ContainsFunc([]string{merchantPath, domainPath, partyPath}, func(known string) bool { return samePlace(path, known) })
	return keyPart{path.String(), []action.Path{path}, domain}
}

var (
	windowForm = regexp.MustCompile(`^([1-9][0-9]{0,4})([mh])$`)
	periods    = []string{"day", "week", "month"}
)

func (p *parser) window(n, zone *yaml.Node, what string) (w window) {
	text, ok := p.String(n, what+": window")
	if !ok {
		return w
	}
	if slices.Contains(periods, text) {
		if w.unit = text; zone == nil {
			p.Errorf(n, "%s: timezone is missing: say where the %s begins, with a name like Europe/Berlin or UTC", what, text)
			return w
		}
		w.zone = p.zone(zone, what)
		return w
	}
	if zone != nil {
		p.Errorf(zone, "%s: timezone: only day, week and month have one", what)
	}
	m := windowForm.FindStringSubmatch(text)
	if m == nil {
		p.Errorf(n, "%s: window: want a length like 30m or 24h, or day, week, month, got %q", what, text)
		return w
	}
	count, _ := strconv.Atoi(m[1])
	w.length = time.Duration(count) * map[string]time.Duration{"m": time.Minute, "h": time.Hour}[m[2]]
	if w.length > maxWindow {
		p.Errorf(n, "%s: window: want at most %dh, 31 days, got %s", what, maxWindow/time.Hour, text)
	}
	return w
}

// manners reads what happens at the limit.
func (p *parser) manners(l *Limit, f map[string]*yaml.Node, what string) {
	word, _ := p.OneOf(f["over"], what+": over", overs...)
	l.Over = map[string]Outcome{"require_approval": RequireApproval, "require_step_up": RequireStepUp}[word]
	_, l.Refunds = p.OneOf(f["on_error"], what+": on_error", "release")
	l.ReserveOnHold, _ = p.Bool(f["reserve_on_hold"], what+": reserve_on_hold")
	_, l.Minimal = p.OneOf(f["explain"], what+": explain", "minimal")
}

// lintLimits warns of limits that bind less, or more, than it seems.
func (p *parser) lintLimits() {
	for _, l := range p.bounded {
		if slices.ContainsFunc(l.per, keyPart.chosen) && !p.hasTotal(l) {
			p.warn(l.f["per"], "limit %q: it counts each %s apart and nothing bounds them together: an agent can go to as many as it finds; add a limit without %[2]s in per",
				l.name, l.per[slices.IndexFunc(l.per, keyPart.chosen)].name)
		}
		if l.rule == nil && !l.Counts && l.pattern.all() {
			p.warn(l.f["id"], "limit %q: it binds every action, and one that has no amount is over it; name the actions it is about (action: purchase)", l.name)
		}
	}
}

func (p pattern) all() bool { return p.below && p.name == "" }

// hasTotal looks for a limit of the same kind that binds all that l binds, whatever
// the agent chooses.
func (p *parser) hasTotal(l limitPlace) bool {
	return slices.ContainsFunc(p.bounded, func(t limitPlace) bool {
		covers := t.rule == nil && t.pattern.covers(l.reach()) || t.rule != nil && t.rule == l.rule
		return covers && !slices.ContainsFunc(t.per, keyPart.chosen) &&
			t.Counts == l.Counts && t.sum.String() == l.sum.String() && t.Currency == l.Currency
	})
}

// reach is which actions the limit is about.
func (l limitPlace) reach() pattern {
	if l.rule != nil {
		return l.rule.pattern
	}
	return l.pattern
}

// allLimits are those of the policy and of its rules.
func (pol *Policy) allLimits() []*Limit {
	list := slices.Clone(pol.limits)
	for _, r := range pol.rules {
		list = append(list, r.limits...)
	}
	return list
}

// renamedLimits warns of limits that took the place of one with another id.
func renamedLimits(before, now *Book) (list []strictyaml.Error) {
	if before == nil {
		return nil
	}
	for _, p := range now.Policies() {
		for _, was := range before.Policies() {
			if was.ID == p.ID {
				list = append(list, lintRenamed(was, p)...)
			}
		}
	}
	return list
}

func lintRenamed(before, now *Policy) (list []strictyaml.Error) {
	old, current := before.allLimits(), now.allLimits()
	has := func(in []*Limit, id string) bool {
		return slices.ContainsFunc(in, func(l *Limit) bool { return l.ID == id })
	}
	for _, l := range current {
		for _, was := range old {
			if !has(old, l.ID) && !has(current, was.ID) && l.says() == was.says() {
				w := l.place
				w.Message = fmt.Sprintf("limit %q was %q before: what was used under that id is not counted any more", l.name, was.name)
				list = append(list, w)
				break
			}
		}
	}
	return list
}

// says is the limit's definition but for its id and its maximum.
func (l *Limit) says() string {
	var per []string
	for _, part := range l.per {
		per = append(per, part.name)
	}
	return fmt.Sprint(l.pattern, l.Counts, l.sum, l.Currency, per, l.window)
}
