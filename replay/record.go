package replay

import (
	"bufio"
	"cmp"
	"errors"
	"fmt"
	"io"
	"slices"
	"time"

	"github.com/openleash/openleash-go/action"
	"github.com/openleash/openleash-go/policy"
)

// Options say how to replay.
type Options struct {
	Since    time.Time // decisions before it fill the limits, and are not told of
	Examples int       // of each group
}

// maxLine is the longest line of a log (audit).
const maxLine = 16 << 20

// Run replays a log. The error names the line that is none of a log.
func Run(log io.Reader, book *policy.Book, o Options) (Report, error) {
	p := player{
		book: book, since: o.Since, examples: o.Examples,
		ran: make(map[string]charged), waiting: make(map[string]held), intents: make(map[string]string), asked: make(map[string]string), approved: make(map[string]Verdict),
		doubt: make(map[string]int64), groups: make(map[groupKey]int),
	}
	lines := bufio.NewReaderSize(log, 1<<20)
	for n := 1; ; n++ {
		line, err := readLine(lines)
		switch {
		case err == io.EOF && len(line) > 0:
			p.report.Torn = n
			return p.end(), nil
		case err == io.EOF:
			return p.end(), nil
		case err == nil:
			err = p.take(n, line)
		}
		if err != nil {
			return p.report, fmt.Errorf("line %d: %w", n, err)
		}
	}
}

var errLong = fmt.Errorf("it is longer than %d bytes: this is no log", maxLine)

// readLine gives a line without its end; at the end of the file what is left.
func readLine(r *bufio.Reader) (line []byte, err error) {
	for {
		part, err := r.ReadSlice('\n')
		if line = append(line, part...); len(line) > maxLine {
			return nil, errLong
		}
		if errors.Is(err, bufio.ErrBufferFull) {
			continue
		}
		if err == nil {
			line = line[:len(line)-1]
		}
		return line, err
	}
}

func (p *player) take(n int, line []byte) error {
	v, err := action.Parse(line, action.Limits{Bytes: maxLine, Depth: 80, CaseTwins: true})
	if err != nil {
		return err
	}
	e := entry{Value: v, line: n}
	if e.at, err = time.Parse(time.RFC3339, e.text("ts")); err != nil || e.text("event") == "" {
		return errors.New(`want "ts", a time, and "event": this is no log`)
	}
	switch e.text("event") {
	case "decision":
		p.decision(e)
	case "outcome":
		p.outcome(e)
	case "limit.released":
		p.released(e)
	case "approval.approved", "approval.denied":
		p.answer(e, e.text("event") == "approval.approved")
	case "approval.withdrawn", "grant.withdrawn":
		p.withdrawn(e)
	}
	return nil
}

// An entry is one line.
type entry struct {
	action.Value
	line int
	at   time.Time
}

// text is a member that is a string, and empty when there is none.
func (e entry) text(name string) string { return e.Get(name).Text() }

func (e entry) flag(name string) bool { return e.Get(name).IsTrue() }

func (e entry) round() bool { return e.Get("round").Kind() == action.Number }

// intent names what is asked for, whoever asks for it again: of a call its intent, else
// the request for approval.
func (e entry) intent() string {
	if e.text("intent_hash") == "" {
		return e.text("approval_id")
	}
	return e.text("intent_hash")
}

// approved reports whether it ran because somebody had approved it.
func (e entry) approved() bool {
	return e.text("decision") == policy.Allow.String() && e.text("approval_id") != ""
}

// waits reports whether it waited for its owner.
func (e entry) waits() bool {
	return slices.Contains([]string{policy.RequireApproval.String(), policy.RequireStepUp.String(), policy.RequireDeposit.String()}, e.text("decision"))
}

// notByPolicy is true of refusals that no policy gave.
func (e entry) notByPolicy() bool {
	return slices.Contains([]string{"PROTECTED", "ARGUMENTS_REFUSED", "TOO_MANY_OPEN", "TOOL_HELD", "TOOL_CHANGED", "TOOL_REFUSED", "POLICY_INVALID", "LOG_UNAVAILABLE", "STORE_UNAVAILABLE"}, e.text("code"))
}

// verdict is what the policies said then. That an owner had answered was not theirs to
// say: that is as it was when the owner was asked, if that is known.
func (e entry) verdict(asked string) Verdict {
	v := Verdict{Decision: e.text("decision"), PolicyID: e.text("policy_id"), RuleID: e.text("matched_rule_id"), Reason: e.text("reason")}
	if e.approved() || e.text("code") == "APPROVAL_DENIED" {
		v.Decision = cmp.Or(asked, policy.RequireApproval.String())
	}
	return v
}

// request is what was decided on, or why it is not known.
func (e entry) request() (req action.Request, env policy.Env, why string) {
	payload, party := e.Get("payload"), e.Get("relying_party")
	switch {
	case e.maskedAt("$.payload"):
		payload = action.ObjectValue() // which nothing that is decided may depend on (masks)
	case payload.Kind() != action.Object:
		return req, env, "the record has no payload"
	}
	req = action.Request{
		ActionID: e.text("action_id"), ActionType: e.text("action_type"), RequestedAt: e.text("requested_at"),
		AgentID: e.text("actor_id"), SubjectID: e.text("owner_id"), Payload: payload,
		RelyingParty: action.RelyingParty{
			RPID: party.Get("rp_id").Text(), Domain: party.Get("domain").Text(), TrustProfile: party.Get("trust_profile").Text(),
			Blank: party.Kind() == action.Object && party.Len() == 0,
		},
	}
	if e.Get("masked").Kind() == action.Missing && req.Hash().String() != e.text("action_hash") {
		return req, env, "the record is of another action than its hash"
	}
	return req, policy.Env{Tool: e.Get("tool_info"), Open: e.flag("open"), Now: e.at}, ""
}

// maskedAt reports whether the whole of what stands at a path was masked.
func (e entry) maskedAt(path string) bool {
	for _, m := range e.Get("masked").Items() {
		if m.Text() == path {
			return true
		}
	}
	return false
}

// masks names the first path that the decision depends on and that was masked.
func (e entry) masks(set *policy.Set, req *action.Request, env policy.Env) string {
	if e.Get("masked").Len() == 0 {
		return ""
	}
	read := set.Reads(req, env)
	for _, m := range e.Get("masked").Items() {
		path, err := action.ParsePath(m.Text())
		if err != nil {
			return fmt.Sprintf("%s is masked", m.Text())
		}
		if slices.ContainsFunc(read, path.Touches) {
			return path.String() + " is masked"
		}
	}
	return ""
}
