package proxy

import (
	"testing"

	"github.com/google/go-cmp/cmp"
)

const somePolicy = `version: 1
default: require_approval
rules:
  - {id: never, effect: deny, action: mcp.shop.drop}
  - {id: only-big, effect: deny, action: mcp.shop.buy, when: {match: {path: $.payload.arguments.n, op: gt, value: 5}}}
  - {id: destroys, effect: deny, action: "mcp.*", when: {match: {path: $.tool.annotations.destructiveHint, op: eq, value: true}}}
`

func TestHideDenied(t *testing.T) {
	const (
		drop  = `{"name":"drop","inputSchema":{"type":"object"}}`
		buy   = `{"name":"buy", "inputSchema":{"type":"object","x":1.10}, "unknown":[1.50]}`
		wipe  = `{"name":"wipe","inputSchema":{},"annotations":{"destructiveHint":true}}`
		read  = `{"inputSchema":{}, "name":"re\u0061d"}`
		twins = `{"name":"twins","inputSchema":{"properties":{"id":{},"ID":{}}}}`
	)
	list := func(tools string) string {
		return `{"jsonrpc":"2.0","id":1,"result":{"nextCursor":"c", "tools": ` + tools + `,"_meta":{"k":1.0}}}`
	}
	for _, c := range []struct {
		hide      bool
		in, wants string
	}{
		{false, "[" + drop + "," + buy + "," + wipe + "]", "[" + drop + "," + buy + "," + wipe + "]"},
		{true, "[" + drop + ", " + buy + " ," + wipe + "," + read + "]", "[" + buy + "," + read + "]"},
		{true, "[ " + buy + " , " + read + " ]", "[ " + buy + " , " + read + " ]"},
		{true, "[" + drop + "]", "[]"},
		{true, "[" + drop + "," + twins + "]", "[" + twins + "]"},
	} {
		k := newTalk(t, somePolicy, func(p *Proxy) { p.HideDenied = c.hide })
		k.upstream.write(list(c.in))
		if diff := cmp.Diff(list(c.wants), k.next(k.host)); diff != "" {
			t.Errorf("hide %v (-want +got):\n%s", c.hide, diff)
		}
	}
}
