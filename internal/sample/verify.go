package sample

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/mark3labs/mcp-go/mcp"
	"github.com/mark3labs/mcp-go/server"

	"github.com/openleash/openleash-go/action"
	"github.com/openleash/openleash-go/proof"
)

// proofKey is where the proxy puts the proof in a call's _meta.
const proofKey = "ai.openleash/proof"

// leeway is how far the clocks of the proxy and this server may be apart.
const leeway = 5 * time.Second

// A verifier lets only proven calls through.
type verifier struct {
	name string
	keys func() ([]proof.PublicKey, error) // nil: every call passes

	mu   sync.Mutex
	used map[string]time.Time // ids of spent proofs, until they expire
}

// guard reads the call, verifies its proof, and only then runs it. Everything
// that is done, is done with the one reading that was verified.
func (v *verifier) guard(f form, run func(order) (string, error)) server.ToolHandlerFunc {
	return func(_ context.Context, call mcp.CallToolRequest) (*mcp.CallToolResult, error) {
		arguments, err := argumentsOf(call)
		if err != nil {
			return mcp.NewToolResultError(err.Error()), nil
		}
		o, err := f.read(arguments)
		if err != nil {
			return mcp.NewToolResultError(err.Error()), nil
		}
		verified, err := v.verify(call, f, o, arguments)
		if err != nil {
			return mcp.NewToolResultError("proof refused: " + err.Error()), nil
		}
		done, err := run(o)
		if err != nil {
			return mcp.NewToolResultError(err.Error()), nil
		}
		return mcp.NewToolResultText(done + verified), nil
	}
}

// verify checks and spends the call's proof. It says what it verified, for the result.
func (v *verifier) verify(call mcp.CallToolRequest, f form, o order, arguments action.Value) (string, error) {
	if v.keys == nil {
		return "", nil
	}
	token := proofOf(call)
	if token == "" {
		return "", fmt.Errorf("the call has none in _meta[%q]; it must come through OpenLeash", proofKey)
	}
	audience := "mcp:" + v.name
	if f.audience != nil {
		var err error
		if audience, err = f.audience(o); err != nil {
			return "", err
		}
	}
	keys, err := v.keys()
	if err != nil {
		return "", fmt.Errorf("reading the public keys: %w", err)
	}
	claims, err := proof.Verify(token, proof.Expect{
		Keys:     keys,
		Now:      time.Now(),
		Leeway:   leeway,
		Audience: audience,
		CallHash: action.CallHash(call.Params.Name, arguments),
	})
	if err != nil {
		return "", err
	}
	if err := v.accept(claims); err != nil {
		return "", err
	}
	return fmt.Sprintf("\nproof verified: %s may do exactly this, for %s (key %s, decision %s)",
		claims.AgentID, audience, claims.KeyID, claims.DecisionID), nil
}

// accept checks what proof.Verify leaves to the verifier, and spends the proof.
func (v *verifier) accept(c proof.Claims) error {
	switch {
	case c.Decision != "ALLOW":
		return fmt.Errorf("it says %q, want ALLOW", c.Decision)
	case c.Server != v.name:
		return fmt.Errorf("it is for the server %q, this is %q", c.Server, v.name)
	case c.ID == "":
		return errors.New("it has no jti, so it could be used twice")
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	now := time.Now()
	for id, expires := range v.used {
		if now.After(expires) {
			delete(v.used, id)
		}
	}
	if _, spent := v.used[c.ID]; spent {
		return fmt.Errorf("it was used before (jti %s)", c.ID)
	}
	if v.used == nil {
		v.used = make(map[string]time.Time)
	}
	v.used[c.ID] = c.Expires.Add(2 * leeway) // until no clock within the leeway takes it
	return nil
}

// proofOf finds the proof in the call; mcp-go keeps unknown fields of _meta as
// additional ones. The text is empty when there is none.
func proofOf(call mcp.CallToolRequest) string {
	if call.Params.Meta == nil {
		return ""
	}
	token, _ := call.Params.Meta.AdditionalFields[proofKey].(string)
	return token
}
