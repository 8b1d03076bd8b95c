package authz

import (
	"context"
	"crypto/sha256"
	"errors"
	"slices"
	"strings"
	"time"

	"github.com/openleash/openleash-go/action"
)

// What a server says of its tools, prompts and resources is what models go by, and
// a server can say something else tomorrow than on the day when its owner looked at
// it. So each definition is pinned: its hash is kept, and one that is another, or
// came later, waits until the owner has accepted it.
//
//   - What a server lists before its whole list of a kind has been seen once is
//     accepted (FirstUse). From then on a name that was not there is new.
//   - A name has the versions that were accepted, so that two agents to which a
//     server speaks differently do not undo each other's; and at most one that
//     was not: it waits, or was refused. While there is such a one, calls are
//     blocked, whatever else is listed to whomever.
//   - To accept what was accepted already drops the one that was not. If it is
//     listed again, it waits again.
//   - Of resources new ones come all day: they are accepted as they come.

// Kinds of definitions.
const (
	PinTool     = "tool"
	PinPrompt   = "prompt"
	PinResource = "resource"
	PinTemplate = "template" // of resources
)

// blocksNew tells the kinds of which a new one waits.
func blocksNew(kind string) bool { return kind == PinTool || kind == PinPrompt }

// PinState is what the owner has said of a version of a definition.
type PinState string

const (
	PinAccepted PinState = "accepted"
	PinWaiting  PinState = "waiting"
	PinRefused  PinState = "refused"
)

// FirstUse stands for the owner where a definition was accepted because it was
// there from the beginning.
const FirstUse = "first use"

// A Pin is one version of one definition.
type Pin struct {
	Server     string
	Kind       string
	Name       string // of a resource its URI; a long one is cut (PinName)
	Hash       action.Hash
	State      PinState
	Text       []byte // canonical; nil: too long to be kept. Of a PinBook: nil
	Kept       int    // the length of the text that is kept
	SeenAt     time.Time
	AnsweredAt time.Time
	AnsweredBy string // "cli:root", "portal:alice", FirstUse
}

// A PinGone is a definition that was not in its server's list any more.
type PinGone struct {
	Kind string
	Name string
	At   time.Time
	Back bool // it is there again
}

// A PinBook is all that is kept of one server. Its generation is another after each
// change of it; 0: nothing is kept.
type PinBook struct {
	Generation int64
	Pins       []Pin    // by kind, name and time
	Whole      []string // kinds of which the whole list has been seen
	Gone       []PinGone
}

// A Pinning changes what is kept of a server. Condition: the book is still of that
// generation (ErrPinsChanged).
type Pinning struct {
	Server     string
	Owner      string
	Generation int64
	Put        []Pin // in the place of the version with the same hash, if there is one
	Drop       []Pin // by kind, name and hash
	Whole      []string
	Gone       []PinGone // in the place of what is kept of the same name
}

// PinTopic is the topic of changes of a server's pins, for [approvals.Watcher].
func PinTopic(owner, server string) string { return "pins " + owner + " " + server }

// PinReader looks at pins; the store implements it.
type PinReader interface {
	PinGeneration(ctx context.Context, owner, server string) (int64, error)
	PinBook(ctx context.Context, owner, server string) (PinBook, error)
	// PinText is the text of a version; nil when none is kept.
	PinText(ctx context.Context, owner string, p Pin) ([]byte, error)
	// PinServers are those of which anything is kept, in order.
	PinServers(ctx context.Context, owner string) ([]string, error)
	// PinsWaiting is how many definitions wait for the owner.
	PinsWaiting(ctx context.Context, owner string) (int, error)
}

// Errors of pins.
var (
	ErrPinsChanged = errors.New("the pins have changed meanwhile")
	ErrNoPin       = errors.New("no such definition was listed by this server")
	ErrOtherPin    = errors.New("this is not the definition that waits: look at it again")
	ErrNothingWait = errors.New("nothing of it waits")
)

const (
	// maxPinName bounds a name, maxPinText what is kept of a definition, and
	// maxPinTexts what is kept of a server's in all.
	maxPinName  = 512
	maxPinText  = 256 << 10
	maxPinTexts = 16 << 20
	// maxPins is how many definitions of a kind are kept of a server.
	maxPins = 10_000
	// maxVersions is how many accepted versions of one are kept, the newest.
	maxVersions = 8
)

// PinName is a name as pins have it.
func PinName(name string) string {
	if len(name) <= maxPinName {
		return name
	}
	hash := "…" + action.Hash(sha256.Sum256([]byte(name))).String()
	return strings.ToValidUTF8(name[:maxPinName-len(hash)], "") + hash
}

// Versions are those of one definition.
type Versions struct {
	Kind     string
	Name     string
	Accepted []Pin   // the oldest first
	Pending  *Pin    // waits, or was refused; nil: neither
	Gone     PinGone // as it was noted last; zero: never
}

// State is what policies are told: accepted, new, changed or refused.
func (v Versions) State() string {
	switch {
	case v.Pending == nil:
		return string(PinAccepted)
	case v.Pending.State == PinRefused:
		return string(PinRefused)
	case len(v.Accepted) == 0:
		return "new"
	}
	return "changed"
}

// Waits reports whether the owner is asked.
func (v Versions) Waits() bool { return v.Pending != nil && v.Pending.State == PinWaiting }

// Latest is the version that was accepted last; nil: none.
func (v Versions) Latest() *Pin {
	if len(v.Accepted) == 0 {
		return nil
	}
	return &v.Accepted[len(v.Accepted)-1]
}

// Find returns the version of that hash; nil: it is none.
func (v Versions) Find(hash action.Hash) *Pin {
	if v.Pending != nil && v.Pending.Hash == hash {
		return v.Pending
	}
	i := slices.IndexFunc(v.Accepted, func(p Pin) bool { return p.Hash == hash })
	if i < 0 {
		return nil
	}
	return &v.Accepted[i]
}

// All are the definitions of a book, in the order of their kinds and names.
func (b PinBook) All() (list []Versions) {
	gone := map[pinKey]PinGone{}
	for _, g := range b.Gone {
		gone[pinKey{g.Kind, g.Name}] = g
	}
	at := map[pinKey]int{}
	for _, p := range b.Pins {
		key := pinKey{p.Kind, p.Name}
		i, known := at[key]
		if !known {
			i = len(list)
			at[key], list = i, append(list, Versions{Kind: p.Kind, Name: p.Name, Gone: gone[key]})
		}
		if p.State == PinAccepted {
			list[i].Accepted = append(list[i].Accepted, p)
		} else {
			list[i].Pending = &p
		}
	}
	for _, v := range list {
		slices.SortStableFunc(v.Accepted, func(a, b Pin) int { return a.AnsweredAt.Compare(b.AnsweredAt) })
	}
	return list
}

// Find returns the versions of one definition.
func (b PinBook) Find(kind, name string) (Versions, bool) {
	for _, v := range b.All() {
		if v.Kind == kind && v.Name == PinName(name) {
			return v, true
		}
	}
	return Versions{}, false
}

type pinKey struct{ kind, name string }

// IsGone reports whether the server does not list it any more.
func (v Versions) IsGone() bool { return !v.Gone.At.IsZero() && !v.Gone.Back }
