package main

import (
	"path/filepath"
	"time"

	"gopkg.in/yaml.v3"

	"github.com/openleash/openleash-go/internal/home"
	"github.com/openleash/openleash-go/internal/strictyaml"
	"github.com/openleash/openleash-go/witness"
)

// LogConfig is log: in the configuration.
type LogConfig struct {
	// Witnesses get the log's checkpoints. Default: none.
	Witnesses []WitnessConfig
}

// WitnessConfig is one of them: a file, or a webhook.
type WitnessConfig struct {
	File    string            // to which checkpoints are appended …
	Webhook string            // … or an address to which they are posted
	Headers map[string]string // sent with them; ${NAME} is taken from our environment (expand)
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
			if what := w.File + w.Webhook; seen[what] && what != "" {
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
	f := d.Fields(n, "log.witnesses", "file", "webhook", "headers", "every")
	if w.File, _ = d.String(f["file"], "file"); w.File != "" && !filepath.IsAbs(w.File) {
		w.File = filepath.Join(h.Dir, w.File)
	}
	w.Webhook = readAddress(d, f["webhook"], "webhook")
	w.Headers = readVariables(d, f["headers"], "headers")
	w.Every = readEvery(d, f["every"])
	switch {
	case n.Kind != yaml.MappingNode:
	case (w.File == "") == (w.Webhook == ""):
		d.Errorf(n, "witnesses: want either file (a path) or webhook (an address)")
	case w.File != "" && len(w.Headers) > 0:
		d.Errorf(f["headers"], "headers: goes with webhook")
	}
	return w
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
