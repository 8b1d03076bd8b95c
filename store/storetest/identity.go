package storetest

import (
	"testing"
	"time"

	"github.com/openleash/openleash-go/identity"
)

func owner(t *testing.T, s Store) identity.Owner {
	t.Helper()
	o, err := s.EnsureOwner(t.Context(), "alice")
	if err != nil {
		t.Fatal(err)
	}
	return o
}

func agent(t *testing.T, s Store, name string) identity.Agent {
	t.Helper()
	a, err := s.EnsureAgent(t.Context(), name, owner(t, s))
	if err != nil {
		t.Fatal(err)
	}
	return a
}

// Two first starts at once make one owner.
func testOwner(t *testing.T, open Open) {
	place := t.TempDir()
	a, b := open(t, place), open(t, place)
	ids := make(chan string, 32)
	for i, err := range race(a, b, func(i int, s Store) error {
		o, err := s.EnsureOwner(t.Context(), "alice")
		ids <- o.ID
		return err
	}) {
		if err != nil {
			t.Errorf("start %d: %v", i, err)
		}
	}
	want := owner(t, a)
	if want.ID == "" || want.Name != "alice" || want.Type != "user" {
		t.Errorf("owner: want a user alice with an id, got %+v", want)
	}
	for range 32 {
		if id := <-ids; id != want.ID {
			t.Errorf("a second owner: %s beside %s", id, want.ID)
		}
	}
	again, err := b.EnsureOwner(t.Context(), "bob")
	if err != nil {
		t.Fatal(err)
	}
	wantSame(t, "owner", want, again)
}

func testAgents(t *testing.T, open Open) {
	s := open(t, t.TempDir())
	o := owner(t, s)
	local, bot := agent(t, s, "local"), agent(t, s, "bot")
	if local.ID == bot.ID || local.OwnerID != o.ID || local.OwnerType != "user" || local.Status != "ACTIVE" || local.TokenHash != [32]byte{} {
		t.Errorf("want two active agents of %s without tokens, got %+v and %+v", o.ID, local, bot)
	}
	if age := time.Since(local.CreatedAt); age < -time.Second || age > time.Minute {
		t.Errorf("agent made %s ago", age)
	}
	wantSame(t, "agent", local, agent(t, s, "local"))
	for _, name := range []string{"", "a b", "../x", ".x"} {
		if _, err := s.EnsureAgent(t.Context(), name, o); err == nil {
			t.Errorf("agent %q: want an error, got none", name)
		}
	}
	if _, err := s.EnsureAgent(t.Context(), "local", identity.Owner{ID: "somebody else"}); err == nil {
		t.Error("an agent was taken over by another owner")
	}
	if _, err := s.EnsureAgent(t.Context(), "stray", identity.Owner{ID: "somebody else"}); err == nil {
		t.Error("an agent was made for an owner that is not there")
	}
	all, err := s.Agents(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	wantSame(t, "agents", []identity.Agent{bot, local}, all)
}

func testTokens(t *testing.T, open Open) {
	s := open(t, t.TempDir())
	agent(t, s, "local")
	bot := agent(t, s, "bot")
	_, err := s.AgentByToken(t.Context(), [32]byte{})
	wantErr(t, "no token", err, identity.ErrNotFound)
	wantErr(t, "unknown agent", s.SetAgentToken(t.Context(), "who", [32]byte{1}), identity.ErrNotFound)

	for _, hash := range [][32]byte{{1}, {2}} {
		if err := s.SetAgentToken(t.Context(), "bot", hash); err != nil {
			t.Fatal(err)
		}
		got, err := s.AgentByToken(t.Context(), hash)
		if err != nil {
			t.Fatal(err)
		}
		bot.TokenHash = hash
		wantSame(t, "agent", bot, got)
	}
	_, err = s.AgentByToken(t.Context(), [32]byte{1})
	wantErr(t, "a replaced token", err, identity.ErrNotFound)
	if err := s.SetAgentToken(t.Context(), "local", [32]byte{2}); err == nil {
		t.Error("two agents have one token")
	}
	if err := s.SetAgentToken(t.Context(), "bot", [32]byte{}); err != nil {
		t.Fatal(err)
	}
	for _, hash := range [][32]byte{{}, {2}} {
		_, err = s.AgentByToken(t.Context(), hash)
		wantErr(t, "a token taken away", err, identity.ErrNotFound)
	}
}

// A process that has asked for a token learns at once that another has replaced it.
func testTokensBetweenProcesses(t *testing.T, open Open) {
	place := t.TempDir()
	s, other := open(t, place), open(t, place)
	agent(t, s, "bot")
	for n := byte(1); n < 20; n++ {
		if err := s.SetAgentToken(t.Context(), "bot", [32]byte{n}); err != nil {
			t.Fatal(err)
		}
		for range 2 { // the second time from memory
			if _, err := other.AgentByToken(t.Context(), [32]byte{n}); err != nil {
				t.Fatalf("token %d: %v", n, err)
			}
		}
		_, err := other.AgentByToken(t.Context(), [32]byte{n - 1})
		wantErr(t, "the former token", err, identity.ErrNotFound)
	}
}
