package audit

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"strconv"
	"strings"

	"github.com/openleash/openleash-go/internal/jsontext"
)

// append writes an entry's members in the order of Entry, as encoding/json would
// but for a tenth of the time: there are two for each call.
func (e *Entry) append(b []byte) []byte {
	b = appendText(append(b, `{"ts":`...), e.TS)
	b = appendText(append(b, `,"event":`...), e.Event)
	b = appendText(append(b, `,"actor_type":`...), e.ActorType)
	b = appendText(append(b, `,"actor_id":`...), e.ActorID)
	for _, m := range []struct {
		head  string
		value *string
	}{
		{`,"action_type":`, e.ActionType}, {`,"action_id":`, e.ActionID}, {`,"decision":`, e.Decision},
		{`,"policy_id":`, e.PolicyID}, {`,"proof_kid":`, e.ProofKID},
	} {
		b = appendOrNull(append(b, m.head...), m.value)
	}
	b = append(b, `,"signature_valid":`...)
	if e.SignatureValid == nil {
		b = append(b, "null"...)
	} else {
		b = strconv.AppendBool(b, *e.SignatureValid)
	}
	for _, m := range []struct{ head, value string }{
		{`,"decision_id":`, e.DecisionID}, {`,"matched_rule_id":`, e.MatchedRuleID}, {`,"reason":`, e.Reason}, {`,"code":`, e.Code},
		{`,"owner_id":`, e.OwnerID}, {`,"agent_id":`, e.AgentID}, {`,"server":`, e.Server}, {`,"tool":`, e.Tool}, {`,"action_hash":`, e.ActionHash},
		{`,"intent_hash":`, e.IntentHash}, {`,"call_hash":`, e.CallHash}, {`,"policy_hash":`, e.PolicyHash},
		{`,"shadow_decision":`, e.ShadowDecision}, {`,"shadow_policy_id":`, e.ShadowPolicyID}, {`,"shadow_rule_id":`, e.ShadowRuleID},
		{`,"approval_id":`, e.ApprovalID}, {`,"grant_id":`, e.GrantID}, {`,"approver":`, e.Approver},
		{`,"factor":`, e.Factor}, {`,"deposit_reference":`, e.DepositReference},
	} {
		b = appendUnlessEmpty(b, m.head, m.value)
	}
	if e.Passkey != nil {
		b = e.Passkey.append(append(b, `,"passkey":`...))
	}
	b = appendUnlessEmpty(b, `,"outcome":`, e.Outcome)
	if e.DurationMS != nil {
		b = strconv.AppendInt(append(b, `,"duration_ms":`...), *e.DurationMS, 10)
	}
	b = appendUnlessEmpty(b, `,"result_hash":`, e.ResultHash)
	b = appendUnlessEmpty(b, `,"detail":`, e.Detail)
	b = appendUnlessEmpty(b, `,"process":`, e.Process)
	b = appendUnlessEmpty(b, `,"trace_id":`, e.TraceID)
	b = e.appendRequest(b)
	return append(e.appendLimits(b), '}')
}

func (p *Passkey) append(b []byte) []byte {
	for i, m := range []struct {
		name  string
		bytes []byte
	}{{"credential_id", p.CredentialID}, {"authenticator_data", p.AuthenticatorData}, {"client_data", p.ClientData}, {"signature", p.Signature}} {
		b = append(b, "{,"[min(i, 1)])
		b = append(append(append(b, '"'), m.name...), `":"`...)
		b = append(base64.StdEncoding.AppendEncode(b, m.bytes), '"')
	}
	return append(b, '}')
}

// appendRequest writes what was decided on.
func (e *Entry) appendRequest(b []byte) []byte {
	b = appendUnlessEmpty(b, `,"requested_at":`, e.RequestedAt)
	for _, m := range []struct {
		head  string
		value json.RawMessage
	}{{`,"relying_party":`, e.RelyingParty}, {`,"payload":`, e.Payload}, {`,"tool_info":`, e.ToolInfo}} {
		if len(m.value) > 0 {
			b = oneLine(append(b, m.head...), m.value)
		}
	}
	for i, path := range e.Masked {
		b = appendText(append(b, []string{`,`, `,"masked":[`}[max(0, 1-i)]...), path)
	}
	if len(e.Masked) > 0 {
		b = append(b, ']')
	}
	if e.Open {
		b = append(b, `,"open":true`...)
	}
	if e.Round != 0 {
		b = strconv.AppendInt(append(b, `,"round":`...), int64(e.Round), 10)
	}
	if e.Unsent {
		b = append(b, `,"unsent":true`...)
	}
	if e.Count != 0 {
		b = strconv.AppendInt(append(b, `,"count":`...), int64(e.Count), 10)
	}
	return b
}

func (e *Entry) appendLimits(b []byte) []byte {
	for i, l := range e.Limits {
		if i == 0 {
			b = append(b, `,"limits":[`...)
		} else {
			b = append(b, ',')
		}
		b = l.append(b)
	}
	if len(e.Limits) > 0 {
		b = append(b, ']')
	}
	return b
}

func (l Limit) append(b []byte) []byte {
	b = appendText(append(b, `{"id":`...), l.ID)
	b = appendUnlessEmpty(b, `,"key":`, l.Key)
	b = strconv.AppendInt(append(b, `,"amount":`...), l.Amount, 10)
	b = strconv.AppendInt(append(b, `,"max":`...), l.Max, 10)
	if l.Over {
		b = append(b, `,"over":true`...)
	}
	for _, m := range []struct {
		head  string
		value int64
	}{{`,"used":`, l.Used}, {`,"held":`, l.Held}} {
		if m.value != 0 {
			b = strconv.AppendInt(append(b, m.head...), m.value, 10)
		}
	}
	b = appendUnlessEmpty(b, `,"doubt":`, l.Doubt)
	if l.Released {
		b = append(b, `,"released":true`...)
	}
	return append(b, '}')
}

func appendOrNull(b []byte, s *string) []byte {
	if s == nil {
		return append(b, "null"...)
	}
	return appendText(b, *s)
}

func appendUnlessEmpty(b []byte, head, s string) []byte {
	if s == "" {
		return b
	}
	return appendText(append(b, head...), s)
}

// appendText writes a string. What is not UTF-8 becomes U+FFFD; U+2028 and
// U+2029, which some readers take for the end of a line, are escaped.
func appendText(b []byte, s string) []byte {
	start := len(b)
	b = jsontext.AppendString(b, strings.ToValidUTF8(s, "\ufffd"))
	return oneLine(b[:start], b[start:])
}

// oneLine appends JSON that has no white space between its tokens.
func oneLine(b, text []byte) []byte {
	if bytes.Contains(text, []byte("\u2028")) || bytes.Contains(text, []byte("\u2029")) {
		text = bytes.ReplaceAll(text, []byte("\u2028"), []byte(`\u2028`))
		text = bytes.ReplaceAll(text, []byte("\u2029"), []byte(`\u2029`))
	}
	return append(b, text...)
}
