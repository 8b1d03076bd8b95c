package wiring

import (
	"context"
	"crypto/sha256"
	"errors"
	"io/fs"

	"github.com/openleash/openleash-go/audit"
)

// LogComplete reports whether the log's file has all that was committed, and if not, has
// the sequencer look.
func (p *Parts) LogComplete(ctx context.Context) (bool, error) {
	waiting, _, err := p.Store.Unsequenced(ctx, 1)
	if err != nil {
		return false, err
	}
	_, hash, err := p.Store.Head(ctx)
	if err != nil {
		return false, err
	}
	last, err := audit.End(p.config.Home.AuditLog())
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return false, err
	}
	if len(waiting) == 0 && sha256.Sum256(last) == hash {
		return true, nil
	}
	p.Sequencer.Wake()
	return false, nil
}
