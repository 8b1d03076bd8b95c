package proof

import (
	"errors"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

var issued = time.Date(2026, 5, 5, 12, 0, 0, 0, time.UTC)

func TestOwnTokens(t *testing.T) {
	key, err := NewKey(issued)
	if err != nil {
		t.Fatal(err)
	}
	keys := []PublicKey{key.Public()}
	s := Session{ID: "s1", UserID: "u1", Roles: []string{"admin"}, IssuedAt: issued, Expires: issued.Add(time.Hour)}
	a := ApprovalToken{
		RequestID: "r1", OwnerType: "user", OwnerID: "u1", AgentID: "bot", ActionType: "purchase",
		ActionHash: "sha256:00", IssuedAt: issued, Expires: issued.Add(time.Hour),
	}
	session, err := key.SignSession(s)
	if err != nil {
		t.Fatal(err)
	}
	approval, err := key.SignApproval(a)
	if err != nil {
		t.Fatal(err)
	}
	if got, err := VerifySession(session, keys, issued); err != nil || !cmp.Equal(got, s) {
		t.Errorf("session: %v, %v\nwant %v", got, err, s)
	}
	if got, err := VerifyApproval(approval, keys, issued); err != nil || got != a {
		t.Errorf("approval: %v, %v\nwant %v", got, err, a)
	}
	// None is taken for another, nor for a proof.
	if _, err := VerifySession(approval, keys, issued); !errors.Is(err, ErrSignature) {
		t.Errorf("an approval token as a session: %v", err)
	}
	if _, err := VerifyApproval(session, keys, issued); !errors.Is(err, ErrSignature) {
		t.Errorf("a session as an approval token: %v", err)
	}
	for _, token := range []string{session, approval} {
		if _, err := Verify(token, Expect{Keys: keys, Now: issued, AnyAudience: true}); err == nil {
			t.Error("it was taken for a proof")
		}
	}
	// Neither a proof nor a token without the assertion, whatever it says of itself.
	claims := []byte(`{"iss":"openleash","kid":"` + key.ID + `","sub":"u1","iat":"2026-01-01T00:00:00.000Z","exp":"2036-01-01T00:00:00.000Z","jti":"s1","purpose":"user_session","system_roles":[]}`)
	if _, err := VerifySession(signToken(key.private, claims, footerOf(key.ID), nil), keys, issued); !errors.Is(err, ErrSignature) {
		t.Errorf("signed as a proof is: %v", err)
	}
	if _, err := VerifySession(session, keys, issued.Add(time.Hour)); !errors.Is(err, ErrOver) {
		t.Errorf("at its end: %v", err)
	}
	revoked := key.Public()
	revoked.RevokedAt = issued
	if _, err := VerifySession(session, []PublicKey{revoked}, issued); !errors.Is(err, ErrRevoked) {
		t.Errorf("signed with a revoked key: %v", err)
	}
	if _, err := key.SignSession(Session{ID: "s", UserID: "u", IssuedAt: issued, Expires: issued}); err == nil {
		t.Error("a session without a life was signed")
	}
}
