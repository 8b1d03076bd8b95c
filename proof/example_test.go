package proof_test

import (
	"errors"
	"fmt"
	"time"

	"github.com/openleash/openleash-go/action"
	"github.com/openleash/openleash-go/proof"
)

const (
	publicKey = "MCowBQYDK2VwAyEAO2onvM62pC1io6jQKm8Nc2UyFXcd4kOmOsBIoYtZ2ik="
	token     = "v4.public.eyJhY3Rpb25faGFzaCI6InNoYTI1NjpiMWE3MDAwMDAwMDAwMDAwMDAwMDAwMDAwMDAwMDAwMDAwMDAwMDAwMDAwMDAwMDAwMDAwMDAwMDAwMDAwMDAwIiwiYWN0aW9uX2lkIjoiOGUzYjFjNTItNmYwZC00YTUzLTljMWUtMGI2YzZmMmY3ZDExIiwiYWN0aW9uX3R5cGUiOiJwdXJjaGFzZSIsImFnZW50X2lkIjoiYnV5ZXIiLCJhcHByb3ZhbCI6eyJpZCI6ImEtMSIsImJ5IjoiYW5uYSIsImF0IjoiMjAyNi0wNS0wNVQxMzo0MjoxMC4wMDBaIn0sImF1ZCI6Im1jcDpzaG9wIiwiY2FsbF9oYXNoIjoic2hhMjU2Ojc5ZjUxNGY0NjM5ODdjYTkwYzQwNWU5OTkzMjI2NWFhOWIzNDNhZGYxMjRiMjliY2QzNzdjNmY2MTVmMzBlMDgiLCJkZWNpc2lvbiI6IkFMTE9XIiwiZGVjaXNpb25faWQiOiI1YzBlNmIxYS00MmMzLTRhNTMtOWMxZS04ZTNiMWM1MjZmMGQiLCJleHAiOiIyMDI2LTA1LTA1VDEzOjQ3OjExLjAwMFoiLCJpYXQiOiIyMDI2LTA1LTA1VDEzOjQyOjExLjAwMFoiLCJpc3MiOiJvcGVubGVhc2giLCJqdGkiOiIwYjZjNmYyZi03ZDExLTRhNTMtOWMxZS04ZTNiMWM1MjZmMGQiLCJraWQiOiJrNC5waWQuLWxiZ2huWEdrVmM1YS00MXdGckpRUFU2bjZHNGtuTFlSSk5lbHRIMVZhSy0iLCJtYXRjaGVkX3J1bGVfaWQiOiJvdmVyLTUwIiwib3duZXJfaWQiOiIwMDAwMDAwMC0wMDAwLTQwMDAtODAwMC0wMDAwMDAwMDAwMDIiLCJvd25lcl90eXBlIjoidXNlciIsInBvbGljeV9pZCI6InNob3BwaW5nIiwicHVycG9zZSI6InByb29mIiwic2VydmVyIjoic2hvcCIsInN1YiI6ImJ1eWVyIiwidG9vbCI6ImJ1eSJ96_0ubb7-ZAmLK4jzLmFx9xhuphu4qYjlQ8b3h-FHfQFdIBOx6agHgouZosDrVkaNJoWJNJflFpXndnDFWtqfCg.eyJraWQiOiJrNC5waWQuLWxiZ2huWEdrVmM1YS00MXdGckpRUFU2bjZHNGtuTFlSSk5lbHRIMVZhSy0ifQ"
)

// What an upstream MCP server does with a proof: it computes the hash of the
// call that it received, and needs nothing but the public key.
func ExampleVerify() {
	key, err := proof.ParseSPKI(publicKey)
	if err != nil {
		fmt.Println(err)
		return
	}
	arguments, err := action.Parse([]byte(`{"amount_minor": 5000, "item": "book"}`), action.Limits{})
	if err != nil {
		fmt.Println(err)
		return
	}
	claims, err := proof.Verify(token, proof.Expect{
		Keys:     []proof.PublicKey{key},
		Now:      time.Date(2026, 5, 5, 13, 43, 0, 0, time.UTC), // time.Now() where it is not an example
		Leeway:   30 * time.Second,
		Audience: "mcp:shop",
		CallHash: action.CallHash("buy", arguments),
	})
	fmt.Println(err)
	fmt.Println(key.ID)
	fmt.Println(claims.AgentID, claims.Decision, claims.ActionType, claims.Expires.Format(time.RFC3339))
	fmt.Println("approved by", claims.Approval.By)
	// Output:
	// <nil>
	// k4.pid.-lbghnXGkVc5a-41wFrJQPU6n6G4knLYRJNeltH1VaK-
	// buyer ALLOW purchase 2026-05-05T13:47:11Z
	// approved by anna
}

// The same proof, later, and for another call.
func ExampleVerify_refused() {
	key, err := proof.ParseSPKI(publicKey)
	if err != nil {
		fmt.Println(err)
		return
	}
	want := proof.Expect{Keys: []proof.PublicKey{key}, Now: time.Date(2026, 5, 5, 14, 0, 0, 0, time.UTC), Audience: "mcp:shop"}
	_, err = proof.Verify(token, want)
	fmt.Println(errors.Is(err, proof.ErrExpired), err)

	want.Now = want.Now.Add(-15 * time.Minute)
	want.CallHash = action.CallHash("buy", action.ObjectValue())
	_, err = proof.Verify(token, want)
	fmt.Println(errors.Is(err, proof.ErrCallHash))
	// Output:
	// true verifying the proof: the proof has expired: at 2026-05-05T13:47:11.000Z; it is 2026-05-05T14:00:00.000Z
	// true
}

func ExampleKey_Sign() {
	key, err := proof.NewKey(time.Now())
	if err != nil {
		fmt.Println(err)
		return
	}
	now := time.Now()
	token, err := key.Sign(proof.Claims{
		Subject: "buyer", AgentID: "buyer", Audience: "shop.example", IssuedAt: now, Expires: now.Add(5 * time.Minute),
		ID: "0b6c6f2f-7d11-4a53-9c1e-8e3b1c526f0d", Decision: "ALLOW", DecisionID: "5c0e6b1a-42c3-4a53-9c1e-8e3b1c526f0d",
		ActionID: "8e3b1c52-6f0d-4a53-9c1e-0b6c6f2f7d11", ActionType: "purchase", ActionHash: action.Hash{1}.String(),
	})
	if err != nil {
		fmt.Println(err)
		return
	}
	claims, err := proof.Verify(token, proof.Expect{Keys: []proof.PublicKey{key.Public()}, Now: now, Audience: "shop.example"})
	fmt.Println(claims.Purpose, claims.KeyID == key.ID, err)
	// Output:
	// proof true <nil>
}

// An installation publishes its keys; whoever has pinned one of them reads the
// document wherever it comes from.
func ExampleParseExport() {
	key, err := proof.NewKey(time.Now())
	if err != nil {
		fmt.Println(err)
		return
	}
	doc, err := proof.Export(key, []proof.PublicKey{key.Public()}, time.Now())
	if err != nil {
		fmt.Println(err)
		return
	}
	keys, err := proof.ParseExport(doc, key.ID)
	fmt.Println(len(keys), keys[0].ID == key.ID, err)

	_, err = proof.ParseExport(doc, "k4.pid.the-one-that-i-pinned")
	fmt.Println(errors.Is(err, proof.ErrUnknownKey))
	// Output:
	// 1 true <nil>
	// true
}
