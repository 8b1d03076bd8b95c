package main

import (
	"cmp"
	"context"
	"fmt"
	"path/filepath"
	"time"

	"gopkg.in/yaml.v3"

	"github.com/openleash/openleash-go/audit"
	"github.com/openleash/openleash-go/internal/home"
	"github.com/openleash/openleash-go/internal/strictyaml"
	"github.com/openleash/openleash-go/witness"
)

// LogConfig (log) says how the audit log is kept.
type LogConfig struct {
	// SegmentBytes and SegmentAge (segment_days) are how long or old the file becomes
	// before it is closed as a segment. Default: 256 MiB, 31 days.
	SegmentBytes int64
	SegmentAge   time.Duration
	// Keep (keep_days) is how long segments are kept. Default 0: for ever.
	Keep time.Duration
	// Witnesses get the log's checkpoints. Default: none.
	Witnesses []WitnessConfig
}

// day is shorter in tests.
var day = 24 * time.Hour

func defaultLog() LogConfig { return LogConfig{SegmentBytes: 256 << 20, SegmentAge: 31 * day} }

func (l *LogConfig) read(d *strictyaml.Doc, n *yaml.Node, h home.Home) {
	if n == nil || n.Tag == "!!null" { // null: all of it is comments
		return
	}
	f := d.Fields(n, "log", "segment_bytes", "segment_days", "keep_days", "witnesses")
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
	l.Witnesses = readWitnesses(d, f["witnesses"], h)
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
	return a.parts.Record(ctx, audit.Entry{
		Event: "log.removed", ActorType: "system", ActorID: "openleash",
		Detail: fmt.Sprintf("entries %d to %d, older than %s", first, last, count(int(a.config.Log.Keep/day), "day")),
	})
}

// WitnessConfig is one of them: a file, a webhook, or a witness as c2sp.org/tlog-witness
// has it.
type WitnessConfig struct {
	File    string            // to which checkpoints are appended …
	Webhook string            // … or an address to which they are posted
	Headers map[string]string // sent with them; ${NAME} is taken from our environment (expand)
	Witness string            // … or the submission prefix of a witness
	Key     string            // with its public key
	Every   time.Duration     // at most so often. Default 1m
}

func readWitnesses(d *strictyaml.Doc, n *yaml.Node, h home.Home) (list []WitnessConfig) {
	if n == nil || n.Tag == "!!null" { // null: all of them are comments
		return nil
	}
	seen := map[string]bool{}
	for _, item := range d.List(n, "witnesses") {
		w := readWitness(d, item, h)
		if what := w.File + w.Webhook + w.Witness; seen[what] && what != "" {
			d.Errorf(item, "witnesses: this one stands there already")
		} else {
			seen[what] = true
		}
		list = append(list, w)
	}
	return list
}

func readWitness(d *strictyaml.Doc, n *yaml.Node, h home.Home) (w WitnessConfig) {
	f := d.Fields(n, "log.witnesses", "file", "webhook", "headers", "witness", "key", "every")
	if w.File, _ = d.String(f["file"], "file"); w.File != "" && !filepath.IsAbs(w.File) {
		w.File = filepath.Join(h.Dir, w.File)
	}
	w.Webhook = readAddress(d, f["webhook"], "webhook")
	w.Headers = readVariables(d, f["headers"], "headers")
	w.Witness = readAddress(d, f["witness"], "witness")
	w.Key, _ = d.String(f["key"], "key")
	w.Every = readEvery(d, f["every"])
	if n.Kind == yaml.MappingNode {
		w.check(d, n, f)
	}
	return w
}

// check says what does not go together.
func (w WitnessConfig) check(d *strictyaml.Doc, n *yaml.Node, f map[string]*yaml.Node) {
	kinds := 0
	for _, kind := range []string{w.File, w.Webhook, w.Witness} {
		if kind != "" {
			kinds++
		}
	}
	if kinds != 1 {
		d.Errorf(n, "witnesses: want one of file (a path), webhook (an address) and witness (an address, with key)")
	}
	if f["headers"] != nil && w.Webhook == "" {
		d.Errorf(f["headers"], "headers: goes with webhook")
	}
	if f["key"] != nil && w.Witness == "" {
		d.Errorf(f["key"], "key: goes with witness")
	}
	if _, err := audit.ParseCosigner(w.Key); w.Witness != "" && err != nil {
		d.Errorf(cmp.Or(f["key"], n), "key: %v", err)
	}
}

// readAddress reads where checkpoints are sent to.
func readAddress(d *strictyaml.Doc, n *yaml.Node, what string) string {
	address, ok := d.String(n, what)
	if !ok {
		return ""
	}
	if err := witness.CheckURL(address); err != nil {
		d.Errorf(n, "%s: %v", what, err)
	}
	return address
}

const defaultEvery = time.Minute

func readEvery(d *strictyaml.Doc, n *yaml.Node) time.Duration {
	text, ok := d.String(n, "every")
	if !ok {
		return defaultEvery
	}
	every, err := time.ParseDuration(text)
	if err != nil || every < time.Second || every > 24*time.Hour {
		d.Errorf(n, "every: want a time from 1s to 24h, such as 1m, got %q", text)
	}
	return every
}
