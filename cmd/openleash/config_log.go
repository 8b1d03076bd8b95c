package main

import (
	"cmp"
	"path/filepath"
	"time"

	"gopkg.in/yaml.v3"

	"github.com/openleash/openleash-go/audit"
	"github.com/openleash/openleash-go/internal/home"
	"github.com/openleash/openleash-go/internal/strictyaml"
	"github.com/openleash/openleash-go/witness"
)

// LogConfig is log: in the configuration.
type LogConfig struct {
	// Witnesses get the log's checkpoints. Default: none.
	Witnesses []WitnessConfig
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

// readLog reads log:.
func readLog(d *strictyaml.Doc, n *yaml.Node, h home.Home) (c LogConfig) {
	if n == nil || n.Tag == "!!null" { // null: all of it is comments
		return c
	}
	f := d.Fields(n, "log", "witnesses")
	seen := map[string]bool{}
	if n := f["witnesses"]; n != nil && n.Tag != "!!null" {
		for _, item := range d.List(n, "witnesses") {
			w := readWitness(d, item, h)
			if what := w.File + w.Webhook + w.Witness; seen[what] && what != "" {
				d.Errorf(item, "witnesses: this one stands there already")
			} else {
				seen[what] = true
			}
			c.Witnesses = append(c.Witnesses, w)
		}
	}
	return c
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
