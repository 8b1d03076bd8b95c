package policy

import (
	"testing"
	"time"
)

func TestScheduleHolds(t *testing.T) {
	berlin := "timezone: Europe/Berlin"
	for _, tc := range []struct {
		schedule, at string
		want         truth
	}{
		{berlin + `, hours: "09:00-17:00"`, "2026-11-23T08:00:00Z", yes}, // winter: +1
		{berlin + `, hours: "09:00-17:00"`, "2026-11-23T07:59:59Z", no},
		{berlin + `, hours: "09:00-17:00"`, "2026-11-23T16:00:00Z", no},
		{berlin + `, hours: "09:00-17:00"`, "2026-07-06T07:00:00Z", yes}, // summer: +2
		{berlin + `, hours: "09:00-17:00"`, "2026-07-06T15:00:00Z", no},
		{berlin + `, days: [mon]`, "2026-11-22T23:00:00Z", yes}, // Monday there, Sunday in Greenwich
		{berlin + `, days: [mon]`, "2026-11-23T23:00:00Z", no},
		{`timezone: UTC, days: [fri], hours: "22:00-06:00"`, "2026-11-27T22:00:00Z", yes},
		{`timezone: UTC, days: [fri], hours: "22:00-06:00"`, "2026-11-28T05:59:59Z", yes}, // Friday's night
		{`timezone: UTC, days: [fri], hours: "22:00-06:00"`, "2026-11-28T06:00:00Z", no},
		{`timezone: UTC, days: [fri], hours: "22:00-06:00"`, "2026-11-27T05:00:00Z", no}, // Thursday's
		{`timezone: UTC, days: [sat], hours: "22:00-06:00"`, "2026-11-29T01:00:00Z", yes},
		{`timezone: UTC, hours: ["08:00-12:00", "13:00-24:00"]`, "2026-11-27T12:30:00Z", no},
		{`timezone: UTC, hours: ["08:00-12:00", "13:00-24:00"]`, "2026-11-27T23:59:59Z", yes},
		{`timezone: UTC, hours: "00:00-24:00"`, "2026-11-27T00:00:00Z", yes},
		{berlin + `, hours: "02:00-03:00"`, "2026-10-25T00:30:00Z", yes}, // 02:30, the first
		{berlin + `, hours: "02:00-03:00"`, "2026-10-25T01:30:00Z", yes}, // 02:30, once more
		{berlin + `, hours: "02:00-03:00"`, "2026-03-29T01:00:00Z", no},  // from 02:00 it was 03:00
	} {
		src := "version: 1\ndefault: deny\nrules: [{id: a, effect: allow, action: x, schedule: {" + tc.schedule + "}}]\n"
		p, err := Parse("p", "p.yaml", []byte(src))
		if err != nil {
			t.Fatal(err)
		}
		at, err := time.Parse(time.RFC3339, tc.at)
		if err != nil {
			t.Fatal(err)
		}
		if got := p.rules[0].constraints[0].judge(clockValue(at)); got != tc.want {
			t.Errorf("%s at %s: %v, want %v", tc.schedule, tc.at, got, tc.want)
		}
	}
}
