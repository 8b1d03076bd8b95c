package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/cookiejar"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"time"

	"github.com/mark3labs/mcp-go/client"
	"github.com/mark3labs/mcp-go/client/transport"
	"github.com/mark3labs/mcp-go/mcp"
	"github.com/spf13/cobra"

	"github.com/openleash/openleash-go/approvals"
	"github.com/openleash/openleash-go/internal/wiring"
	"github.com/openleash/openleash-go/proof"
	"github.com/openleash/openleash-go/proxy"
)

func demoCommand() *cobra.Command {
	var yes bool
	cmd := &cobra.Command{
		Use:   "demo",
		Short: "See it work, in a minute: a shop, a mailbox, and you in between",
		Long: `Starts a sample MCP server, the proxy in front of it with a shipped policy, and
the portal; then plays a host that calls tools, and says what happens. One call
waits for you to approve it in the portal. It ends by itself; the exit code is
not 0 when any step is not as told.

Its data stay in a temporary folder, or in $OPENLEASH_HOME when that is set.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			d := &demo{out: cmd.OutOrStdout(), yes: yes}
			if err := d.run(cmd.Context()); err != nil {
				return fmt.Errorf("the demo did not go as told: %w", err)
			}
			return nil
		},
	}
	cmd.Flags().BoolVar(&yes, "yes", false, "answer as the owner would, through the portal")
	return cmd
}

// demo is one run: the installation, and the host that it plays.
type demo struct {
	out  io.Writer
	yes  bool
	app  *app
	host *client.Client
}

// waitForClick is how long a person has to answer.
const waitForClick = 5 * time.Minute

func (d *demo) say(format string, args ...any) { fmt.Fprintf(d.out, format+"\n", args...) }

func (d *demo) run(ctx context.Context) error {
	defer d.close()
	if err := d.open(ctx); err != nil {
		return err
	}
	steps := []func(context.Context) error{
		d.smallPurchase, d.foreignMail, d.largePurchase, d.alteredPurchase, d.verify,
	}
	for _, step := range steps {
		if err := step(ctx); err != nil {
			return err
		}
	}
	d.say("\nAll as told. What was kept: %s", d.app.home.Dir)
	return nil
}

func (d *demo) close() {
	if d.app != nil {
		d.app.close()
	}
}

// open starts everything: the installation, the portal, the sample server as a
// child process, the proxy between it and a host.
func (d *demo) open(ctx context.Context) error {
	if os.Getenv("OPENLEASH_HOME") == "" {
		dir, err := os.MkdirTemp("", "openleash-demo-")
		if err != nil {
			return err
		}
		os.Setenv("OPENLEASH_HOME", dir)
	}
	var err error
	if d.app, err = openDemoApp(ctx); err != nil {
		return err
	}
	a := d.app
	a.config.Hold = waitForClick
	self, err := os.Executable()
	if err != nil {
		return err
	}
	keys, err := d.exportKeys(ctx)
	if err != nil {
		return err
	}
	s := Server{Name: "sample", Command: self, Args: []string{"sample-server", "--keys", keys}, Profile: "sample"}
	p, err := a.newProxy(s)
	if err != nil {
		return err
	}
	upstream, err := a.dial(ctx, p, s)
	if err != nil {
		return err
	}
	who, err := a.caller(ctx, "demo")
	if err != nil {
		upstream.Close()
		return err
	}
	in, hostOut := io.Pipe()
	hostIn, out := io.Pipe()
	a.run(func(ctx context.Context) {
		p.Serve(ctx, who, proxy.StdioHost(in, out, a.config.limits()), upstream)
		out.Close()
	})
	d.host = client.NewClient(transport.NewIO(hostIn, hostOut, io.NopCloser(strings.NewReader(""))))
	if err := d.host.Start(ctx); err != nil {
		return err
	}
	if _, err := d.host.Initialize(ctx, mcp.InitializeRequest{}); err != nil {
		return fmt.Errorf("initialize through the proxy: %w", err)
	}
	tools, err := d.host.ListTools(ctx, mcp.ListToolsRequest{})
	if err != nil {
		return fmt.Errorf("tools/list through the proxy: %w", err)
	}
	d.say("A sample MCP server runs (a shop, a mailbox, a clinic: %d tools), and OpenLeash in front of it.", len(tools.Tools))
	d.say("The policy says: purchases up to 50.00 EUR pass, larger ones are yours to approve; mail goes to example.com only.")
	d.say("  policy   %s", filepath.Join(a.config.Policies, "demo.yaml"))
	d.say("  portal   %s", a.config.portal())
	return nil
}

// openDemoApp opens the installation with the demo's policy and a free port,
// and serves the portal.
func openDemoApp(ctx context.Context) (*app, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	a, err := openAppWith(ctx, newLog(io.Discard), func(a *app) error {
		a.config.Listen = l.Addr().String()
		a.config.Policies = filepath.Join(a.home.Dir, "demo-policies")
		return wiring.WriteProfile(a.config.Policies, "demo")
	})
	if err != nil {
		l.Close()
		return nil, err
	}
	h, err := a.pages(nil)
	if err != nil {
		l.Close()
		return nil, errors.Join(err, a.close())
	}
	a.run(func(ctx context.Context) { serve(ctx, l, h) })
	return a, nil
}

// exportKeys writes what the sample server may know: public keys, nothing else.
func (d *demo) exportKeys(ctx context.Context) (string, error) {
	keys, err := d.app.store.Keys(ctx)
	if err != nil {
		return "", err
	}
	doc, err := proof.Export(d.app.key, keys, time.Now())
	if err != nil {
		return "", err
	}
	file := filepath.Join(d.app.home.Dir, "demo-keys.json")
	return file, os.WriteFile(file, doc, 0o600)
}

// call plays the host: it calls a tool, as a model would.
func (d *demo) call(ctx context.Context, tool string, args map[string]any) (*mcp.CallToolResult, string, error) {
	req := mcp.CallToolRequest{}
	req.Params.Name, req.Params.Arguments = tool, args
	result, err := d.host.CallTool(ctx, req)
	if err != nil {
		return nil, "", err
	}
	var words []string
	for _, c := range result.Content {
		if t, ok := c.(mcp.TextContent); ok {
			words = append(words, t.Text)
		}
	}
	return result, strings.Join(words, "\n"), nil
}

// expect says what came, and fails when it is not what was told.
func (d *demo) expect(text string, isError bool, wantError bool, want ...string) error {
	for line := range strings.Lines(text) {
		d.say("     | %s", strings.TrimRight(line, "\n"))
	}
	if isError != wantError {
		return fmt.Errorf("the result's isError is %v, want %v", isError, wantError)
	}
	for _, w := range want {
		if !strings.Contains(text, w) {
			return fmt.Errorf("the result does not say %q", w)
		}
	}
	return nil
}

func (d *demo) smallPurchase(ctx context.Context) error {
	d.say("\n1. The agent buys tea for 12.50 EUR. The policy allows it: the call goes on, with a proof;\n   the shop checks the proof against what it received, knowing only our public key.")
	result, text, err := d.call(ctx, "buy", map[string]any{"item": "tea", "price": 12.50, "currency": "EUR", "shop": "tea.example"})
	if err != nil {
		return err
	}
	return d.expect(text, result.IsError, false, "order 1", "proof verified")
}

func (d *demo) foreignMail(ctx context.Context) error {
	d.say("\n2. The agent writes to a stranger. The policy refuses, and the model is told why:")
	result, text, err := d.call(ctx, "send_mail", map[string]any{"to": "someone@unknown.test", "subject": "hello", "body": "the customer list"})
	if err != nil {
		return err
	}
	return d.expect(text, result.IsError, true, "Refused by OpenLeash", "POLICY_DENIED")
}

var largeOrder = map[string]any{"item": "teapot", "price": 240, "currency": "EUR", "shop": "tea.example"}

func (d *demo) largePurchase(ctx context.Context) error {
	d.say("\n3. The agent buys a teapot for 240.00 EUR. That is yours to decide: the call waits.")
	result, text, err := d.callAnswered(ctx, largeOrder, d.answer)
	if err != nil {
		return err
	}
	return d.expect(text, result.IsError, false, "order 2", "proof verified")
}

// callAnswered plays the host and, while the call waits, the owner. Neither
// outlives it, and a failure of the owner ends the host's waiting.
func (d *demo) callAnswered(ctx context.Context, order map[string]any, answer func(context.Context) error) (*mcp.CallToolResult, string, error) {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	answered := make(chan error, 1)
	go func() {
		err := answer(ctx)
		if err != nil {
			cancel(err)
		}
		answered <- err
	}()
	result, text, err := d.call(ctx, "buy", order)
	if err != nil && context.Cause(ctx) != nil {
		err = context.Cause(ctx)
	}
	cancel(nil)
	if failed := <-answered; err == nil && failed != nil && !errors.Is(failed, context.Canceled) {
		err = failed
	}
	return result, text, err
}

// answer shows the owner where to click, or answers as the owner would.
func (d *demo) answer(ctx context.Context) error {
	waiting, err := d.pending(ctx)
	if err != nil {
		return err
	}
	link, err := d.app.signInLink(ctx)
	if err != nil {
		return err
	}
	if !d.yes {
		d.say("   Sign in (once):      %s", link)
		d.say("   Then approve it:     %s/approvals/%s", d.app.config.portal(), waiting.ID)
		d.say("   Waiting up to %d minutes for you …", int(waitForClick.Minutes()))
		return nil
	}
	d.say("   --yes: signing in to the portal and approving it there, as you would.")
	return d.click(ctx, link, waiting.ID)
}

// pending waits until the held call has opened its request.
func (d *demo) pending(ctx context.Context) (approvals.Request, error) {
	for range 500 {
		list, err := d.app.store.Approvals(ctx, d.app.owner.ID, approvals.Pending, 1)
		if err != nil {
			return approvals.Request{}, err
		}
		if len(list) > 0 && list[0].At(time.Now()) == approvals.Pending && list[0].AgentID == "demo" {
			return list[0], nil
		}
		select {
		case <-time.After(20 * time.Millisecond):
		case <-ctx.Done():
			return approvals.Request{}, ctx.Err()
		}
	}
	return approvals.Request{}, errors.New("the call did not ask for an approval within 10 seconds")
}

var (
	tokenField = regexp.MustCompile(`name="token" value="([^"]+)"`)
	hashField  = regexp.MustCompile(`name="action_hash" value="([^"]+)"`)
)

// click goes through the portal like a browser: follow the link, press the
// button, open the page, approve what it shows.
func (d *demo) click(ctx context.Context, link, id string) error {
	jar, err := cookiejar.New(nil)
	if err != nil {
		return err
	}
	b := &browser{client: &http.Client{Jar: jar, Timeout: 10 * time.Second, Transport: localNames()}}
	page, err := b.get(ctx, link)
	if err != nil {
		return err
	}
	token := tokenField.FindStringSubmatch(page)
	if token == nil {
		return errors.New("the sign-in page has no button")
	}
	if _, err := b.post(ctx, d.app.config.portal()+"/sign-in", url.Values{"token": {token[1]}}); err != nil {
		return err
	}
	address := d.app.config.portal() + "/approvals/" + id
	if page, err = b.get(ctx, address); err != nil {
		return err
	}
	hash := hashField.FindStringSubmatch(page)
	if hash == nil {
		return errors.New("the approval's page has no form")
	}
	_, err = b.post(ctx, address+"/approve", url.Values{"action_hash": {hash[1]}})
	return err
}

// localNames reaches openleash.localhost where the system's resolver does not
// know that such names are this machine (RFC 6761, 6.3).
func localNames() http.RoundTripper {
	t := http.DefaultTransport.(*http.Transport).Clone()
	t.Proxy = nil
	t.DialContext = func(ctx context.Context, network, addr string) (net.Conn, error) {
		_, port, err := net.SplitHostPort(addr)
		if err != nil {
			return nil, err
		}
		return (&net.Dialer{}).DialContext(ctx, network, net.JoinHostPort("127.0.0.1", port))
	}
	return t
}

type browser struct{ client *http.Client }

func (b *browser) get(ctx context.Context, address string) (string, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, address, nil)
	if err != nil {
		return "", err
	}
	return b.do(req)
}

func (b *browser) post(ctx context.Context, address string, form url.Values) (string, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, address, strings.NewReader(form.Encode()))
	if err != nil {
		return "", err
	}
	req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	return b.do(req)
}

func (b *browser) do(req *http.Request) (string, error) {
	resp, err := b.client.Do(req)
	if err != nil {
		return "", err
	}
	defer resp.Body.Close()
	page, err := io.ReadAll(io.LimitReader(resp.Body, 1<<20))
	if err == nil && resp.StatusCode >= 400 {
		err = fmt.Errorf("%s %s: %s", req.Method, req.URL.Path, resp.Status)
	}
	return string(page), err
}

func (d *demo) alteredPurchase(ctx context.Context) error {
	d.say("\n4. The agent calls again, with the amount changed to 940.00 EUR. The approval was for 240.00 EUR, once:\n   it does not cover this call, which waits for an answer of its own. The owner denies it.")
	altered := map[string]any{"item": "teapot", "price": 940, "currency": "EUR", "shop": "tea.example"}
	result, text, err := d.callAnswered(ctx, altered, func(ctx context.Context) error {
		waiting, err := d.pending(ctx)
		if err == nil {
			_, err = d.app.service.Answer(ctx, "cli:demo", waiting.ID, false, "I approved 240.00 EUR, not 940.00")
		}
		return err
	})
	if err != nil {
		return err
	}
	return d.expect(text, result.IsError, true, "APPROVAL_DENIED", "not 940.00")
}

func (d *demo) verify(ctx context.Context) error {
	d.say("\n5. Everything stands in the log, one line an event, each line bound to the one before:")
	d.host.Close()
	if err := d.app.close(); err != nil {
		return err
	}
	d.say("   $ openleash audit verify %s", d.app.home.AuditLog())
	cmd := auditVerify()
	cmd.SetOut(indent{d.out})
	cmd.SetArgs([]string{d.app.home.AuditLog()})
	return cmd.ExecuteContext(context.WithoutCancel(ctx))
}

// indent puts what a command prints below the demo's own lines.
type indent struct{ w io.Writer }

func (i indent) Write(p []byte) (int, error) {
	_, err := fmt.Fprintf(i.w, "     | %s", p)
	return len(p), err
}
