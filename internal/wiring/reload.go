package wiring

import (
	"context"
	"fmt"

	"github.com/openleash/openleash-go/audit"
	"github.com/openleash/openleash-go/policy"
)

// announce tells of every reload: whom it concerns, the program's log and the audit log.
func (p *Parts) announce(e policy.Event) {
	if p.config.Reloaded != nil {
		p.config.Reloaded()
	}
	switch log := p.config.Log; {
	case e.Err != nil:
		log.Error().Err(e.Err).Msg("the policies are broken; the last good set stays in force")
	default:
		log.Info().Str("hash", e.Hash).Strs("changed", e.Changed).Strs("removed", e.Removed).Msg("policies in force")
	}
	for _, w := range e.Warnings {
		p.config.Log.Warn().Msg(w.Error())
	}
	if p.Service == nil {
		return // at the start: the start itself is recorded
	}
	p.recordReload(e)
}

// RecordBroken records that the policies were found broken before there was a service.
func (p *Parts) RecordBroken() {
	if err := p.Policies.Err(); err != nil {
		p.recordReload(policy.Event{Hash: p.PolicyHash(), Err: err})
	}
}

func (p *Parts) recordReload(e policy.Event) {
	entry := audit.Entry{Event: "policy.reloaded", ActorType: "system", ActorID: "openleash", PolicyHash: e.Hash, Reason: reloadWords(e)}
	if e.Err != nil {
		entry.Event, entry.Reason = "policy.rejected", e.Err.Error()
	}
	if err := p.Service.Record(context.Background(), entry); err != nil {
		p.config.Log.Error().Err(err).Msg("a reload could not be recorded")
	}
}

func reloadWords(e policy.Event) string {
	words := ""
	if len(e.Changed) > 0 {
		words = fmt.Sprintf("changed: %v", e.Changed)
	}
	if len(e.Removed) > 0 {
		words += fmt.Sprintf(" removed: %v", e.Removed)
	}
	return words
}

// PolicyHash is that of the policies in force; empty: there are none.
func (p *Parts) PolicyHash() string {
	if book := p.Policies.Current(); book != nil {
		return book.Hash
	}
	return ""
}
