package proxy

import (
	"bytes"
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/mark3labs/mcp-go/mcp"

	"github.com/openleash/openleash-go/action"
	"github.com/openleash/openleash-go/approvals"
	"github.com/openleash/openleash-go/authz"
)

// A held call waits for its owner as long as hosts wait for an answer: by default a
// little less than a minute. Then its host is sent away in the best way that it
// knows, and the call may come back:
//
//   - a host of the stateless era gets a result that wants input, and none in
//     particular: it sends the call again by itself, a few times (authz.NextLeg);
//   - one that can open pages for its user (elicitation.url) gets error -32042 with
//     our page, once, and is told when it was answered;
//   - any other gets a result with isError, by which the model calls again.
//
// None of them is asked whether it approves: a host could answer that by itself. A
// page is not asked for while the call is held (elicitation/create): hosts give up
// on the call meanwhile, and what the user does on the page is no answer to it.

// A line leads from a ruling that is being made back to the host of the message.
// All of it may be nil.
type line struct {
	ask      lister           // lists the server's tools
	departed func()           // called, once or more, when the message is held
	notify   func(raw []byte) // sends a notification to the host, beside the answer to its request
	quiet    func()           // shows the host that we are still there, where that is no message
	// later does what takes longer than the ruling: it runs wait, which ends with the
	// session, and sends the host what that returns, if anything. It is false when it
	// cannot.
	later func(wait func(ctx context.Context) []byte) bool
	opens bool // the host can open a page for its user (elicitation.url)

	send    func(ctx context.Context, m Message) ([]byte, error) // asks the server something of ours, and returns its answer
	lasting context.Context                                      // ends when send cannot be used any more
	tasks   bool                                                 // the server has tasks for tools/call (2025-11-25)
}

func (l line) stepAside() {
	if l.departed != nil {
		l.departed()
	}
}

// holdOf is how long a call of this agent waits.
func (p *Proxy) holdOf(who authz.Caller) time.Duration {
	if hold, ok := p.HoldFor[who.Agent.Name]; ok {
		return hold
	}
	return p.Hold
}

// tellEvery is how often a held call tells its host that it still waits.
const tellEvery = 10 * time.Second

// tellAfter is how soon at the earliest a host hears that a page was answered: over
// HTTP that goes by another stream than the error with the page, which must be there
// first.
const tellAfter = time.Second

// hold waits until the request, or the definition, is answered, and reports whether it was before
// until and before the host went away.
func (p *Proxy) hold(ctx context.Context, call *authz.Call, ans authz.Answer, until time.Time, token string, l line) bool {
	ctx, cancel := context.WithDeadline(ctx, until)
	defer cancel()
	defer l.keepTelling(token, p.tellEvery)()
	return p.answered(ctx, call, ans) == nil
}

// answered waits until the owner has said something to what a call waits for: its
// request, or its definition.
func (p *Proxy) answered(ctx context.Context, call *authz.Call, ans authz.Answer) error {
	if ans.Code == authz.ToolHeld {
		return p.pins.Wait(ctx, call)
	}
	_, err := approvals.Wait(ctx, p.Service.Approvals(), ans.Approval.ID)
	return err
}

// awaited names what a call waits for: its request; else the call itself and the
// definition, whose hash stands in the reason.
func awaited(who authz.Caller, call *authz.Call, ans authz.Answer) string {
	if ans.Approval != nil {
		return ans.Approval.ID
	}
	intent := action.IntentHash(who.Agent.Name, call.Server, call.Tool, call.Arguments)
	return "definition-" + sum([]byte(intent.String()+"\n"+ans.Reason))
}

// keepTelling sends progress, or shows some other sign of life, until stop is called.
// The values are tiny, so that those of the upstream, which follow, still rise: "The
// progress value MUST increase with each notification" (MCP, Progress).
func (l line) keepTelling(token string, every time.Duration) (stop func()) {
	tell := func(int) {}
	switch {
	case token != "" && l.notify != nil:
		tell = func(n int) {
			l.notify(fmt.Appendf(nil, `{"jsonrpc":"2.0","method":"notifications/progress","params":{"progressToken":%s,"progress":%d.0e-9,"message":"waiting for the owner's approval"}}`, token, n))
		}
	case l.quiet != nil:
		tell = func(n int) {
			if n > 1 { // most are answered before
				l.quiet()
			}
		}
	}
	ended, gone := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(gone)
		ticker := time.NewTicker(every)
		defer ticker.Stop()
		for n := 1; ; n++ {
			tell(n)
			select {
			case <-ticker.C:
			case <-ended:
				return
			}
		}
	}()
	return func() { close(ended); <-gone }
}

// sendAway answers a call that nobody has answered in time. What it waits for stays
// open.
func (p *Proxy) sendAway(who authz.Caller, c call, made *authz.Call, ans authz.Answer, l line) []byte {
	if task := p.asTask(who, c, ans, l); task != nil {
		return task
	}
	if c.comesBack() {
		if leg := p.Service.NextLeg(who, made, ans); leg != "" {
			return p.comeBack(c, ans, leg)
		}
	}
	id := awaited(who, made, ans)
	times := p.away.again(id)
	if times == 1 && p.hasPage(c, l) && p.tellWhenAnswered(id, made, ans, l) {
		return p.openPage(c, id, ans)
	}
	return p.waiting(c, ans, times)
}

// comesBack reports whether the host sends the call again by itself when it is told
// that we need input: "Clients MUST […] retry the original request" (2026-07-28,
// Multi Round-Trip Requests). What it has told the server already comes once only
// ("inputResponses"), so that a call which carries that is not sent away so.
func (c call) comesBack() bool {
	answers := c.leg == "" && c.params.Get(inputResponses).Len() > 0
	return c.modern() && c.fromHost() && !answers
}

// comeBack is a result that wants input, and none in particular. go-sdk takes one
// without inputRequests for an empty success.
func (p *Proxy) comeBack(c call, ans authz.Answer, leg string) []byte {
	info := p.refusalInfo(c, ans)
	info.Next = "Wait: the call comes back by itself."
	return fmt.Appendf(nil, `{"jsonrpc":"2.0","id":%s,"result":{"resultType":"input_required","inputRequests":{},"requestState":%s,"_meta":{"%s":%s}}}`,
		c.ID, wrapState(legPrefix, leg, c.state), RefusalKey, marshal(info))
}

// hasPage reports whether the host can be asked to open our page for its user.
func (p *Proxy) hasPage(c call, l line) bool {
	return l.opens && l.later != nil && p.Portal != "" && !c.modern() && c.fromHost()
}

// openPage is the error that has the host open a page for its user: "the server MAY
// return a URLElicitationRequiredError […] to indicate that a URL mode elicitation is
// required" (2025-11-25, Elicitation).
func (p *Proxy) openPage(c call, id string, ans authz.Answer) []byte {
	info := p.refusalInfo(c, ans)
	asks := "OpenLeash asks for approval: "
	if ans.Code == authz.ToolHeld {
		asks = "OpenLeash asks whether to accept what has changed: "
	}
	page := fmt.Appendf(nil, `{"mode":"url","elicitationId":%s,"url":%s,"message":%s}`, quote(id), quote(info.URL),
		quote(asks+c.tool+" of server "+p.Name+". Sign in with `openleash open` if you are asked to."))
	return fmt.Appendf(nil, `{"jsonrpc":"2.0","id":%s,"error":{"code":%d,"message":%s,"data":{"elicitations":[%s],"%s":%s}}}`,
		c.ID, mcp.URL_ELICITATION_REQUIRED, quote(info.Message), page, RefusalKey, marshal(info))
}

// tellWhenAnswered tells the host when a page has served its purpose: "the server
// MAY send a notifications/elicitation/complete notification". Some wait for that
// without an end, so who cannot be told gets no page.
func (p *Proxy) tellWhenAnswered(id string, made *authz.Call, ans authz.Answer, l line) bool {
	return l.later(func(ctx context.Context) []byte {
		select {
		case <-time.After(tellAfter):
		case <-ctx.Done():
		}
		if p.answered(ctx, made, ans) != nil {
			return nil
		}
		return fmt.Appendf(nil, `{"jsonrpc":"2.0","method":"notifications/elicitation/complete","params":{"elicitationId":%s}}`, quote(id))
	})
}

const (
	// enough is how often in a row a model is told to call again at once; then it is
	// told to ask its user.
	enough = 6
	// maxAway bounds for how many calls it is known how often that was. Beyond it
	// the counting begins anew: models are told to go on a few times more.
	maxAway = 10_000
)

// away counts how often the host of a call was sent away without coming back by
// itself.
type away struct {
	mu    sync.Mutex
	count map[string]int // by what is waited for
}

func (a *away) again(id string) int {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.count == nil || len(a.count) >= maxAway {
		a.count = map[string]int{}
	}
	a.count[id]++
	return a.count[id]
}

// waiting is the result by which the model calls again. It says so to the model in
// other words when that was in vain for long: models give up, and users wonder.
func (p *Proxy) waiting(c call, ans authz.Answer, times int) []byte {
	info := p.refusalInfo(c, ans)
	info.Attempts = times
	if info.Attempts >= enough && c.fromHost() {
		info.Next = askUser(info)
	}
	return p.refuse(c, info)
}

func askUser(info refusalInfo) string {
	where := "in OpenLeash (openleash open)"
	if info.URL != "" {
		where = "at " + info.URL
	}
	return "The owner has not answered for a while. Stop calling for now: tell your user that this waits for approval " + where +
		", and ask them to say \"continue\" when it is answered. Then call this again with exactly these arguments. Do not try another way to the same end."
}

// declaresURL reports whether an initialize says that its host can open pages:
// "elicitation": {"url": {}}.
func declaresURL(m Message) bool {
	at, ok := find(m.Raw, "params", "capabilities", "elicitation", "url")
	return ok && m.Method == "initialize" && bytes.HasPrefix(m.Raw[at.from:], []byte("{"))
}
