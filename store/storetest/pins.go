package storetest

import (
	"errors"
	"testing"
	"time"

	"github.com/openleash/openleash-go/action"
	"github.com/openleash/openleash-go/authz"
)

func pin(name string, hash byte, state authz.PinState, text string) authz.Pin {
	p := authz.Pin{Server: "shop", Kind: authz.PinTool, Name: name, Hash: action.Hash{hash}, State: state, Text: []byte(text), Kept: len(text), SeenAt: start}
	if state != authz.PinWaiting {
		p.AnsweredAt, p.AnsweredBy = start.Add(time.Second), "cli:alice"
	}
	return p
}

func pinning(generation int64, change authz.Pinning) authz.Batch {
	change.Owner, change.Server, change.Generation = ownerID, "shop", generation
	return authz.Batch{Pins: &change}
}

func wantBook(t *testing.T, s Store, want authz.PinBook) {
	t.Helper()
	for i := range want.Pins {
		want.Pins[i].Text = nil
	}
	got, err := s.PinBook(t.Context(), ownerID, "shop")
	if err != nil {
		t.Fatal(err)
	}
	wantSame(t, "book", want, got)
	waiting := 0
	for _, p := range want.Pins {
		if p.State == authz.PinWaiting {
			waiting++
		}
	}
	if n, err := s.PinsWaiting(t.Context(), ownerID); err != nil || n != waiting {
		t.Errorf("%d wait, %v; want %d", n, err, waiting)
	}
	n, err := s.PinGeneration(t.Context(), ownerID, "shop")
	if err != nil || n != want.Generation {
		t.Errorf("generation %d, %v; want %d", n, err, want.Generation)
	}
}

func wantText(t *testing.T, s Store, p authz.Pin, want string) {
	t.Helper()
	got, err := s.PinText(t.Context(), ownerID, p)
	if err != nil || string(got) != want {
		t.Errorf("text of %s %s: %q, %v; want %q", p.Name, p.Hash, got, err, want)
	}
}

// What is kept of a server is what was put, less what was dropped, also after a
// restart, and nobody else's.
func testPins(t *testing.T, open Open) {
	place := t.TempDir()
	s := open(t, place)
	wantBook(t, s, authz.PinBook{})
	if _, err := s.PinText(t.Context(), ownerID, pin("buy", 1, authz.PinAccepted, "")); !errors.Is(err, authz.ErrNoPin) {
		t.Errorf("the text of what is not there: %v", err)
	}
	buy, look, other := pin("buy", 1, authz.PinAccepted, `{"name":"buy"}`), pin("look", 1, authz.PinAccepted, ""), pin("buy", 2, authz.PinWaiting, `{"name":"buy","x":1}`)
	look.Text = nil // it was too long
	gone := authz.PinGone{Kind: authz.PinTool, Name: "look", At: start}
	commit(t, s, pinning(0, authz.Pinning{Put: []authz.Pin{look, buy}, Whole: []string{authz.PinTool}}),
		pinning(1, authz.Pinning{Put: []authz.Pin{other}, Gone: []authz.PinGone{gone}}))
	want := authz.PinBook{Generation: 2, Pins: []authz.Pin{buy, other, look}, Whole: []string{authz.PinTool}, Gone: []authz.PinGone{gone}}
	wantBook(t, s, want)
	wantText(t, s, other, `{"name":"buy","x":1}`)
	wantText(t, s, look, "")

	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	s = open(t, place)
	wantBook(t, s, want)
	if servers, err := s.PinServers(t.Context(), ownerID); err != nil || len(servers) != 1 || servers[0] != "shop" {
		t.Errorf("servers %q, %v", servers, err)
	}
	for _, elsewhere := range [][2]string{{ownerID, "mail"}, {"somebody else", "shop"}} {
		if got, err := s.PinBook(t.Context(), elsewhere[0], elsewhere[1]); err != nil || got.Generation != 0 || len(got.Pins) != 0 {
			t.Errorf("of %q: %+v, %v", elsewhere, got, err)
		}
	}

	// An answer keeps the text, and one that comes in another's place takes it.
	said := pin("buy", 2, authz.PinAccepted, "")
	said.Text, said.Kept = nil, other.Kept
	third := pin("look", 3, authz.PinRefused, "[]")
	gone.Back = true
	commit(t, s, pinning(2, authz.Pinning{Drop: []authz.Pin{buy}, Put: []authz.Pin{said, third}, Gone: []authz.PinGone{gone}, Whole: []string{authz.PinTool}}))
	wantBook(t, s, authz.PinBook{Generation: 3, Pins: []authz.Pin{said, look, third}, Whole: []string{authz.PinTool}, Gone: []authz.PinGone{gone}})
	wantText(t, s, said, `{"name":"buy","x":1}`)
	fourth := pin("look", 4, authz.PinWaiting, "[4]")
	commit(t, s, pinning(3, authz.Pinning{Drop: []authz.Pin{third}, Put: []authz.Pin{fourth}}))
	wantBook(t, s, authz.PinBook{Generation: 4, Pins: []authz.Pin{said, look, fourth}, Whole: []string{authz.PinTool}, Gone: []authz.PinGone{gone}})
}

// A change is of the generation that was looked at, whole or not at all, and its
// entries with it.
func testPinCondition(t *testing.T, open Open) {
	s := open(t, t.TempDir())
	first := pinning(0, authz.Pinning{Put: []authz.Pin{pin("buy", 1, authz.PinWaiting, "1")}})
	first.Entries = note("first").Entries
	commit(t, s, first)
	again := pinning(0, authz.Pinning{Put: []authz.Pin{pin("buy", 2, authz.PinAccepted, "2")}})
	again.Entries = note("again").Entries
	wantErr(t, "an older generation", s.Commit(t.Context(), again), authz.ErrPinsChanged)
	again.Pins.Generation = 7
	wantErr(t, "a later generation", s.Commit(t.Context(), again), authz.ErrPinsChanged)
	if err := s.Commit(t.Context(), pinning(1, authz.Pinning{Put: []authz.Pin{pin("buy", 3, authz.PinAccepted, "3"), pin("buy", 4, authz.PinWaiting, "4")}})); err == nil {
		t.Error("two versions of one definition wait")
	}
	wantBook(t, s, authz.PinBook{Generation: 1, Pins: []authz.Pin{pin("buy", 1, authz.PinWaiting, "1")}})
	wantEntries(t, s, "first")
}

// Of two processes that see the same change one writes it down.
func testPinRace(t *testing.T, open Open) {
	place := t.TempDir()
	a, b := open(t, place), open(t, place)
	oneWinner(t, race(a, b, func(i int, s Store) error {
		change := pinning(0, authz.Pinning{Put: []authz.Pin{pin("buy", byte(i+1), authz.PinWaiting, "x")}})
		change.Entries = note("changed").Entries
		return s.Commit(t.Context(), change)
	}), authz.ErrPinsChanged)
	book, err := b.PinBook(t.Context(), ownerID, "shop")
	if err != nil || book.Generation != 1 || len(book.Pins) != 1 {
		t.Errorf("%+v, %v", book, err)
	}
	wantEntries(t, a, "changed")
}
