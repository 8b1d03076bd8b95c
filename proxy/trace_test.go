package proxy

import (
	"net/http"
	"regexp"
	"strings"
	"testing"

	"github.com/rs/zerolog"

	"github.com/openleash/openleash-go/authz"
)

const (
	aTrace = "4bf92f3577b34da6a3ce929d0e0e4736"
	bTrace = "0af7651916cd43dd8448eb211c80319c"
	aTP    = "00-" + aTrace + "-00f067aa0ba902b7-01"
	bTP    = "00-" + bTrace + "-b7ad6b7169203331-00"
)

func TestTraceID(t *testing.T) {
	for text, want := range map[string]string{
		aTP:                               aTrace,
		bTP:                               bTrace,
		"01" + aTP[2:]:                    aTrace,
		"cc" + aTP[2:] + "-more_of-it":    aTrace,
		"01" + aTP[2:] + "-":              aTrace,
		"01" + aTP[2:] + "more":           "",
		aTP + "-more":                     "",
		aTP + " ":                         "",
		" " + aTP:                         "",
		"ff" + aTP[2:]:                    "",
		"0" + aTP:                         "",
		aTP[1:]:                           "",
		"":                                "",
		strings.ToUpper(aTP):              "",
		strings.Replace(aTP, "f", "g", 1): "",
		strings.Replace(aTP, "-", "_", 1): "",
		"00-" + strings.Repeat("0", 32) + "-00f067aa0ba902b7-01":     "",
		"00-" + aTrace + "-" + strings.Repeat("0", 16) + "-01":       "",
		"00-" + aTrace[:31] + "-" + "a00f067aa0ba902b7-01":           "",
		"00-" + aTrace + "-00f067aa0ba902b7-0x":                      "",
		"0-0" + aTrace + "-00f067aa0ba902b7-01":                      "",
		"00-" + aTrace + "-00f067aa0ba902b7--1":                      "",
		"00-" + strings.Replace(aTrace, "4", "\u0664", 1) + aTP[35:]: "",
	} {
		if got := traceID(text); got != want {
			t.Errorf("%q: %q, want %q", text, got, want)
		}
	}
}

// Of two headers nobody knows which is meant.
func TestTraceOfTwoHeaders(t *testing.T) {
	h := http.Header{"Traceparent": {aTP}}
	if got := headerTrace(h); got != aTrace {
		t.Errorf("one: %q", got)
	}
	h.Add("traceparent", bTP)
	if got := headerTrace(h); got != "" {
		t.Errorf("two: %q", got)
	}
}

// The grammar of the specification, in other words.
func FuzzTraceID(f *testing.F) {
	for _, seed := range []string{aTP, bTP, "cc" + aTP[2:] + "-x", "ff" + aTP[2:], "", "00--", strings.Repeat("-", 55), strings.Repeat("0", 55)} {
		f.Add(seed)
	}
	form := regexp.MustCompile(`^([0-9a-f]{2})-([0-9a-f]{32})-([0-9a-f]{16})-[0-9a-f]{2}(-[\x00-\x{10ffff}]*)?$`)
	f.Fuzz(func(t *testing.T, text string) {
		want := ""
		if m := form.FindStringSubmatch(strings.ToValidUTF8(text, "?")); m != nil && m[1] != "ff" && (m[1] != "00" || m[4] == "") &&
			strings.Trim(m[2], "0") != "" && strings.Trim(m[3], "0") != "" {
			want = m[2]
		}
		if got := traceID(text); got != want {
			t.Errorf("%q: %q, want %q", text, got, want)
		}
	})
}

// traced is the call with a trace in its _meta.
func traced(id, traceparent string) string {
	return strings.Replace(toolCall(id, "buy", `{}`), `"name":`, `"_meta":{"traceparent":`+traceparent+`,"tracestate":"a=1"},"name":`, 1)
}

// tracesOf are the traces of the decisions and of the outcomes, which are the same.
func tracesOf(t *testing.T, p realProxy) string {
	t.Helper()
	p.Service.Close()
	var decided, came []string
	for _, e := range p.entries(t, "decision") {
		decided = append(decided, e.TraceID)
	}
	for _, e := range p.entries(t, "outcome") {
		came = append(came, e.TraceID)
	}
	if strings.Join(decided, " ") != strings.Join(came, " ") {
		t.Errorf("the decisions have %q, the outcomes %q", decided, came)
	}
	return strings.NewReplacer(aTrace, "a", bTrace, "b").Replace(strings.Join(decided, ","))
}

func TestTraceOfACallOverStdio(t *testing.T) {
	k := newTalk(t, allowAll)
	for i, tp := range []string{`"` + aTP + `"`, `"` + strings.ToUpper(bTP) + `"`, `5`, `"` + bTP + `"`} {
		id := string(rune('1' + i))
		k.host.write(traced(id, tp))
		if got := k.next(k.upstream); !strings.Contains(got, `"traceparent":`+tp+`,"tracestate":"a=1"}`) {
			t.Errorf("the server got %s", got)
		}
		k.upstream.write(`{"jsonrpc":"2.0","id":` + id + `,"result":{}}`)
		k.next(k.host)
	}
	if got := tracesOf(t, k.realProxy); got != "a,,,b" {
		t.Errorf("got %s", got)
	}
}

// What is no tool call has one too.
func TestTraceOfAResource(t *testing.T) {
	k := newTalk(t, allowAll)
	k.host.write(`{"jsonrpc":"2.0","id":1,"method":"resources/read","params":{"uri":"file:///x","_meta":{"traceparent":"` + aTP + `"}}}`)
	k.next(k.upstream)
	k.upstream.write(`{"jsonrpc":"2.0","id":1,"result":{}}`)
	k.next(k.host)
	if got := tracesOf(t, k.realProxy); got != "a" {
		t.Errorf("got %s", got)
	}
}

// Over HTTP the header tells where _meta does not, at every door.
func TestTraceOfACallOverHTTP(t *testing.T) {
	calls := func(t *testing.T, post func(body string, headers ...string)) {
		post(traced("1", `"`+aTP+`"`), "Traceparent", bTP)
		post(toolCall("2", "buy", `{}`), "traceparent", bTP)
		post(traced("3", `"none"`), "traceparent", bTP)
		post(toolCall("4", "buy", `{}`), "traceparent", bTP+"-x")
		post(toolCall("5", "buy", `{}`))
	}
	for name, door := range map[string]func(t *testing.T, p realProxy){
		"session": func(t *testing.T, p realProxy) {
			h, _ := sessionsOf(t, p.Proxy, echo)
			url := p.as(t, "bot", h).URL
			session := begin(t, url)
			calls(t, func(body string, headers ...string) {
				post(t, url, body, append(headers, "Mcp-Session-Id", session)...)
			})
		},
		"stateless": func(t *testing.T, p realProxy) {
			h, _ := sessionsOf(t, p.Proxy, echo)
			url := p.as(t, "bot", h).URL
			calls(t, func(body string, headers ...string) {
				version := `"io.modelcontextprotocol/protocolVersion":"2026-07-28","io.modelcontextprotocol/clientCapabilities":{}`
				if strings.Contains(body, `"_meta":{`) {
					body = strings.Replace(body, `"_meta":{`, `"_meta":{`+version+`,`, 1)
				} else {
					body = strings.Replace(body, `"name":`, `"_meta":{`+version+`},"name":`, 1)
				}
				if got := post(t, url, body, append(append(headers, stateless("tools/call")...), "Mcp-Name", "buy")...); got.Status != 200 {
					t.Errorf("%d %s", got.Status, got.Body)
				}
			})
		},
		"SSE": func(t *testing.T, p realProxy) {
			h, _ := sessionsOf(t, p.Proxy, echo)
			who := authz.Caller{Agent: must(p.store.EnsureAgent(t.Context(), "bot", p.owner))(t)}
			c := openSSE(t, sseDoor(t, who, h)).shake()
			calls(t, func(body string, headers ...string) {
				post(t, c.messages, body, headers...)
				c.next()
			})
		},
		"passthrough": func(t *testing.T, p realProxy) {
			up := newRawUpstream(t, answerJSON(`{"jsonrpc":"2.0","id":1,"result":{"content":[]}}`))
			url := p.as(t, "bot", p.HTTPPassthrough(HTTPUpstream{URL: up.URL})).URL
			calls(t, func(body string, headers ...string) {
				post(t, url, strings.Replace(body, `"id":`, `"id":1,"was":`, 1), headers...)
			})
			sent := up.requests()
			if last := sent[len(sent)-4]; last.header.Get("Traceparent") != bTP {
				t.Errorf("the server got %v", last.header)
			}
		},
		"together": func(t *testing.T, p realProxy) {
			d := &children{serve: echo}
			h := must((&Aggregate{Members: []Member{{p.Proxy, d.dial}}, Log: zerolog.Nop()}).HTTPHost())(t)
			t.Cleanup(func() { h.Close() })
			url := p.as(t, "bot", h).URL
			session := post(t, url, initialize).Header.Get("Mcp-Session-Id")
			post(t, url, initialized, "Mcp-Session-Id", session)
			calls(t, func(body string, headers ...string) {
				post(t, url, strings.Replace(body, `"name":"`, `"name":"shop__`, 1), append(headers, "Mcp-Session-Id", session)...)
			})
		},
	} {
		t.Run(name, func(t *testing.T) {
			p := newRealProxy(t, allowAll)
			door(t, p)
			if got := tracesOf(t, p); got != "a,b,b,," {
				t.Errorf("got %s", got)
			}
		})
	}
}
