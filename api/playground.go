package api

import (
	"encoding/json"
	"net/http"
	"strings"
	"time"

	"github.com/openleash/openleash-go/action"
	"github.com/openleash/openleash-go/authz"
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
	ID      string          `json:"obligation_id"`
	Type    string          `json:"type"`
	Status  string          `json:"status"`
	Details json.RawMessage `json:"details_json"`
}

type playgroundDebug struct {
	Trace []policy.RuleTrace `json:"trace"`
}

const playgroundPlace = "/v1/playground/run"

// playgroundID is the id of a policy that was never stored.
const playgroundID = "playground"

// playground decides about an action under a policy that is in force nowhere,
// and leaves no trace anywhere: no proof, no entry, no request.
func (s *server) playground(r *http.Request) (any, error) {
	body, err := readObject(r, "policy_yaml", "action", "tool")
	if err != nil {
		return nil, err
	}
	done, err := s.trying(r.Context())
	if err != nil {
		return nil, err
	}
	defer done()
	parsed, err := policyIn(body)
	if err != nil {
		return nil, err
	}
	tool, err := toolIn(body)
	if err != nil {
		return nil, err
	}
	req, err := actionIn(body)
	if err != nil {
		return nil, err
	}
	set := policy.Compile([]policy.Binding{{Policy: parsed.Enforced(), Layer: policy.OwnerLayer}})
	env := envOf(req.ActionType, tool)
	env.Now = time.Now()
	decision, trace := set.Trace(&req, env)
	return playgroundAnswer{
		ActionHash: req.Hash().String(),
		Decision:   describe(req, decision),
		Debug:      playgroundDebug{Trace: append([]policy.RuleTrace{}, trace...)},
	}, nil
}

func policyIn(body action.Value) (*policy.Policy, error) {
	source := body.Get("policy_yaml")
	if source.Kind() != action.String {
		return nil, badField("policy_yaml", "want the policy as a string")
	}
	parsed, err := policy.Parse(playgroundID, "policy_yaml", []byte(source.Text()))
	if err != nil {
		return nil, badRequest("INVALID_POLICY", "%v", err)
	}
	return parsed, nil
}

func toolIn(body action.Value) (action.Value, error) {
	switch tool := body.Get("tool"); tool.Kind() {
	case action.Object:
		return tool, nil
	case action.Missing, action.Null:
		return action.Value{}, nil
	default:
		return tool, badField("tool", "want an object, the context that rules read as $.tool")
	}
}

// envOf is what the proxy would decide in: what is no tool call (resources/read and
// the like) is told by its action type. Where that can be a tool's as well, by a
// mapping or since the server's name has a dot in it, $.tool.name tells.
func envOf(actionType string, tool action.Value) policy.Env {
	server, method, open := authz.OpenRequest(actionType)
	name := tool.Get("name")
	if name.Kind() == action.Missing {
		open = open && !strings.Contains(server, ".")
	} else {
		open = open && name.Text() == method
	}
	if !open {
		return policy.Env{Tool: tool}
	}
	if tool.Kind() == action.Missing {
		tool = authz.OpenInfo(server, method)
	}
	return policy.Env{Tool: tool, Open: true}
}

func actionIn(body action.Value) (action.Request, error) {
	v := body.Get("action")
	if v.Kind() != action.Object {
		return action.Request{}, badField("action", "want an action: an object with action_id, action_type, requested_at, principal, subject and payload")
	}
	req, err := action.RequestFromValue(v)
	if err != nil {
		return req, badRequest("INVALID_ACTION_REQUEST", "action: %v", err)
	}
	return req, nil
}

func describe(req action.Request, d policy.Decision) playgroundDecision {
	return playgroundDecision{
		ActionID: req.ActionID, Decision: d.Outcome.String(), Result: d.Outcome.String(),
		PolicyID: textOrNull(d.PolicyID), MatchedRuleID: textOrNull(d.RuleID), Reason: d.Reason,
		Obligations: obligationsOf(d.Obligations), Errors: append([]string{}, d.Errors...),
	}
}

func textOrNull(s string) *string {
	if s == "" {
		return nil
	}
	return &s
}
