package proxy

import (
	"bytes"
	"context"
	"slices"
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
// While a call is held, what its host gets is ours alone (wait.go), and says what
// the host had sent:
//
//	"openleash.wait.TEXT:what the host sent, as it was written"
//	"openleash.wait.TEXT"              it sent none
//
// On its way up that is taken off again. So a server gets back the very string
// that it sent, whatever that looks like.

const (
	roundPrefix = "openleash.round."
	legPrefix   = "openleash.wait."
)

const (
	inputResponses = "inputResponses"
	requestState   = "requestState"
)

// Letters of the tokens of rounds (those of crypto/rand.Text), and of legs
// (authz.NextLeg). maxToken bounds what a host brings.
const (
	roundLetters = "ABCDEFGHIJKLMNOPQRSTUVWXYZ234567"
	legLetters   = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_."
	maxToken     = 256
)

// wrapState writes a requestState, a JSON string or none, with ours before it.
func wrapState(prefix, token, own string) string {
	if own == "" {
		return `"` + prefix + token + `"`
	}
	return `"` + prefix + token + ":" + own[1:]
}

// unwrapRound and unwrapLeg take a requestState apart, by its text and the JSON string
// that it was written as. ours is false for what wrapState does not write. own is
// empty when there was none.
func unwrapRound(state action.Value) (token, own string, ours bool) {
	return unwrapState(roundPrefix, roundLetters, state)
}

func unwrapLeg(state action.Value) (token, own string, ours bool) {
	return unwrapState(legPrefix, legLetters, state)
}

func unwrapState(prefix, letters string, state action.Value) (token, own string, ours bool) {
	text, ours := strings.CutPrefix(state.Text(), prefix)
	token, rest, has := strings.Cut(text, ":")
	if state.Kind() != action.String || !ours || strings.Trim(token, letters) != "" || len(token) > maxToken || !has && token == "" {
		return "", "", false
	}
	if !has {
		return token, "", true
	}
	if written, ok := bytes.CutPrefix(state.Raw(), []byte(`"`+prefix+token+":")); ok {
		return token, `"` + string(written), true
	}
	return token, string(quote(rest)), true // the host has escaped letters of ours
}

// readState notes which leg or round of a call this message claims to be, and the
// edits that give the server its own requestState.
func (c *call) readState() {
	state := c.params.Get(requestState)
	if state.Kind() != action.String {
		return
	}
	c.state = string(state.Raw())
	own := c.state
	if leg, inner, ours := unwrapLeg(state); ours {
		c.leg, c.state, own = leg, inner, inner
	}
	if round, inner, ours := unwrapRound(jsonString(own)); ours {
		c.round, own = round, inner
	}
	if own != string(state.Raw()) {
		c.restore(state, own)
	}
}

// jsonString reads a string that was written as JSON; empty: Missing.
func jsonString(raw string) action.Value {
	v, err := action.Parse([]byte(raw), anyMessage([]byte(raw)))
	if err != nil {
		return action.Value{}
	}
	return v
}

// restore edits the message so that it says what its host meant to say: with the
// server's own requestState, and without answers to what the server has not asked.
func (c *call) restore(state action.Value, own string) {
	var gone []action.Value
	if answers := c.params.Get(inputResponses); c.leg != "" && answers.Kind() != action.Missing {
		gone = append(gone, answers)
	}
	if own != "" {
		c.cuts = append(c.cuts, edit{spanOf(state), own})
	} else {
		gone = append(gone, state)
	}
	slices.SortFunc(gone, func(a, b action.Value) int { return a.Start() - b.Start() })
	taken := 0
	for _, v := range gone {
		at := memberAt(c.Raw, spanOf(v), taken)
		c.cuts = append(c.cuts, edit{at, ""})
		taken = at.to
	}
	c.gone = len(gone)
}

func spanOf(v action.Value) span { return span{v.Start(), v.Start() + len(v.Raw())} }

// memberAt is where the member of an object lies whose value lies at a span, with
// the comma before it or, when there is none or it lies before taken, the one
// behind. Its name has no quote in it.
func memberAt(raw []byte, value span, taken int) span {
	quoteEnd := bytes.LastIndexByte(raw[:value.from], '"')
	from := bytes.LastIndexByte(raw[:quoteEnd], '"')
	before, after := bytes.TrimRight(raw[:from], " \t\r\n"), bytes.TrimLeft(raw[value.to:], " \t\r\n")
	switch {
	case before[len(before)-1] == ',' && len(before) > taken:
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
	_, _, likeRound := unwrapRound(s.value)
	_, _, likeLeg := unwrapLeg(s.value)
	if token == "" && !likeRound && !likeLeg {
		return response
	}
	if own == "" {
		first := span{s.result.from + 1, s.result.from + 1}
		return applyEdits(response, edit{first, `"` + requestState + `":` + wrapState(roundPrefix, token, "") + ","})
	}
	return applyEdits(response, edit{s.at, wrapState(roundPrefix, token, own)})
}
