package authz

import (
	"slices"
	"strings"

	"github.com/openleash/openleash-go/action"
	"github.com/openleash/openleash-go/audit"
	"github.com/openleash/openleash-go/policy"
)

// Marks are what the log does not keep of one action. What else is written of it goes
// by them: reasons, limits and details can repeat an argument.
type marks struct {
	masked []string // the paths
	veiled bool     // the policies keep a part of the arguments out of the log
	key    *MaskKey
}

// hides reports whether what stands at one of the paths, or a part of it, is masked.
func (m marks) hides(paths ...action.Path) bool {
	return len(paths) > 0 && slices.ContainsFunc(m.masked, func(text string) bool {
		path, err := action.ParsePath(text)
		return err != nil || slices.ContainsFunc(paths, path.Touches)
	})
}

// told is the reason of a decision.
func (m marks) told(reason string, d policy.Decision) string {
	if !m.hides(d.Told()...) {
		return reason
	}
	return strings.Replace(reason, d.Reason, d.Plain, 1)
}

// refusal is the reason of a refusal that no policy gave. Some quote the arguments.
func (m marks) refusal(code Code, reason string) string {
	if m.veiled && reason != tooMuch && (code == Protected || code == ArgumentsRefused) {
		return "the arguments are refused; why would tell what is masked in them, and the agent was told"
	}
	return maskText(reason)
}

// about is the name that a call is about, of what is no tool call. It is an argument.
func (m marks) about(call *Call) string {
	if m.veiled && call.About != "" {
		return Mask
	}
	return maskText(call.About)
}

// came is the detail of an outcome. Servers and networks repeat what was sent.
func (m marks) came(o Outcome) string {
	if m.veiled && o.Detail != "" && o.Status != "cancelled" {
		return Mask
	}
	return maskText(o.Detail)
}

// limit is what the log says of a limit that the action counts for.
func (m marks) limit(l *policy.Limit, e audit.Limit) audit.Limit {
	return m.key.veil(e, m.hides(l.ReadsForKey()...), m.hides(l.ReadsForAmount()...))
}

// veil takes the key, or the amounts, out of what the log says of a limit.
func (k *MaskKey) veil(e audit.Limit, key, amount bool) audit.Limit {
	if key && e.Key != "" {
		e.Key = k.Text(action.StringValue(e.Key))
	}
	if amount {
		e.Amount, e.Used, e.Held = 0, 0, 0
	}
	if (key || amount) && e.Doubt != "" {
		e.Doubt = Mask
	}
	return e
}
