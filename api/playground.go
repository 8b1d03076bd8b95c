package api

import (
	"encoding/json"
	"net/http"

	"github.com/openleash/openleash-go/action"
	"github.com/openleash/openleash-go/policy"
)

type playgroundAnswer struct {
	ActionHash string             `json:"action_hash"`
	Decision   playgroundDecision `json:"decision"`
	Debug      playgroundDebug    `json:"debug"`
}

type playgroundDecision struct {
	ActionID      string       `json:"action_id"`
	Decision      string       `json:"decision"`
	Result        string       `json:"result"` // the same, under the name that SDKs read
	PolicyID      *string      `json:"policy_id"`
	MatchedRuleID *string      `json:"matched_rule_id"`
	Reason        string       `json:"reason"`
	Obligations   []obligation `json:"obligations"`
	Errors        []string     `json:"errors"` // conditions that could not be evaluated
}

type obligation struct {
	Type    string          `json:"type"`
	Status  string          `json:"status"`
	Details json.RawMessage `json:"details_json"`
}

type playgroundDebug struct {
	Trace []policy.RuleTrace `json:"trace"`
}

// playgroundID is the id of a policy that was never stored.
const playgroundID = "playground"

// playground decides about an action under a policy that is in force nowhere,
// and leaves no trace anywhere: no proof, no entry, no request.
func (s *server) playground(r *http.Request) (any, error) {
	body, err := readObject(r, "policy_yaml", "action", "tool")
	if err != nil {
		return nil, err
	}
	source := body.Get("policy_yaml")
	if source.Kind() != action.String {
		return nil, badField("policy_yaml", "want the policy as a string")
	}
	tool := body.Get("tool")
	if tool.Kind() != action.Missing && tool.Kind() != action.Null && tool.Kind() != action.Object {
		return nil, badField("tool", "want an object, the context that rules read as $.tool")
	}
	if tool.Kind() == action.Null {
		tool = action.Value{}
	}
	parsed, err := policy.Parse(playgroundID, "policy_yaml", []byte(source.Text()))
	if err != nil {
		return nil, badRequest("INVALID_POLICY", "%v", err)
	}
	if body.Get("action").Kind() != action.Object {
		return nil, badField("action", "want an action: an object with action_id, action_type, requested_at, principal, subject and payload")
	}
	req, err := action.RequestFromValue(body.Get("action"))
	if err != nil {
		return nil, badRequest("INVALID_ACTION_REQUEST", "action: %v", err)
	}
	set := policy.Compile([]policy.Binding{{Policy: parsed, Layer: policy.OwnerLayer}})
	decision, trace := set.Trace(&req, policy.Env{Tool: tool})
	return playgroundAnswer{
		ActionHash: req.Hash().String(),
		Decision:   describe(req, decision),
		Debug:      playgroundDebug{Trace: append([]policy.RuleTrace{}, trace...)},
	}, nil
}

func describe(req action.Request, d policy.Decision) playgroundDecision {
	p := playgroundDecision{
		ActionID: req.ActionID, Decision: d.Outcome.String(), Result: d.Outcome.String(),
		PolicyID: textOrNull(d.PolicyID), MatchedRuleID: textOrNull(d.RuleID), Reason: d.Reason,
		Obligations: []obligation{}, Errors: append([]string{}, d.Errors...),
	}
	for _, o := range d.Obligations {
		details := json.RawMessage("{}")
		if o.Params.Kind() != action.Missing {
			details = o.Params.Canonical()
		}
		p.Obligations = append(p.Obligations, obligation{Type: o.Type, Status: "PENDING", Details: details})
	}
	return p
}

func textOrNull(s string) *string {
	if s == "" {
		return nil
	}
	return &s
}
