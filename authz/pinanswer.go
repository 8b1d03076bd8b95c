package authz

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/openleash/openleash-go/action"
	"github.com/openleash/openleash-go/audit"
)

// A PinAnswer is an owner's word on the version of a definition that they were
// shown.
type PinAnswer struct {
	Server string
	Kind   string
	Name   string
	Hash   action.Hash
	Accept bool
}

// AnswerPin records it. by names the person and the door, as in Answer. Accepting
// what was accepted already drops what waits or was refused in its place.
func (s *Service) AnswerPin(ctx context.Context, by string, a PinAnswer) (Versions, error) {
	err := ErrPinsChanged
	for tries := 0; tries < attempts && errors.Is(err, ErrPinsChanged); tries++ {
		var book PinBook
		if book, err = s.cfg.Store.PinBook(ctx, s.cfg.Owner.ID, a.Server); err != nil {
			return Versions{}, err
		}
		v, kept := book.Find(a.Kind, a.Name)
		if !kept {
			return Versions{}, ErrNoPin
		}
		now := s.cfg.Now().UTC().Truncate(time.Millisecond)
		change := Pinning{Owner: s.cfg.Owner.ID, Server: a.Server, Generation: book.Generation}
		if err = answerPin(&change, v, a, by, now); err != nil {
			return v, err
		}
		err = s.commit(ctx, Batch{Pins: &change, Entries: []audit.Entry{s.pinAnswerEntry(v, a, by, now)}})
	}
	if err != nil {
		return Versions{}, err
	}
	book, err := s.cfg.Store.PinBook(ctx, s.cfg.Owner.ID, a.Server)
	v, _ := book.Find(a.Kind, a.Name)
	return v, err
}

// answerPin says what becomes of the versions.
func answerPin(change *Pinning, v Versions, a PinAnswer, by string, now time.Time) error {
	pending := v.Pending
	switch {
	case pending == nil:
		return ErrNothingWait
	case pending.Hash != a.Hash && (!a.Accept || v.Find(a.Hash) == nil):
		return ErrOtherPin
	case pending.Hash != a.Hash:
		change.Drop = []Pin{*pending}
		return nil
	}
	said := *pending
	said.State, said.AnsweredAt, said.AnsweredBy = PinRefused, now, by
	if a.Accept {
		said.State = PinAccepted
		if n := len(v.Accepted) + 1 - maxVersions; n > 0 {
			change.Drop = slices.Clone(v.Accepted[:n])
		}
	}
	change.Put = []Pin{said}
	return nil
}

func (s *Service) pinAnswerEntry(v Versions, a PinAnswer, by string, now time.Time) audit.Entry {
	event, detail := "definition.refused", fmt.Sprintf("%s: %s", a.Kind, a.Hash)
	if a.Accept {
		event = "definition.accepted"
	}
	if v.Pending.Hash != a.Hash {
		detail += fmt.Sprintf(", as before; %s is dropped", v.Pending.Hash)
	} else if latest := v.Latest(); latest != nil {
		detail += fmt.Sprintf(", after %s", latest.Hash)
	}
	return audit.Entry{
		TS: timestamp(now), Event: event, ActorType: "owner", ActorID: by, OwnerID: s.cfg.Owner.ID,
		Server: a.Server, Tool: PinName(a.Name), Approver: by, Detail: detail,
	}
}

// A PinView is what is kept of a server, as its owner looks at it.
type PinView struct {
	Server string
	All    []Versions
}

// LookAtPins tells what is kept of all servers.
func LookAtPins(ctx context.Context, r PinReader, owner string) (list []PinView, err error) {
	servers, err := r.PinServers(ctx, owner)
	if err != nil {
		return nil, err
	}
	for _, server := range servers {
		book, err := r.PinBook(ctx, owner, server)
		if err != nil {
			return nil, err
		}
		list = append(list, PinView{server, book.All()})
	}
	return list, nil
}

// PinDefinition parses a text that is kept of a definition. Missing: none is.
func PinDefinition(text []byte) action.Value {
	v, err := action.Parse(text, action.Limits{Bytes: 2 * maxPinText, Depth: 1 << 10, CaseTwins: true})
	if err != nil {
		return action.Value{}
	}
	return v
}

// Waiting are those about which the owner is asked.
func (v PinView) Waiting() (list []Versions) {
	for _, d := range v.All {
		if d.Waits() {
			list = append(list, d)
		}
	}
	return list
}
