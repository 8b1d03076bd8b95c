package proxy

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"

	"github.com/openleash/openleash-go/authz"
)

// leave says that a held call waits no more: the same in other words may take its
// place from now on. If that cannot be written, the hold ends with its time.
func (p *Proxy) leave(ctx context.Context, ans authz.Answer) {
	if err := p.Service.Leave(ctx, ans); err != nil {
		p.Log.Warn().Err(err).Str("server", p.Name).Str("approval", ans.Approval.ID).Msg("that a call waits no more could not be written; it is forgotten when its time is over")
	}
}

// kinInfo is what a refusal says of the same call in other words.
type kinInfo struct {
	Version  int             `json:"version,omitempty"`            // of the request, when it is not the first
	Replaces int             `json:"replaces_version,omitempty"`   // the version that this call has replaced
	Granted  json.RawMessage `json:"approved_arguments,omitempty"` // were approved, and not used yet
}

func kinOf(ans authz.Answer) (k kinInfo) {
	if ans.Code != authz.ApprovalRequired || ans.Approval == nil {
		return k
	}
	if ans.Approval.Version > 1 {
		k.Version, k.Replaces = ans.Approval.Version, ans.Replaces
	}
	if ans.Granted != nil {
		if raw := argumentsText(ans.Granted.Action.Payload.Get("arguments")); len(raw) <= repeatBytes {
			k.Granted = raw
		}
	}
	return k
}

// text says it in words.
func (k kinInfo) text(b *strings.Builder) {
	if k.Replaces > 0 {
		fmt.Fprintf(b, "Request: this replaces version %d of the request; the owner is shown this one, as version %d\n", k.Replaces, k.Version)
	}
	if k.Granted != nil {
		fmt.Fprintf(b, "Approved already: the same in other words, and not used yet. A call with exactly these arguments runs at once: %s\n", k.Granted)
	}
}
