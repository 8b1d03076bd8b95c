package policy

import (
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
	_ "time/tzdata" // the names of time zones, also where the system has none

	"gopkg.in/yaml.v3"

	"github.com/openleash/openleash-go/action"
)

// clockPath is where tests find the time: no condition of a policy can name it.
const clockPath = "$.now"

// clockTest asks something of the time. Where that is not known it is unknown.
func clockTest(text string, holds func(time.Time) bool) *test {
	return &test{
		text: text, paths: []action.Path{mustPath(clockPath)}, absent: unknown,
		judge: func(v action.Value) truth {
			ms, err := strconv.ParseInt(v.Text(), 10, 64)
			if err != nil {
				return unknown
			}
			return truthOf(holds(time.UnixMilli(ms)))
		},
	}
}

// clockValue is the time as tests read it: whole milliseconds.
func clockValue(now time.Time) action.Value {
	if now.IsZero() {
		return action.Value{}
	}
	return action.IntValue(now.UnixMilli())
}

// expires reads when a rule ends: it matches before that instant.
func (p *parser) expires(n *yaml.Node, what string) *test {
	end, ok := p.instant(n, what+": expires", "2026-12-31T18:00:00+01:00")
	if !ok {
		return nil
	}
	return clockTest("expires "+end.UTC().Format(time.RFC3339Nano), func(now time.Time) bool { return now.Before(end) })
}

// instant reads a time with its zone; like is one, for the message.
func (p *parser) instant(n *yaml.Node, what, like string) (at time.Time, ok bool) {
	text, ok := p.String(n, what)
	if !ok {
		return at, false
	}
	at, err := time.Parse(time.RFC3339, text)
	if err != nil {
		p.Errorf(n, "%s: want a time with its zone, like %s, got %q", what, like, text)
	}
	return at, err == nil
}

// A schedule is days of the week and hours of the day at one place.
type schedule struct {
	zone  *time.Location
	days  [7]bool // by time.Weekday
	hours []hours
}

// hours are minutes of a day, from included, to not. One that ends at or before
// its beginning ends on the next day; it belongs to the day on which it begins.
type hours struct{ from, to int }

var weekdays = []string{"sun", "mon", "tue", "wed", "thu", "fri", "sat"}

// schedule reads {days, hours, timezone}.
func (p *parser) schedule(n *yaml.Node, what string) *test {
	what += ": schedule"
	f := p.Fields(n, what, keysIn[scheduleForm]()...)
	if f == nil {
		return nil
	}
	p.require(n, f, what, "timezone")
	if f["days"] == nil && f["hours"] == nil {
		p.Errorf(n, "%s: want days or hours, or both", what)
	}
	s := schedule{zone: p.zone(f["timezone"], what), days: p.days(f["days"], what), hours: p.hours(f["hours"], what)}
	return clockTest(s.String(), s.holds)
}

// String writes a schedule as its rule does: {days: [mon, tue], hours: [09:00-17:00], timezone: UTC}.
func (s schedule) String() string {
	var days, times []string
	for i := range weekdays {
		if day := (i + 1) % 7; s.days[day] { // from Monday
			days = append(days, weekdays[day])
		}
	}
	for _, h := range s.hours {
		times = append(times, fmt.Sprintf("%02d:%02d-%02d:%02d", h.from/60, h.from%60, h.to/60, h.to%60))
	}
	return fmt.Sprintf("schedule {days: [%s], hours: [%s], timezone: %s}", strings.Join(days, ", "), strings.Join(times, ", "), s.zone)
}

func (p *parser) zone(n *yaml.Node, what string) *time.Location {
	name, ok := p.String(n, what+": timezone")
	if !ok {
		return time.UTC
	}
	zone, err := time.LoadLocation(name)
	if err != nil || name == "" || name == "Local" {
		p.Errorf(n, "%s: timezone: want a name like Europe/Berlin or UTC, got %q", what, name)
		return time.UTC
	}
	return zone
}

// days reads a list of days; without one it is every day.
func (p *parser) days(n *yaml.Node, what string) (days [7]bool) {
	if n == nil {
		return [7]bool{true, true, true, true, true, true, true}
	}
	items := p.List(n, what+": days")
	for _, item := range items {
		if word, ok := p.OneOf(item, what+": days", weekdays...); ok {
			days[slices.Index(weekdays, word)] = true
		}
	}
	if n.Kind == yaml.SequenceNode && len(items) == 0 {
		p.Errorf(n, "%s: days: the list is empty; fill it, or leave the key out", what)
	}
	return days
}

// hours reads "09:00-17:00", or a list of such.
func (p *parser) hours(n *yaml.Node, what string) (list []hours) {
	if n == nil {
		return []hours{{0, 24 * 60}}
	}
	items := []*yaml.Node{n}
	if n.Kind == yaml.SequenceNode {
		items = p.List(n, what+": hours")
	}
	for _, item := range items {
		text, ok := p.String(item, what+": hours")
		h, valid := parseHours(text)
		if ok && !valid {
			p.Errorf(item, "%s: hours: want times of day like 09:00-17:00, or 22:00-06:00 into the next day, got %q", what, text)
		}
		list = append(list, h)
	}
	if len(items) == 0 {
		p.Errorf(n, "%s: hours: the list is empty; fill it, or leave the key out", what)
	}
	return list
}

var hoursText = regexp.MustCompile(`^([01][0-9]|2[0-3]):([0-5][0-9])-([01][0-9]|2[0-4]):([0-5][0-9])$`)

func parseHours(text string) (h hours, ok bool) {
	m := hoursText.FindStringSubmatch(text)
	if m == nil {
		return h, false
	}
	minutes := func(hour, minute string) int {
		a, _ := strconv.Atoi(hour)
		b, _ := strconv.Atoi(minute)
		return 60*a + b
	}
	h = hours{minutes(m[1], m[2]), minutes(m[3], m[4])}
	return h, h.to <= 24*60 && h.from != h.to
}

// holds tells whether a time is within, on the clock of the place: where the hour
// is set back it comes twice, where it is set forward not at all.
func (s schedule) holds(now time.Time) bool {
	at := now.In(s.zone)
	minute, today := 60*at.Hour()+at.Minute(), at.Weekday()
	yesterday := (today + 6) % 7
	for _, h := range s.hours {
		switch {
		case h.from < h.to:
			if s.days[today] && minute >= h.from && minute < h.to {
				return true
			}
		case s.days[today] && minute >= h.from, s.days[yesterday] && minute < h.to:
			return true
		}
	}
	return false
}

// String is the schedule's hours as they are written.
func (h hours) String() string {
	return fmt.Sprintf("%02d:%02d-%02d:%02d", h.from/60, h.from%60, h.to/60, h.to%60)
}

// isClock tells tests of the time from those of the request.
func (t *test) isClock() bool { return t.paths[0].String() == clockPath }
