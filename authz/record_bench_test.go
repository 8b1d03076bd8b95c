package authz

import (
	"testing"

	"github.com/openleash/openleash-go/action"
	"github.com/openleash/openleash-go/policy"
)

func BenchmarkRecorded(b *testing.B) {
	args, err := action.Parse([]byte(`{"to":["anna@example.com"],"subject":"The report","body":"Dear Anna, here is the report of the third quarter, as you have asked. Best wishes","attachments":[{"path":"/home/me/reports/q3.pdf","inline":false}],"priority":3}`), action.Limits{})
	if err != nil {
		b.Fatal(err)
	}
	req := action.Request{ActionID: "8e3b", ActionType: "mcp.mail.send", Payload: action.ObjectValue(action.Member{Key: "arguments", Value: args})}
	call := &Call{Server: "mail", Tool: "send", Arguments: args, Info: OpenInfo("mail", "send")}
	var masks policy.Recording
	for _, text := range []string{"$.payload.arguments.body", "$.payload.arguments.to[*]"} {
		m, err := action.ParsePattern(text)
		if err != nil {
			b.Fatal(err)
		}
		masks.Masks = append(masks.Masks, m)
	}
	key := &MaskKey{make([]byte, maskKeySize)}
	for name, how := range map[string]policy.Recording{"whole": {}, "masked": masks, "hash": {Hash: true}} {
		b.Run(name, func(b *testing.B) {
			for b.Loop() {
				if _, fits := recorded(req, call, how, key); !fits {
					b.Fatal("it does not fit")
				}
			}
		})
	}
}
