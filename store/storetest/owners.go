package storetest

import (
	"errors"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/openleash/openleash-go/audit"
	"github.com/openleash/openleash-go/identity"
	"github.com/openleash/openleash-go/owners"
)

func change(t *testing.T, s Store, changes ...owners.Change) {
	t.Helper()
	for _, c := range changes {
		if err := s.Change(t.Context(), c); err != nil {
			t.Fatal(err)
		}
	}
}

// user makes a user beside the installation's owner.
func user(t *testing.T, s Store, name, email string, roles ...string) identity.User {
	t.Helper()
	u := identity.User{
		Owner: identity.Owner{ID: uuid.NewString(), Type: identity.TypeUser, Name: name}, Email: email,
		Roles: append([]string{}, roles...), Status: identity.UserActive, CreatedAt: start,
	}
	change(t, s, owners.Change{Add: &u})
	return u
}

func wantUser(t *testing.T, s Store, login string, want identity.User) {
	t.Helper()
	got, err := s.FindUser(t.Context(), login)
	if err != nil {
		t.Fatalf("finding %q: %v", login, err)
	}
	wantSame(t, "user "+login, want, got)
}

func testUsers(t *testing.T, open Open) {
	s := open(t, t.TempDir())
	first, err := s.User(t.Context(), owner(t, s).ID)
	if err != nil {
		t.Fatal(err)
	}
	if !first.Admin() || first.Status != identity.UserActive || first.HasPassphrase || first.HasFactor || first.Email != "" || time.Since(first.CreatedAt) > time.Minute {
		t.Errorf("the installation's owner: want an active admin who has nothing yet, got %+v", first)
	}
	bob := user(t, s, "Bob Ek", "bob@example.com")
	for _, login := range []string{"Bob Ek", "bob ek", "BOB@example.com", bob.ID} {
		wantUser(t, s, login, bob)
	}
	for _, login := range []string{"", "bob", "bob@example", uuid.NewString()} {
		_, err := s.FindUser(t.Context(), login)
		wantErr(t, login, err, identity.ErrNotFound)
	}
	for _, other := range []identity.User{{Owner: identity.Owner{Name: "BOB ek"}}, {Owner: identity.Owner{Name: "carl"}, Email: "bob@example.com"}} {
		other.ID, other.Type, other.Status = uuid.NewString(), identity.TypeUser, identity.UserActive
		wantErr(t, "a taken name or address", s.Change(t.Context(), owners.Change{Add: &other}), identity.ErrTaken)
	}
	user(t, s, "carl", "") // no address is nobody's
	user(t, s, "dora", "")
	bob.Name, bob.Email, bob.Status = "Robert", "", identity.UserDisabled
	set := owners.Setting{OwnerID: bob.ID, Patch: owners.Patch{Name: &bob.Name, Email: &bob.Email, Status: &bob.Status}}
	change(t, s, owners.Change{Set: &set, Notice: &owners.Notice{OwnerID: bob.ID, Text: "so it is"}})
	bob.Notice = "so it is"
	wantUser(t, s, "robert", bob)
	change(t, s, owners.Change{Notice: &owners.Notice{OwnerID: bob.ID, Text: "and so"}})
	wantErr(t, "dismissing what was shown before", s.Change(t.Context(), owners.Change{Notice: &owners.Notice{OwnerID: bob.ID, Shown: "so it is"}}), identity.ErrNotFound)
	bob.Notice = "so it is\nand so"
	wantUser(t, s, "robert", bob)
	change(t, s, owners.Change{Notice: &owners.Notice{OwnerID: bob.ID, Shown: bob.Notice}})
	bob.Notice = ""
	wantUser(t, s, "robert", bob)
	// What a change does not name stays as it is now.
	roles := []string{identity.RoleAdmin}
	change(t, s, owners.Change{Set: &owners.Setting{OwnerID: bob.ID, Patch: owners.Patch{Roles: &roles}}})
	address := "rob@example.com"
	change(t, s, owners.Change{Set: &owners.Setting{OwnerID: bob.ID, Patch: owners.Patch{Email: &address}}})
	bob.Roles, bob.Email = roles, address
	wantUser(t, s, "rob@example.com", bob)
	dora := "Dora"
	wantErr(t, "taking a name", s.Change(t.Context(), owners.Change{Set: &owners.Setting{OwnerID: bob.ID, Patch: owners.Patch{Name: &dora}}}), identity.ErrTaken)
	wantErr(t, "nobody", s.Change(t.Context(), owners.Change{Set: &owners.Setting{OwnerID: uuid.NewString()}}), identity.ErrNotFound)
	all, err := s.Users(t.Context())
	if err != nil || len(all) != 4 || all[0].ID != first.ID || all[3].Name != "dora" {
		t.Errorf("users: %+v, %v", all, err)
	}
}

// One active admin is left, also when two resign at once.
func testLastAdmin(t *testing.T, open Open) {
	place := t.TempDir()
	a, b := open(t, place), open(t, place)
	first, err := a.User(t.Context(), owner(t, a).ID)
	if err != nil {
		t.Fatal(err)
	}
	user(t, a, "bob", "")
	none, disabled := []string{}, identity.UserDisabled
	for _, last := range []owners.Patch{{Status: &disabled}, {Roles: &none}} {
		wantErr(t, "the last admin", a.Change(t.Context(), owners.Change{Set: &owners.Setting{OwnerID: first.ID, Patch: last}}), identity.ErrLastAdmin)
	}
	other := user(t, a, "carl", "", identity.RoleAdmin)
	oneWinner(t, race(a, b, func(i int, s Store) error {
		resigns := map[int]identity.User{0: first, 3: other}[i] // of each store one
		if resigns.ID == "" {
			return identity.ErrLastAdmin
		}
		return s.Change(t.Context(), owners.Change{Set: &owners.Setting{OwnerID: resigns.ID, Patch: owners.Patch{Roles: &none}}})
	}), identity.ErrLastAdmin)
}

func testPassphrase(t *testing.T, open Open) {
	s := open(t, t.TempDir())
	id := owner(t, s).ID
	wantHash := func(want string) {
		t.Helper()
		got, err := s.PassphraseHash(t.Context(), id)
		if err != nil || got != want {
			t.Errorf("hash %q, %v; want %q", got, err, want)
		}
	}
	wantHash("")
	none, one := "", "$one"
	change(t, s, owners.Change{Secret: &owners.Secret{OwnerID: id, Hash: "$one", Former: &none}})
	wantErr(t, "another was first", s.Change(t.Context(), owners.Change{Secret: &owners.Secret{OwnerID: id, Hash: "$two", Former: &none}}), identity.ErrNotFound)
	wantHash("$one")
	change(t, s, owners.Change{Secret: &owners.Secret{OwnerID: id, Hash: "$two", Former: &one}})
	wantHash("$two")
	change(t, s, owners.Change{Secret: &owners.Secret{OwnerID: id}})
	wantHash("")
	wantErr(t, "nobody", s.Change(t.Context(), owners.Change{Secret: &owners.Secret{OwnerID: "nobody", Hash: "$x"}}), identity.ErrNotFound)
	_, err := s.PassphraseHash(t.Context(), "nobody")
	wantErr(t, "nobody's", err, identity.ErrNotFound)
}

// A change of which one condition does not hold leaves nothing behind, in the log neither.
func testChangeIsWhole(t *testing.T, open Open) {
	s := open(t, t.TempDir())
	o := owner(t, s)
	entry := []audit.Entry{{TS: "2026-05-05T13:42:11.007Z", Event: "test", ActorType: "owner", ActorID: "alice", Detail: "the change"}}
	wantErr(t, "a session that is not there", s.Change(t.Context(), owners.Change{
		Secret: &owners.Secret{OwnerID: o.ID, Hash: "$one"}, Notice: &owners.Notice{OwnerID: o.ID, Text: "x"},
		End: &owners.Ending{OwnerID: o.ID, ID: "none"}, Entries: entry,
	}), identity.ErrNotFound)
	u, err := s.User(t.Context(), o.ID)
	if err != nil || u.HasPassphrase || u.Notice != "" {
		t.Errorf("half a change was made: %+v, %v", u, err)
	}
	if left, _, err := s.Unsequenced(t.Context(), 10); err != nil || len(left) != 0 {
		t.Errorf("a change that was not made is in the log: %v, %v", left, err)
	}
	change(t, s, owners.Change{Notice: &owners.Notice{OwnerID: o.ID, Text: "x"}, Entries: entry})
	if left, _, err := s.Unsequenced(t.Context(), 10); err != nil || len(left) != 1 {
		t.Errorf("a change that was made: want one entry, got %v, %v", left, err)
	}
}

func link(n byte, o identity.Owner, until time.Time) owners.Change {
	return owners.Change{Link: &owners.Link{Hash: [32]byte{n}, Kind: identity.LinkSignIn, OwnerID: o.ID, Until: until}}
}

func session(id string, o identity.Owner, until time.Time) *identity.Session {
	return &identity.Session{
		ID: id, OwnerID: o.ID, OwnerType: o.Type, Name: o.Name, Roles: []string{identity.RoleAdmin},
		BeganAt: start, SeenAt: start, Expires: until, Address: "127.0.0.1", Agent: "Firefox",
	}
}

// redeemLink spends a link for a session.
func redeemLink(n byte, kind identity.LinkKind, now time.Time, s *identity.Session) owners.Change {
	return owners.Change{Spend: &owners.Spend{Hash: [32]byte{n}, Kind: kind, Now: now}, Start: s}
}

func testLinks(t *testing.T, open Open) {
	s := open(t, t.TempDir())
	o := owner(t, s)
	until, end := start.Add(5*time.Minute), start.Add(time.Hour)
	change(t, s, link(1, o, until), link(2, o, until), link(3, o, until))
	setup := owners.Link{Hash: [32]byte{4}, ID: "the id", Kind: identity.LinkSetup, OwnerID: o.ID, Until: until}
	change(t, s, owners.Change{Link: &setup})

	for what, c := range map[string]owners.Change{
		"an unknown link":          redeemLink(9, identity.LinkSignIn, start, session("a", o, end)),
		"a link over its time":     redeemLink(1, identity.LinkSignIn, until, session("a", o, end)),
		"a set-up link to come in": redeemLink(4, identity.LinkSignIn, start, session("a", o, end)),
		"a sign-in link to set up": redeemLink(1, identity.LinkSetup, start, session("a", o, end)),
	} {
		wantErr(t, what, s.Change(t.Context(), c), identity.ErrNotFound)
	}
	_, err := s.Session(t.Context(), "a", start)
	wantErr(t, "a session of no link", err, identity.ErrNotFound)
	change(t, s, redeemLink(1, identity.LinkSignIn, until.Add(-time.Millisecond), session("b", o, end)))
	got, err := s.Session(t.Context(), "b", start)
	if err != nil {
		t.Fatal(err)
	}
	wantSame(t, "session", *session("b", o, end), got)
	wantErr(t, "a spent link", s.Change(t.Context(), redeemLink(1, identity.LinkSignIn, start, nil)), identity.ErrSpent)

	found, err := s.LinkByID(t.Context(), "the id")
	if err != nil {
		t.Fatal(err)
	}
	wantSame(t, "set-up link", setup, found)
	change(t, s, redeemLink(4, identity.LinkSetup, start, nil))
	if found, err = s.Link(t.Context(), [32]byte{4}); err != nil || !found.Spent {
		t.Errorf("a spent set-up link: %+v, %v", found, err)
	}
	change(t, s, owners.Change{Void: o.ID})
	wantErr(t, "a void link", s.Change(t.Context(), redeemLink(2, identity.LinkSignIn, start, nil)), identity.ErrNotFound)
	if err := s.Change(t.Context(), link(5, identity.Owner{ID: "nobody"}, until)); err == nil {
		t.Error("a link was made for an owner that is not there")
	}
}

func testLinkRace(t *testing.T, open Open) {
	place := t.TempDir()
	a, b := open(t, place), open(t, place)
	o := owner(t, a)
	change(t, a, link(1, o, start.Add(time.Minute)))
	id := func(i int) string { return "session " + string(rune('A'+i)) }
	winner := oneWinner(t, race(a, b, func(i int, s Store) error {
		return s.Change(t.Context(), redeemLink(1, identity.LinkSignIn, start, session(id(i), o, start.Add(time.Hour))))
	}), identity.ErrSpent)
	for i := range 32 {
		_, err := a.Session(t.Context(), id(i), start)
		if (err == nil) != (i == winner) || err != nil && !errors.Is(err, identity.ErrNotFound) {
			t.Errorf("link %d won; session %d: %v", winner, i, err)
		}
	}
}

// A link alone does not sign in who has a second factor, and is still good then.
func testLinkWithFactor(t *testing.T, open Open) {
	s := open(t, t.TempDir())
	o := owner(t, s)
	enrol(t, s, o.ID, 1)
	change(t, s, link(1, o, start.Add(time.Minute)))
	c := redeemLink(1, identity.LinkSignIn, start, session("a", o, start.Add(time.Hour)))
	wantErr(t, "a link alone", s.Change(t.Context(), c), identity.ErrFactorRequired)
	c.Proved = true
	change(t, s, c)
	wantErr(t, "a session alone", s.Change(t.Context(), owners.Change{Start: session("b", o, start.Add(time.Hour))}), identity.ErrFactorRequired)
	change(t, s, owners.Change{Proved: true, Start: session("b", o, start.Add(time.Hour))})
}

func testSessions(t *testing.T, open Open) {
	s := open(t, t.TempDir())
	o, end := owner(t, s), start.Add(time.Hour)
	bob := user(t, s, "bob", "")
	for _, id := range []string{"a", "b", "c"} {
		change(t, s, owners.Change{Start: session(id, o, end)})
	}
	change(t, s, owners.Change{Start: session("d", bob.Owner, end)})
	want := session("a", o, end)
	got, err := s.Session(t.Context(), "a", end.Add(-time.Millisecond))
	if err != nil {
		t.Fatal(err)
	}
	wantSame(t, "session", *want, got)
	_, err = s.Session(t.Context(), "a", end)
	wantErr(t, "a session over its time", err, identity.ErrNotFound)

	if err := s.SeenSession(t.Context(), "b", start.Add(time.Minute)); err != nil {
		t.Fatal(err)
	}
	wantErr(t, "seeing no session", s.SeenSession(t.Context(), "none", start), identity.ErrNotFound)
	wantSessions(t, s, o.ID, "b", "a", "c")
	wantErr(t, "ending another's session", s.Change(t.Context(), owners.Change{End: &owners.Ending{OwnerID: bob.ID, ID: "a"}}), identity.ErrNotFound)
	change(t, s, owners.Change{End: &owners.Ending{OwnerID: o.ID, ID: "a"}})
	_, err = s.Session(t.Context(), "a", start)
	wantErr(t, "an ended session", err, identity.ErrNotFound)
	change(t, s, owners.Change{End: &owners.Ending{OwnerID: o.ID, But: "c"}})
	wantSessions(t, s, o.ID, "c")
	change(t, s, owners.Change{End: &owners.Ending{OwnerID: o.ID}})
	wantSessions(t, s, o.ID)
	wantSessions(t, s, bob.ID, "d")
}

func wantSessions(t *testing.T, s Store, ownerID string, want ...string) {
	t.Helper()
	list, err := s.Sessions(t.Context(), ownerID, start)
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, one := range list {
		got = append(got, one.ID)
	}
	wantSame(t, "sessions", want, got)
}

// Who is disabled is signed in nowhere from that moment, and cannot come in.
func testSessionsOfDisabled(t *testing.T, open Open) {
	place := t.TempDir()
	s, other := open(t, place), open(t, place)
	owner(t, s)
	bob := user(t, s, "bob", "")
	admin := user(t, s, "carl", "", identity.RoleAdmin)
	change(t, s, owners.Change{Start: session("a", bob.Owner, start.Add(time.Hour))}, owners.Change{Start: session("b", admin.Owner, start.Add(time.Hour))})
	disabled, none := identity.UserDisabled, []string{}
	change(t, s, owners.Change{Set: &owners.Setting{OwnerID: bob.ID, Patch: owners.Patch{Status: &disabled}}})
	_, err := other.Session(t.Context(), "a", start)
	wantErr(t, "a session of who is disabled", err, identity.ErrNotFound)
	wantErr(t, "a new one", s.Change(t.Context(), owners.Change{Start: session("c", bob.Owner, start.Add(time.Hour))}), identity.ErrNotFound)
	// A role that was taken away is gone from the session too.
	change(t, s, owners.Change{Set: &owners.Setting{OwnerID: admin.ID, Patch: owners.Patch{Roles: &none}}})
	if got, err := other.Session(t.Context(), "b", start); err != nil || got.Admin() {
		t.Errorf("a former admin's session: %+v, %v", got, err)
	}
}

// enrol sets up a second factor with one backup code.
func enrol(t *testing.T, s Store, ownerID string, n byte) {
	t.Helper()
	secret := []byte{n, 2, 3}
	change(t, s,
		owners.Change{Propose: &owners.Proposal{OwnerID: ownerID, Secret: secret, Codes: [][32]byte{{n}, {n, 1}}, Replaces: n > 1, Until: start.Add(time.Minute)}},
		owners.Change{Confirm: &owners.Confirmation{OwnerID: ownerID, Secret: secret, Step: 100, Now: start}})
}

func testFactor(t *testing.T, open Open) {
	s := open(t, t.TempDir())
	id := owner(t, s).ID
	_, err := s.TOTP(t.Context(), id)
	wantErr(t, "no factor", err, identity.ErrNotFound)
	wantErr(t, "a step of none", s.SpendStep(t.Context(), id, []byte{1, 2, 3}, 1), identity.ErrNotFound)
	enrol(t, s, id, 1)
	known, err := s.TOTP(t.Context(), id)
	if err != nil {
		t.Fatal(err)
	}
	wantSame(t, "factor", identity.TOTP{Secret: []byte{1, 2, 3}, LastStep: 100}, known)
	for _, step := range []int64{99, 100} {
		wantErr(t, "a used step", s.SpendStep(t.Context(), id, known.Secret, step), identity.ErrNotFound)
	}
	if err := s.SpendStep(t.Context(), id, known.Secret, 102); err != nil {
		t.Fatal(err)
	}
	wantErr(t, "the same step", s.SpendStep(t.Context(), id, known.Secret, 102), identity.ErrNotFound)
	wantErr(t, "an earlier step", s.SpendStep(t.Context(), id, known.Secret, 101), identity.ErrNotFound)
	wantErr(t, "a step of another secret", s.SpendStep(t.Context(), id, []byte{9}, 103), identity.ErrNotFound)

	wantErr(t, "an unknown backup code", s.SpendBackupCode(t.Context(), id, [32]byte{9}, start), identity.ErrNotFound)
	if err := s.SpendBackupCode(t.Context(), id, [32]byte{1}, start); err != nil {
		t.Fatal(err)
	}
	wantErr(t, "a used backup code", s.SpendBackupCode(t.Context(), id, [32]byte{1}, start), identity.ErrNotFound)
	if n, err := s.BackupCodesLeft(t.Context(), id); err != nil || n != 1 {
		t.Errorf("backup codes left: %d, %v; want 1", n, err)
	}
	change(t, s, owners.Change{Drop: id})
	_, err = s.TOTP(t.Context(), id)
	wantErr(t, "a dropped factor", err, identity.ErrNotFound)
	wantErr(t, "its backup code", s.SpendBackupCode(t.Context(), id, [32]byte{1, 1}, start), identity.ErrNotFound)
}

func testFactorSetup(t *testing.T, open Open) {
	s := open(t, t.TempDir())
	id := owner(t, s).ID
	first := owners.Proposal{OwnerID: id, Secret: []byte{1}, Codes: [][32]byte{{1}}, Until: start.Add(time.Minute)}
	confirm := func(secret byte, now time.Time) owners.Change {
		return owners.Change{Confirm: &owners.Confirmation{OwnerID: id, Secret: []byte{secret}, Step: 7, Now: now}}
	}
	wantErr(t, "nothing to confirm", s.Change(t.Context(), confirm(1, start)), identity.ErrNotFound)
	change(t, s, owners.Change{Propose: &first})
	if u, err := s.User(t.Context(), id); err != nil || u.HasFactor {
		t.Errorf("a proposal is no factor: %+v, %v", u, err)
	}
	got, err := s.Proposal(t.Context(), id, start)
	if err != nil {
		t.Fatal(err)
	}
	wantSame(t, "proposal", first, got)
	_, err = s.Proposal(t.Context(), id, first.Until)
	wantErr(t, "a proposal over its time", err, identity.ErrNotFound)
	wantErr(t, "confirming late", s.Change(t.Context(), confirm(1, first.Until)), identity.ErrNotFound)
	wantErr(t, "confirming another", s.Change(t.Context(), confirm(2, start)), identity.ErrNotFound)
	change(t, s, confirm(1, start))
	if u, err := s.User(t.Context(), id); err != nil || !u.HasFactor {
		t.Errorf("a confirmed factor: %+v, %v", u, err)
	}
	wantErr(t, "confirming twice", s.Change(t.Context(), confirm(1, start)), identity.ErrNotFound)

	// One that was proposed without the present factor does not replace it.
	second := first
	second.Secret = []byte{2}
	change(t, s, owners.Change{Propose: &second})
	wantErr(t, "replacing without the factor", s.Change(t.Context(), confirm(2, start)), identity.ErrNotFound)
	second.Replaces = true
	change(t, s, owners.Change{Propose: &second}, confirm(2, start))
	known, err := s.TOTP(t.Context(), id)
	if err != nil {
		t.Fatal(err)
	}
	wantSame(t, "the new factor", identity.TOTP{Secret: []byte{2}, LastStep: 7}, known)
}

// A code that comes many times at once, to two processes, works once.
func testFactorRace(t *testing.T, open Open) {
	place := t.TempDir()
	a, b := open(t, place), open(t, place)
	id := owner(t, a).ID
	enrol(t, a, id, 1)
	oneWinner(t, race(a, b, func(_ int, s Store) error { return s.SpendStep(t.Context(), id, []byte{1, 2, 3}, 101) }), identity.ErrNotFound)
	oneWinner(t, race(a, b, func(_ int, s Store) error { return s.SpendBackupCode(t.Context(), id, [32]byte{1}, start) }), identity.ErrNotFound)
}

var guessing = identity.Limit{Key: "code:x", Free: 3, Wait: time.Minute, MaxWait: 3 * time.Minute}

func wantTooMany(t *testing.T, what string, err error, until time.Time) {
	t.Helper()
	var e *identity.TooManyError
	if !errors.As(err, &e) || !errors.Is(err, identity.ErrTooMany) || !e.Until.Equal(until) {
		t.Errorf("%s: want to be sent away until %s, got %v", what, until, err)
	}
}

func testAttempts(t *testing.T, open Open) {
	place := t.TempDir()
	s := open(t, place)
	try := func(now time.Time) error { return s.Try(t.Context(), now, guessing) }
	for range guessing.Free {
		if err := try(start); err != nil {
			t.Fatal(err)
		}
	}
	now := start
	for _, wait := range []time.Duration{time.Minute, 2 * time.Minute, 3 * time.Minute, 3 * time.Minute} {
		until := now.Add(wait)
		wantTooMany(t, "guessing on", try(until.Add(-time.Millisecond)), until)
		s.Close()
		s = open(t, place) // a restart forgives nothing
		wantTooMany(t, "guessing after a restart", try(until.Add(-time.Millisecond)), until)
		other := guessing
		other.Key = "code:y"
		wantTooMany(t, "with another key", s.Try(t.Context(), now, other, guessing), until)
		if err := try(until); err != nil {
			t.Fatal(err)
		}
		now = until
	}
	if err := s.Untry(t.Context(), guessing.Key, "none"); err != nil {
		t.Fatal(err)
	}
	if err := try(now); err != nil {
		t.Errorf("after a try that was none: %v", err)
	}
	wantTooMany(t, "and once more", try(now), now.Add(guessing.MaxWait))
	if err := s.Forgive(t.Context(), guessing.Key); err != nil {
		t.Fatal(err)
	}
	for range guessing.Free {
		if err := try(now); err != nil {
			t.Errorf("after all was forgiven: %v", err)
		}
	}
	if err := try(guessing.Forget(now)); err != nil {
		t.Errorf("after all was forgotten: %v", err)
	}
	if err := try(guessing.Forget(now)); err != nil {
		t.Errorf("it was not forgotten whole: %v", err)
	}
}

// Of many guesses at once, in two processes, no more than the free ones are made.
func testAttemptsRace(t *testing.T, open Open) {
	place := t.TempDir()
	a, b := open(t, place), open(t, place)
	made := 0
	for _, err := range race(a, b, func(_ int, s Store) error { return s.Try(t.Context(), start, guessing) }) {
		if err == nil {
			made++
		} else {
			wantErr(t, "a guess too many", err, identity.ErrTooMany)
		}
	}
	if made != guessing.Free {
		t.Errorf("%d guesses were made at once, want %d", made, guessing.Free)
	}
}
