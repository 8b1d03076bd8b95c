package main

import (
	"errors"
	"fmt"
	"time"

	"github.com/openleash/openleash-go/audit"
)

// A cosigner is a witness that has to have cosigned a checkpoint, and the largest that it
// has.
type cosigner struct {
	audit.Cosigner
	last audit.Checkpoint
	at   time.Time
}

// demand reads the keys of witnesses.
func (v *verifier) demand(keys []string) error {
	if len(keys) > 0 && v.key == "" {
		return errors.New("--witness: want --key too, the public key of the log")
	}
	for _, key := range keys {
		text, err := readPublicKey(key)
		if err != nil {
			return err
		}
		by, err := audit.ParseCosigner(text)
		if err != nil {
			return fmt.Errorf("--witness: %w", err)
		}
		v.wanted = append(v.wanted, &cosigner{Cosigner: by})
	}
	return nil
}

// cosigned notes who of the witnesses has cosigned a checkpoint.
func (v *verifier) cosigned(where string, signed []byte, c audit.Checkpoint) {
	for _, w := range v.wanted {
		at, ok, err := w.At(signed)
		switch {
		case err != nil:
			v.fault(where, err.Error())
		case ok && (w.at.IsZero() || c.Size > w.last.Size):
			w.last, w.at = c, at
		}
	}
}

// tell says what the witness has seen; nothing is a fault.
func (w *cosigner) tell(v *verifier) {
	if w.at.IsZero() {
		v.fault("--witness "+w.Name(), "it has cosigned none of the checkpoints that were given")
		return
	}
	fmt.Fprintf(v.out, "%s has cosigned the first %d entries, on %s\n", w.Name(), w.last.Size, w.at.Format(time.RFC3339))
}
