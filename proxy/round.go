package proxy

import (
	"bytes"
	"context"
	"strings"

	"github.com/openleash/openleash-go/action"
	"github.com/openleash/openleash-go/authz"
)

// A call can take several messages. "The server returns an InputRequiredResult",
// and the host sends its request again, with inputResponses and, as it got it, the
// requestState (2026-07-28, Multi Round-Trip Requests). When a person approved the
// call, the requestState that the host gets has a token in it, by which the next
// message may run without another approval (authz.OpenRound):
//
//	"openleash.round.TOKEN:the server's own requestState, as it was written"
//	"openleash.round.TOKEN"            the server sent none
//	"openleash.round.:…"               no token: the server's own looks like ours
//
// On its way up that is taken off again. So a server gets back the very string
// that it sent, whatever that looks like.

const roundPrefix = "openleash.round."

const (
	inputResponses = "inputResponses"
	requestState   = "requestState"
)

// tokenLetters are those of crypto/rand.Text; maxToken bounds a token that a host
// brings (ours have 26 letters).
const (
	tokenLetters = "ABCDEFGHIJKLMNOPQRSTUVWXYZ234567"
	maxToken     = 64
)

// wrapState writes a requestState, a JSON string or none, with a token before it.
func wrapState(token, own string) string {
	if own == "" {
		return `"` + roundPrefix + token + `"`
	}
	return `"` + roundPrefix + token + ":" + own[1:]
}

// unwrapState takes a requestState apart, by its text and the JSON string that it
// was written as. ours is false for what wrapState does not write. own is empty
// when the server sent none.
func unwrapState(text string, raw []byte) (token, own string, ours bool) {
	text, ours = strings.CutPrefix(text, roundPrefix)
	token, rest, has := strings.Cut(text, ":")
	if !ours || strings.Trim(token, tokenLetters) != "" || len(token) > maxToken || !has && token == "" {
		return "", "", false
	}
	if !has {
		return token, "", true
	}
	if written, ok := bytes.CutPrefix(raw, []byte(`"`+roundPrefix+token+":")); ok {
		return token, `"` + string(written), true
	}
	return token, string(quote(rest)), true // the host has escaped letters of ours
}

// readRound notes which round of a call this message claims to be, and the edit
// that gives the server its own requestState.
func (c *call) readRound() {
	state := c.params.Get(requestState)
	token, own, ours := unwrapState(state.Text(), state.Raw())
	if state.Kind() != action.String || !ours {
		return
	}
	c.round = token
	at := span{state.Start(), state.Start() + len(state.Raw())}
	if own == "" {
		at, c.stateGone = memberAt(c.Raw, at), true
	}
	c.cuts = append(c.cuts, edit{at, own})
}

// memberAt is where the member of an object lies whose value lies at a span, with
// the comma before it or, when there is none, the one behind. Its name has no
// quote in it.
func memberAt(raw []byte, value span) span {
	quoteEnd := bytes.LastIndexByte(raw[:value.from], '"')
	from := bytes.LastIndexByte(raw[:quoteEnd], '"')
	before, after := bytes.TrimRight(raw[:from], " \t\r\n"), bytes.TrimLeft(raw[value.to:], " \t\r\n")
	switch {
	case before[len(before)-1] == ',':
		return span{len(before) - 1, value.to}
	case after[0] == ',':
		return span{from, len(raw) - len(after) + 1}
	}
	return span{from, value.to}
}

// stateWrapper returns what makes of the answer to an allowed call what the host
// gets.
func (p *Proxy) stateWrapper(who authz.Caller, ans authz.Answer) wrapper {
	return func(ctx context.Context, response []byte) []byte {
		if ans.Approval == nil && !mayLookWrapped(response) {
			return response // nearly all
		}
		state, ok := inputRequired(response)
		if !ok {
			return response
		}
		token, err := p.Service.OpenRound(ctx, who, ans)
		if err != nil {
			p.Log.Warn().Err(err).Str("server", p.Name).Msg("no round could be opened: the next message of this call needs an approval of its own")
		}
		return state.wrap(response, token)
	}
}

// mayLookWrapped is a quick look for a requestState that looks like ours.
func mayLookWrapped(response []byte) bool {
	return bytes.Contains(response, []byte("openleash")) || hidesLetters(response)
}

// stateIn is the requestState of a result that wants input.
type stateIn struct {
	result span // an object that is not empty
	at     span
	value  action.Value // a string, or Missing
}

// inputRequired finds it. A result without a resultType counts as complete in the
// protocol, so one that does not say that it wants input is the last. A requestState
// that is no string, or has a name in other letters, is not the protocol's.
func inputRequired(response []byte) (s stateIn, ok bool) {
	if s.result, ok = find(response, "result"); !ok {
		return s, false
	}
	fields, err := action.Scan(response[s.result.from:s.result.to], anyMessage(response))
	if err != nil {
		return s, false
	}
	kind, isString := "", true
	for _, f := range fields {
		switch {
		case f.Key == "resultType":
			kind, _ = readString(f.Raw)
		case strings.EqualFold(f.Key, requestState):
			s.at = span{s.result.from + f.Start, s.result.from + f.Start + len(f.Raw)}
			s.value, err = action.Parse(f.Raw, anyMessage(f.Raw))
			isString = err == nil && f.Key == requestState && s.value.Kind() == action.String
		}
	}
	return s, kind == "input_required" && isString
}

// wrap returns the response with the token in its requestState. Without a token
// nothing changes, unless the next message would be taken for one with a token.
func (s stateIn) wrap(response []byte, token string) []byte {
	own := string(s.value.Raw())
	if _, _, ours := unwrapState(s.value.Text(), s.value.Raw()); token == "" && !ours {
		return response
	}
	if own == "" {
		first := span{s.result.from + 1, s.result.from + 1}
		return applyEdits(response, edit{first, `"` + requestState + `":` + wrapState(token, "") + ","})
	}
	return applyEdits(response, edit{s.at, wrapState(token, own)})
}
