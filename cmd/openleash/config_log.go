package main

import (
	"context"
	"fmt"
	"time"

	"gopkg.in/yaml.v3"

	"github.com/openleash/openleash-go/audit"
	"github.com/openleash/openleash-go/internal/strictyaml"
)

// LogConfig (log) says how the audit log is kept.
type LogConfig struct {
	// SegmentBytes and SegmentAge (segment_days) are how long or old the file becomes
	// before it is closed as a segment. Default: 256 MiB, 31 days.
	SegmentBytes int64
	SegmentAge   time.Duration
	// Keep (keep_days) is how long segments are kept. Default 0: for ever.
	Keep time.Duration
}

// day is shorter in tests.
var day = 24 * time.Hour

func defaultLog() LogConfig { return LogConfig{SegmentBytes: 256 << 20, SegmentAge: 31 * day} }

func (l *LogConfig) read(d *strictyaml.Doc, n *yaml.Node) {
	if n == nil || n.Tag == "!!null" { // null: all of it is comments
		return
	}
	f := d.Fields(n, "log", "segment_bytes", "segment_days", "keep_days")
	whole := func(key string, least, most int64, set func(int64)) {
		if i, ok := d.Int(f[key], key); ok {
			if set(i); i < least || i > most {
				d.Errorf(f[key], "%s: want %d to %d, got %d", key, least, most, i)
			}
		}
	}
	whole("segment_bytes", 4096, 1<<40, func(i int64) { l.SegmentBytes = i })
	whole("segment_days", 1, 36_500, func(i int64) { l.SegmentAge = time.Duration(i) * day })
	whole("keep_days", 1, 36_500, func(i int64) { l.Keep = time.Duration(i) * day })
}

// keeping is how the sequencer keeps the log.
func (a *app) keeping() audit.Keeping {
	c := a.config.Log
	return audit.Keeping{
		MaxBytes: c.SegmentBytes, MaxAge: c.SegmentAge, Keep: c.Keep,
		Removing: a.recordRemoval,
		Warn: func(err error) {
			a.log.Error().Err(err).Msg("the audit log is whole, but its segments are not as they should be")
		},
	}
}

// recordRemoval comes before the removal: what is not recorded is not removed.
func (a *app) recordRemoval(ctx context.Context, first, last uint64) error {
	return a.commit(ctx, audit.Entry{
		Event: "log.removed", ActorType: "system", ActorID: "openleash",
		Detail: fmt.Sprintf("entries %d to %d, older than %s", first, last, count(int(a.config.Log.Keep/day), "day")),
	})
}
