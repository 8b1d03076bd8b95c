package identity_test

import (
	"errors"
	"fmt"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/pquerna/otp/totp"

	"github.com/openleash/openleash-go/identity"
	"github.com/openleash/openleash-go/owners"
	"github.com/openleash/openleash-go/store/sqlite"
)

// A bench is an owner with a second factor, in a store that several processes open.
type bench struct {
	dir     string
	ownerID string
	secret  identity.TOTP
	codes   []string
	now     time.Time
}

func newBench(t *testing.T) *bench {
	t.Helper()
	b := &bench{dir: filepath.Join(t.TempDir(), "data"), secret: identity.NewTOTP(), codes: identity.NewBackupCodes(), now: time.Now()}
	s := b.open(t)
	o, err := s.EnsureOwner(t.Context(), "alice")
	if err != nil {
		t.Fatal(err)
	}
	b.ownerID = o.ID
	p := owners.Proposal{OwnerID: o.ID, Secret: b.secret.Secret, Until: b.now.Add(time.Hour)}
	for _, code := range b.codes {
		p.Codes = append(p.Codes, identity.HashBackupCode(o.ID, code))
	}
	for _, c := range []owners.Change{{Propose: &p}, {Confirm: &owners.Confirmation{OwnerID: o.ID, Secret: p.Secret, Step: 1, Now: b.now}}} {
		if err := s.Change(t.Context(), c); err != nil {
			t.Fatal(err)
		}
	}
	return b
}

func (b *bench) open(t *testing.T) *sqlite.Store {
	t.Helper()
	s, err := sqlite.Open(t.Context(), b.dir)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s
}

func (b *bench) factors(t *testing.T) *identity.Factors {
	return identity.NewFactors(b.open(t), func() time.Time { return b.now })
}

// code is what an authenticator app shows at a time.
func (b *bench) code(t *testing.T, at time.Time) string {
	t.Helper()
	code, err := totp.GenerateCode(b.secret.Text(), at)
	if err != nil {
		t.Fatal(err)
	}
	return code
}

func (b *bench) verify(t *testing.T, f *identity.Factors, code, method string, want error) {
	t.Helper()
	got, err := f.Verify(t.Context(), b.ownerID, code)
	if !errors.Is(err, want) || got != method {
		t.Errorf("code %q: %q, %v; want %q, %v", code, got, err, method, want)
	}
}

func TestCodesWorkOnce(t *testing.T) {
	b := newBench(t)
	f := b.factors(t)
	b.verify(t, f, "", "", identity.ErrFactorRequired)
	b.verify(t, f, "  ", "", identity.ErrFactorRequired)
	for _, off := range []time.Duration{-60 * time.Second, 60 * time.Second} {
		b.verify(t, f, b.code(t, b.now.Add(off)), "", identity.ErrFactorWrong)
	}
	previous := b.code(t, b.now.Add(-30*time.Second))
	now := b.code(t, b.now)
	b.verify(t, f, now[:3]+" "+now[3:], identity.MethodTOTP, nil)
	b.verify(t, f, now, "", identity.ErrFactorWrong)
	b.verify(t, f, previous, "", identity.ErrFactorWrong) // an earlier one was seen over a shoulder
	b.verify(t, b.factors(t), now, "", identity.ErrFactorWrong)
	b.verify(t, f, b.code(t, b.now.Add(30*time.Second)), identity.MethodTOTP, nil)

	b.verify(t, f, b.codes[0], identity.MethodBackup, nil)
	b.verify(t, f, b.codes[0], "", identity.ErrFactorWrong)
	b.verify(t, b.factors(t), b.codes[1][:5]+b.codes[1][6:], identity.MethodBackup, nil)
	b.verify(t, f, b.codes[1], "", identity.ErrFactorWrong)
}

// One code, many times at once, in two processes.
func TestCodesWorkOnceAtOnce(t *testing.T) {
	for _, kind := range []string{identity.MethodTOTP, identity.MethodBackup} {
		b := newBench(t)
		code := map[string]string{identity.MethodTOTP: b.code(t, b.now), identity.MethodBackup: b.codes[0]}[kind]
		processes := []*identity.Factors{b.factors(t), b.factors(t)}
		var good sync.Map
		var all sync.WaitGroup
		for i := range 8 {
			all.Go(func() {
				method, err := processes[i%2].Verify(t.Context(), b.ownerID, code)
				switch {
				case err == nil:
					good.Store(fmt.Sprint(i, method), true)
				case !errors.Is(err, identity.ErrFactorWrong) && !errors.Is(err, identity.ErrTooMany):
					t.Error(err)
				}
			})
		}
		all.Wait()
		n := 0
		good.Range(func(any, any) bool { n++; return true })
		if n != 1 {
			t.Errorf("%s: one code worked %d times", kind, n)
		}
	}
}

// Who guesses is sent away, by every process and after a restart; the owner's next good
// code makes it well again.
func TestCodesAreNotGuessed(t *testing.T) {
	b := newBench(t)
	f, other := b.factors(t), b.factors(t)
	for i := range 5 {
		b.verify(t, []*identity.Factors{f, other}[i%2], fmt.Sprintf("nothing%d", i), "", identity.ErrFactorWrong)
	}
	good := b.code(t, b.now)
	for _, f := range []*identity.Factors{f, other, b.factors(t)} {
		b.verify(t, f, good, "", identity.ErrTooMany)
	}
	b.now = b.now.Add(15*time.Minute + time.Second)
	b.verify(t, f, "nothing", "", identity.ErrFactorWrong)
	b.now = b.now.Add(29 * time.Minute) // the next wait is twice as long
	b.verify(t, f, b.code(t, b.now), "", identity.ErrTooMany)
	b.now = b.now.Add(2 * time.Minute)
	b.verify(t, f, b.code(t, b.now), identity.MethodTOTP, nil)
	b.verify(t, f, "nothing", "", identity.ErrFactorWrong)
	b.verify(t, f, b.codes[0], identity.MethodBackup, nil)
}

func TestNoFactor(t *testing.T) {
	b := newBench(t)
	f := b.factors(t)
	for id, want := range map[string]bool{b.ownerID: true, "somebody": false} {
		if got, err := f.Enrolled(t.Context(), id); err != nil || got != want {
			t.Errorf("%s: enrolled %t, %v; want %t", id, got, err, want)
		}
	}
	_, err := f.Verify(t.Context(), "somebody", b.code(t, b.now))
	if !errors.Is(err, identity.ErrNoFactor) {
		t.Errorf("a code of who has no factor: %v", err)
	}
	b.verify(t, f, string(make([]byte, 1<<20)), "", identity.ErrFactorWrong)
}
