package main

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"os"
	"strings"
)

// forwardedAreLogged checks the promise that everything leans on: each call that
// a server has received (calls, as the fake notes them) has its proof, and its
// decision, an ALLOW, stands in the log; and no decision was used twice. A server
// that is killed while it notes a call leaves a torn line: at most torn of them.
func forwardedAreLogged(calls, log string, torn int) error {
	allowed, err := allowedIn(log)
	if err != nil {
		return err
	}
	noted, err := os.ReadFile(calls)
	if err != nil {
		return err
	}
	seen := map[string]bool{}
	for line := range strings.Lines(string(noted)) {
		switch {
		case line == "\n":
			continue
		case torn > 0 && !json.Valid([]byte(line)):
			torn--
			continue
		}
		id, err := decisionOf([]byte(line))
		if err != nil {
			return err
		}
		if !allowed[id] {
			return fmt.Errorf("the server received a call whose decision %s is not an ALLOW in the log: %s", id, line)
		}
		if seen[id] {
			return fmt.Errorf("decision %s was forwarded twice", id)
		}
		seen[id] = true
	}
	if len(seen) == 0 {
		return fmt.Errorf("%s: no call was forwarded at all", calls)
	}
	return nil
}

// allowedIn lists the decisions of a log that allow.
func allowedIn(log string) (map[string]bool, error) {
	src, err := os.ReadFile(log)
	if err != nil {
		return nil, err
	}
	allowed := map[string]bool{}
	for line := range bytes.Lines(src) {
		var e struct {
			Event      string
			Decision   *string
			DecisionID string `json:"decision_id"`
		}
		if err := json.Unmarshal(line, &e); err != nil {
			return nil, fmt.Errorf("%s: %w: %s", log, err, line)
		}
		if e.Event == "decision" && e.Decision != nil && *e.Decision == "ALLOW" {
			allowed[e.DecisionID] = true
		}
	}
	return allowed, nil
}

// decisionOf reads the decision's id from the proof that a call carries.
func decisionOf(params []byte) (string, error) {
	var p struct {
		Meta map[string]string `json:"_meta"`
	}
	if err := json.Unmarshal(params, &p); err != nil {
		return "", fmt.Errorf("reading a noted call: %w: %s", err, params)
	}
	parts := strings.Split(p.Meta["ai.openleash/proof"], ".")
	if len(parts) != 4 {
		return "", fmt.Errorf("the call carries no proof: %s", params)
	}
	// v4.public.MESSAGE.FOOTER: the claims and 64 bytes of signature, in base64url.
	message, err := base64.RawURLEncoding.DecodeString(parts[2])
	if err != nil || len(message) < 64 {
		return "", fmt.Errorf("the proof is malformed: %v: %s", err, params)
	}
	var claims struct {
		DecisionID string `json:"decision_id"`
	}
	if err := json.Unmarshal(message[:len(message)-64], &claims); err != nil {
		return "", fmt.Errorf("reading the proof's claims: %w", err)
	}
	return claims.DecisionID, nil
}
