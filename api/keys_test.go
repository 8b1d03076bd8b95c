package api

import (
	"net/http"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/openleash/openleash-go/proof"
)

// The document that is fetched is the one that is exported, and whoever has it verifies
// proofs with nothing else.
func TestKeyDocument(t *testing.T) {
	c, at := config(t), now
	old, err := proof.NewKey(now.Add(-time.Hour))
	if err != nil {
		t.Fatal(err)
	}
	revoked := old.Public()
	revoked.RevokedAt = now
	keys := []proof.PublicKey{c.Key.Public(), revoked}
	c.Keys, c.Now = func() []proof.PublicKey { return keys }, func() time.Time { return at }
	h := newAPI(t, c)
	token, err := c.Key.Sign(claims())
	if err != nil {
		t.Fatal(err)
	}
	of, err := old.Sign(claims())
	if err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{"/v1/key-document", "/.well-known/openleash-keys.json"} {
		at = at.Add(time.Minute)
		w := ask(h, "GET", path, "")
		want, err := proof.Export(c.Key, keys, at)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(string(want), w.Body.String()); diff != "" || w.Code != 200 {
			t.Errorf("%s = %d (-want +got):\n%s", path, w.Code, diff)
		}
		if got := w.Header().Get("Cache-Control"); got != "public, max-age=60" || w.Header().Get("Content-Type") != "application/json" {
			t.Errorf("%s: headers %v", path, w.Header())
		}
		trusted, err := proof.ParseExport(w.Body.Bytes(), c.Key.ID)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := proof.Verify(token, proof.Expect{Keys: trusted, Now: now, AnyAudience: true}); err != nil {
			t.Errorf("%s: a proof does not verify with it: %v", path, err)
		}
		if _, err := proof.Verify(of, proof.Expect{Keys: trusted, Now: now, AnyAudience: true}); err == nil {
			t.Errorf("%s: a proof of a revoked key verifies with it", path)
		}
	}
}

// While it is not known which keys were revoked, none is shown, and no proof is judged.
func TestUnknownKeysAreNotServed(t *testing.T) {
	c := config(t)
	token, err := c.Key.Sign(claims())
	if err != nil {
		t.Fatal(err)
	}
	c.Keys = func() []proof.PublicKey { return nil }
	h := newAPI(t, c)
	for _, q := range [][3]string{
		{"GET", "/v1/public-keys", ""}, {"GET", "/v1/key-document", ""}, {"GET", keyPlace, ""}, {"POST", "/v1/verify-proof", `{"token":"` + token + `"}`},
	} {
		w := ask(h, q[0], q[1], q[2])
		mustRefuse(t, q[1], w, http.StatusServiceUnavailable)
		if code := read[envelope](t, w).Error.Code; code != "KEYS_UNAVAILABLE" {
			t.Errorf("%s = %s", q[1], code)
		}
	}
}

// Nothing but a proof is a proof, whatever this installation has signed it for.
func TestOnlyProofsAreProofs(t *testing.T) {
	c := config(t)
	h := newAPI(t, c)
	until := now.Add(time.Hour)
	session, err := c.Key.SignSession(proof.Session{ID: "s", UserID: "5b6b0f0c-9a63-4dfb-8d3a-3a4f0a4d1c04", Roles: []string{"admin"}, IssuedAt: now, Expires: until})
	if err != nil {
		t.Fatal(err)
	}
	cl := claims()
	approval, err := c.Key.SignApproval(proof.ApprovalToken{
		RequestID: "r", OwnerType: cl.OwnerType, OwnerID: cl.OwnerID, AgentID: cl.AgentID, ActionType: cl.ActionType, ActionHash: cl.ActionHash, IssuedAt: now, Expires: until,
	})
	if err != nil {
		t.Fatal(err)
	}
	receipt, err := c.Key.SignReceipt(proof.Receipt{
		At: now, Outcome: "ok", DecisionID: cl.DecisionID, ActionID: cl.ActionID, ActionType: cl.ActionType, ActionHash: cl.ActionHash, AgentID: cl.AgentID,
		Server: cl.Server, Tool: cl.Tool, CallHash: cl.CallHash, ResultHash: cl.ActionHash, OwnerID: cl.OwnerID,
	})
	if err != nil {
		t.Fatal(err)
	}
	document, err := proof.Export(c.Key, []proof.PublicKey{c.Key.Public()}, now)
	if err != nil {
		t.Fatal(err)
	}
	good, err := c.Key.Sign(cl)
	if err != nil {
		t.Fatal(err)
	}
	for name, token := range map[string]string{
		"a session": session, "an approval": approval, "a receipt": receipt, "a key document": string(document),
		"a proof and more": good + " ", "a proof after white space": " " + good, "a proof without its footer": good[:slices.Index([]byte(good[10:]), '.')+10],
		"a proof with a dot": good + ".",
	} {
		w := ask(h, "POST", "/v1/verify-proof", toJSON(t, map[string]string{"token": token}))
		if got := read[verifyAnswer](t, w); w.Code != 200 || got.Valid || got.Claims != nil || got.Reason == "" {
			t.Errorf("%s = %d %s", name, w.Code, w.Body)
		}
	}
}

func TestExpiredIsSaidAsSDKsKnowIt(t *testing.T) {
	c := config(t)
	token, err := c.Key.Sign(claims())
	if err != nil {
		t.Fatal(err)
	}
	c.Now = func() time.Time { return now.Add(5 * time.Minute) }
	w := ask(newAPI(t, c), "POST", "/v1/verify-proof", `{"token":"`+token+`"}`)
	if got := w.Body.String(); got != `{"valid":false,"reason":"Token expired"}`+"\n" {
		t.Errorf("= %d %s", w.Code, got)
	}
}
