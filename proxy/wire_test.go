package proxy

import (
	"strings"
	"testing"
)

// In the table § stands for an id and ¶ for a progress token: those that the
// host wrote are not those that a shared upstream sees.

// A talked is one exchange: a message of one side, what the other says and
// asks meanwhile, and its response.
type talked struct {
	name     string
	id       string // empty: a notification
	token    string
	say      string
	before   []string // said by the other side before it answers
	response string
}

func ask(name, id, method, params, result string, before ...string) talked {
	return talked{name: name, id: id, token: `"tok-\u00e9"`, before: before,
		say:      `{"jsonrpc":"2.0","id":§,"method":"` + method + `","params":` + params + `}`,
		response: `{"jsonrpc":"2.0","id":§,"result":` + result + `}`}
}

func tell(method, params string) talked {
	return talked{name: method, say: `{"jsonrpc":"2.0","method":"` + method + `","params":` + params + `}`}
}

// odd has what a typed relay loses.
const odd = `{"n":9007199254740993,"p":1.10,"e":1E+2,"s":"\u00e9é\/\u2028<&>","_meta":{"other.example/k":{}, "z":null}, "zz":[ 1 ,2],"aa":{"a":1}}`

// hostSays is what hosts of the eras with a handshake say.
var hostSays = []talked{
	ask("ping", `1`, "ping", `{}`, `{}`),
	ask("tools/list", `"two"`, "tools/list", `{"cursor":"c\u0031"}`, `{"tools":[{"name":"buy","title":"T","description":"<b>\u00fc","inputSchema":{"type":"object","$defs":{"x":{"oneOf":[{"const":1.0},{"$ref":"#/$defs/x"}]}},"properties":{"n":{"type":"integer","maximum":9007199254740993}},"additionalProperties":false},"outputSchema":{"type":"object","unevaluatedProperties":false},"annotations":{"readOnlyHint":true,"x":1},"icons":[{"src":"data:image/png;base64,AA==","sizes":["48x48"],"theme":"dark"}],"execution":{"taskSupport":"optional"},"_meta":{"v/x":1.0}}],"nextCursor":"c2","_meta":{"k":1}}`),
	ask("tools/call", `3`, "tools/call", `{"name":"buy","arguments":`+odd+`,"other":1.0}`, `{"content":[{"type":"text","text":"\ud83d\ude00","annotations":{"audience":["user"],"priority":0.50}},{"type":"image","data":"AA==","mimeType":"image/png"},{"type":"audio","data":"AA==","mimeType":"audio/wav"},{"type":"resource","resource":{"uri":"file:///x","blob":"AA==","_meta":{}}},{"type":"resource_link","uri":"x:\/\/y","name":"y","size":9007199254740993},{"type":"hologram","x":[1e400]}],"structuredContent":`+odd+`,"isError":false,"_meta":{"a":1}}`),
	ask("tools/call with a _meta", `-4`, "tools/call", `{"_meta":{"kept":1.0,"progressToken":¶},"name":"buy","arguments":{}}`, `{"content":[],"isError":true}`,
		`{"jsonrpc":"2.0","method":"notifications/progress","params":{"progressToken":¶,"progress":0.10,"total":1.0,"message":"m\u00e9"}}`,
		`{"jsonrpc":"2.0","method":"notifications/message","params":{"level":"info","logger":"l","data":`+odd+`}}`,
		`{"jsonrpc":"2.0","method":"notifications/progress","params":{"progressToken":¶,"progress":0.20}}`),
	ask("tools/call as a task", `5.50`, "tools/call", `{"name":"buy","arguments":{},"task":{"ttl":60000}}`, `{"task":{"taskId":"t1","status":"working","createdAt":"2026-01-01T00:00:00Z","ttl":60000,"pollInterval":5000}}`),
	{name: "tools/call, refused by the server", id: `6`, say: `{"jsonrpc":"2.0","id":§,"method":"tools/call","params":{"name":"buy"}}`,
		response: `{"jsonrpc":"2.0","id":§,"error":{"code":-32602,"message":"no","data":{"why":[1.0,"\u00e9"]},"more":1}}`},
	{name: "an elicitation by URL is required", id: `7`, say: `{"jsonrpc":"2.0","id":§,"method":"tools/call","params":{"name":"buy"}}`,
		response: `{"jsonrpc":"2.0","id":§,"error":{"code":-32042,"message":"go","data":{"elicitations":[{"mode":"url","elicitationId":"e","url":"https://x.example/","message":"m"}]}}}`},
	ask("tasks/get", `8`, "tasks/get", `{"taskId":"t1"}`, `{"taskId":"t1","status":"input_required"}`),
	ask("tasks/result", `9`, "tasks/result", `{"taskId":"t1"}`, `{"content":[],"_meta":{"io.modelcontextprotocol/related-task":{"taskId":"t1"}}}`),
	ask("tasks/list", `10`, "tasks/list", `{"cursor":"x"}`, `{"tasks":[]}`),
	ask("tasks/cancel", `11`, "tasks/cancel", `{"taskId":"t1"}`, `{"taskId":"t1","status":"cancelled"}`),
	ask("resources/list", `12`, "resources/list", `{}`, `{"resources":[{"uri":"file:///a","name":"a","size":1.0,"annotations":{"lastModified":"2026-01-01T00:00:00Z"}}]}`),
	ask("resources/templates/list", `13`, "resources/templates/list", `{}`, `{"resourceTemplates":[{"uriTemplate":"file:///{p}","name":"n"}]}`),
	ask("resources/read", `14`, "resources/read", `{"uri":"file:\/\/\/a"}`, `{"contents":[{"uri":"file:///a","text":"\u0000\u001b"},{"uri":"b","blob":"AA==","mimeType":"x/y"}]}`),
	ask("resources/subscribe", `15`, "resources/subscribe", `{"uri":"a"}`, `{}`),
	ask("resources/unsubscribe", `16`, "resources/unsubscribe", `{"uri":"a"}`, `{}`),
	ask("prompts/list", `17`, "prompts/list", `{}`, `{"prompts":[{"name":"p","arguments":[{"name":"a","required":true}]}]}`),
	ask("prompts/get", `18`, "prompts/get", `{"name":"p","arguments":{"a":"\u00e9"}}`, `{"messages":[{"role":"user","content":{"type":"text","text":"t"}}]}`),
	ask("completion/complete", `19`, "completion/complete", `{"ref":{"type":"ref/prompt","name":"p"},"argument":{"name":"a","value":"v"},"context":{"arguments":{}}}`, `{"completion":{"values":["x"],"total":9007199254740993,"hasMore":true}}`),
	ask("logging/setLevel", `20`, "logging/setLevel", `{"level":"debug"}`, `{}`),
	ask("extension", `"\u0041\"b"`, "vendor.example/do", odd, odd),
	ask("params are a list", `9007199254740993`, "future/list", `[1,2.0,"\ud800"]`, `[1e400]`),
	ask("twins that concern nobody here", `21`, "future/twins", `{"a":1,"a":2,"A":3}`, `{"b":1,"b":2}`),
	{name: "unknown members", id: `22`, say: `{ "zz" : 1.10 , "params" : {} , "method":"future\/method", "id":§,"jsonrpc":"2.0","trace":{"a":[]}}`,
		response: `{"extra":[1.0],"error":{"message":"Method not found","code":-32601},"id":§, "jsonrpc":"2.0"}`},
	{name: "no params", id: `23`, say: `{"jsonrpc":"2.0","id":§,"method":"future/bare"}`, response: `{"jsonrpc":"2.0","id":§,"result":null}`},
	{name: "lines between the tokens", id: `24`, say: "{\"jsonrpc\":\"2.0\",\n\"id\":§,\r\n\"method\":\"future/lines\"}", response: "{\"jsonrpc\":\"2.0\",\n \"id\":§,\n\"result\":{}\n}"},
	ask("the server asks meanwhile", `25`, "future/asks", `{"_meta":{"progressToken":¶}}`, `{}`,
		`{"jsonrpc":"2.0","method":"notifications/progress","params":{"progressToken":¶,"progress":1}}`,
		`{"jsonrpc":"2.0","id":25,"method":"roots/list"}`,
		`{"jsonrpc":"2.0","id":"ask","method":"sampling/createMessage","params":{"messages":[{"role":"user","content":{"type":"text","text":"\u00e9"}}],"maxTokens":100,"tools":[{"name":"t","inputSchema":{}}],"includeContext":"none"}}`),
	tell("notifications/cancelled", `{"requestId":77,"reason":"\u00e9"}`),
	tell("notifications/progress", `{"progressToken":"server's","progress":1.10}`),
	tell("notifications/roots/list_changed", `{}`),
	tell("notifications/tasks/status", `{"taskId":"x","status":"completed"}`),
	tell("notifications/future", odd),
	{name: "a notification without params", say: `{"method":"notifications/bare" , "jsonrpc":"2.0"}`},
}

// serverSays is what servers of those eras say unasked.
var serverSays = []talked{
	ask("ping", `1`, "ping", `{}`, `{}`),
	ask("roots/list", `"r"`, "roots/list", `{}`, `{"roots":[{"uri":"file:\/\/\/x","name":"\u00e9","_meta":{"a":1.0}}]}`),
	ask("sampling/createMessage", `1.50`, "sampling/createMessage", `{"messages":[],"maxTokens":9007199254740993,"modelPreferences":{"hints":[{"name":"x"}],"costPriority":0.10}}`, `{"role":"assistant","content":{"type":"text","text":"\ud83d\ude00"},"model":"m","stopReason":"endTurn"}`),
	ask("elicitation by form", `4`, "elicitation/create", `{"mode":"form","message":"m","requestedSchema":{"type":"object","properties":{"a":{"type":"number","minimum":1.10}}}}`, `{"action":"accept","content":{"a":1.10}}`),
	ask("elicitation by URL", `5`, "elicitation/create", `{"mode":"url","message":"m","elicitationId":"e1","url":"https://x.example/\u00e9"}`, `{"action":"decline"}`),
	ask("tasks/get", `6`, "tasks/get", `{"taskId":"h1"}`, `{"taskId":"h1","status":"working"}`),
	{name: "refused by the host", id: `7`, say: `{"jsonrpc":"2.0","id":§,"method":"future/server"}`, response: `{"jsonrpc":"2.0","id":§,"error":{"code":-32601,"message":"no","data":1.10}}`},
	ask("extension", `"\u0041"`, "vendor.example/ask", odd, odd),
	tell("notifications/message", `{"level":"error","data":[1e400,"\ud800"]}`),
	tell("notifications/resources/updated", `{"uri":"file:///a","title":"t"}`),
	tell("notifications/resources/list_changed", `{}`),
	tell("notifications/tools/list_changed", `{"_meta":{"x":1}}`),
	tell("notifications/prompts/list_changed", `{}`),
	tell("notifications/tasks/status", `{"taskId":"t1","status":"completed","statusMessage":"\u00e9"}`),
	tell("notifications/elicitation/complete", `{"elicitationId":"e1"}`),
	tell("notifications/cancelled", `{"requestId":"r","reason":"x"}`),
	tell("notifications/progress", `{"progressToken":"nobody's","progress":1}`),
	tell("notifications/future", odd),
}

// statelessSays is what hosts of 2026-07-28 say.
var statelessSays = []talked{
	ask("server/discover", `1`, "server/discover", `{`+metas+`}`, `{"supportedVersions":["2026-07-28"],"capabilities":{"experimental":{"x":{}},"extensions":{"io.example/x":{"a":1.0}}},"serverInfo":{"name":"s","version":"1"},"resultType":"complete"}`),
	ask("tools/list", `2`, "tools/list", `{`+metas+`}`, `{"tools":[{"name":"buy","inputSchema":{"type":"object"}}],"ttlMs":1.0,"cacheScope":"user","resultType":"complete"}`),
	ask("tools/call", `"c"`, "tools/call", `{"name":"buy","arguments":`+odd+`,`+metas+`}`, `{"content":[],"resultType":"complete","_meta":{"io.modelcontextprotocol/serverInfo":{"name":"s"}}}`,
		`{"jsonrpc":"2.0","method":"notifications/progress","params":{"progressToken":¶,"progress":1.10}}`,
		`{"jsonrpc":"2.0","method":"notifications/message","params":{"level":"info","data":1.0,"_meta":{"io.modelcontextprotocol/subscriptionId":§}}}`),
	ask("input is required", `3`, "tools/call", `{"name":"buy","arguments":{},`+metas+`}`, `{"resultType":"input_required","inputRequests":{"a":{"method":"elicitation/create","params":{"message":"m","requestedSchema":{"type":"object"}}},"b":{"method":"roots/list"}},"requestState":"st\u00e9"}`),
	ask("and given", `4`, "tools/call", `{"name":"buy","arguments":{},"inputResponses":{"a":{"action":"accept","content":{"n":1.10}},"b":{"roots":[]}},"requestState":"st\u00e9",`+metas+`}`, `{"content":[],"resultType":"complete"}`),
	ask("subscriptions/listen", `"sub"`, "subscriptions/listen", `{"notifications":{"toolsListChanged":true,"resourceSubscriptions":["a"]},`+metas+`}`, `{"resultType":"complete","_meta":{"io.modelcontextprotocol/subscriptionId":§}}`,
		`{"jsonrpc":"2.0","method":"notifications/subscriptions/acknowledged","params":{"notifications":{},"_meta":{"io.modelcontextprotocol/subscriptionId":§}}}`,
		`{"jsonrpc":"2.0","method":"notifications/tools/list_changed","params":{"_meta":{"io.modelcontextprotocol/subscriptionId":§}}}`),
	ask("resources/read", `5`, "resources/read", `{"uri":"file:///a",`+metas+`}`, `{"contents":[],"ttlMs":1.0,"cacheScope":"user"}`),
	ask("prompts/get", `6`, "prompts/get", `{"name":"p",`+metas+`}`, `{"messages":[]}`),
	{name: "no such method", id: `7`, token: `7`, say: `{"jsonrpc":"2.0","id":§,"method":"future/x","params":{` + metas + `}}`, response: `{"jsonrpc":"2.0","id":§,"error":{"code":-32601,"message":"no","data":{"a":1.0}}}`},
	{name: "no such version", id: `8`, token: `"8"`, say: `{"jsonrpc":"2.0","id":§,"method":"ping","params":{` + metas + `}}`, response: `{"jsonrpc":"2.0","id":§,"error":{"code":-32022,"message":"no","data":{"supported":["2026-07-28"]}}}`},
}

const metas = `"_meta":{"kept":1.0,"io.modelcontextprotocol/protocolVersion":"2026-07-28","io.modelcontextprotocol/clientInfo":{"name":"h","version":"1.10"},"io.modelcontextprotocol/clientCapabilities":{"extensions":{}},"progressToken":¶}`

func TestWireBytes(t *testing.T) {
	for _, kind := range pairs {
		t.Run(kind.String(), func(t *testing.T) {
			w := newWire(t, kind, allowAll).begin()
			for _, said := range hostSays {
				w.talk(w.host, w.up, said)
			}
			for _, said := range serverSays {
				w.talk(w.up, w.host, said)
			}
		})
	}
}

func TestWireBytesStateless(t *testing.T) {
	for _, kind := range pairs {
		t.Run(kind.String(), func(t *testing.T) {
			w := newWire(t, kind, allowAll)
			for i, said := range statelessSays {
				if i == 0 && kind == (pair{"http", "stdio"}) { // it is asked for its era first
					w.host.write(fill(said.say, said.id, said.token))
					if got := w.up.next(); got != probe {
						t.Fatalf("the probe: %s", got)
					}
					w.up.write(`{"jsonrpc":"2.0","id":` + probeID + `,"result":{}}`)
					w.received(said)
					continue
				}
				w.talk(w.host, w.up, said)
			}
		})
	}
}

// talk plays one exchange and compares every byte.
func (w *wire) talk(from, to *end, said talked) {
	w.t.Helper()
	from.write(w.written(from, fill(said.say, said.id, said.token)))
	if from == w.host {
		w.received(said)
		return
	}
	w.check(said.name, to.next(), w.arrives(from, to, fill(said.say, said.id, said.token)))
	if said.id != "" {
		w.answer(to, from, said.name, fill(said.response, said.id, said.token))
	}
}

// received wants what the host said at the upstream, and lets the upstream
// answer it.
func (w *wire) received(said talked) {
	w.t.Helper()
	got := unproved(w.up.next())
	id, token := said.id, said.token
	if w.pair == (pair{"http", "stdio"}) && strings.Contains(said.say, "2026-07-28") {
		id = rawAt([]byte(got), "id") // ours: the shared upstream never sees the host's
		token = id
	}
	w.check(said.name, got, w.arrives(w.host, w.up, fill(said.say, id, token)))
	for _, raw := range said.before {
		w.up.write(fill(raw, id, token))
		w.check(said.name+", before", w.host.next(), fill(raw, said.id, said.token))
		if m := message(w.t, fill(raw, id, token)); m.IsRequest() {
			w.answer(w.host, w.up, said.name+", asked", `{"jsonrpc":"2.0","id":`+m.ID+`,"result":`+odd+`}`)
		}
	}
	if said.id != "" {
		w.up.write(w.written(w.up, fill(said.response, id, token)))
		w.check(said.name+", the response", w.host.next(), w.arrives(w.up, w.host, fill(said.response, said.id, said.token)))
	}
}

func (w *wire) answer(from, to *end, name, raw string) {
	w.t.Helper()
	from.write(raw)
	w.check(name+", the answer", to.next(), raw)
}

func (w *wire) check(name, got, want string) {
	w.t.Helper()
	if got != want {
		w.t.Errorf("%s:\ngot  %s\nwant %s", name, got, want)
	}
}

func fill(raw, id, token string) string {
	return strings.NewReplacer("§", id, "¶", token).Replace(raw)
}

// On stdio a line is a message: line ends between tokens become spaces there,
// and an event has its own.
var noLines = strings.NewReplacer("\n", " ", "\r", " ")

func (w *wire) written(by *end, raw string) string {
	if by == w.host && w.pair.host == "stdio" || by == w.up && w.pair.up == "stdio" {
		return noLines.Replace(raw)
	}
	return raw
}

func (w *wire) arrives(by, at *end, raw string) string {
	raw = w.written(by, raw)
	return w.written(at, raw)
}
