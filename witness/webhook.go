package witness

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/openleash/openleash-go/audit"
)

// CheckURL says what is wrong with the address of a witness. Whoever could change what is
// sent there, or answer in its place, could keep a checkpoint from it; so the way is
// encrypted, but on this machine.
func CheckURL(address string) error {
	u, err := url.Parse(address)
	switch {
	case err != nil || u.Host == "" || u.Scheme != "https" && u.Scheme != "http" || u.Fragment != "":
		return errors.New("want an address that begins with https://")
	case u.User != nil:
		return errors.New("want an address without a name or password in it: a secret does not stand in this file; it goes into headers")
	case u.Scheme == "http" && !loopback(u.Hostname()):
		return errors.New("want https://: http:// is for this machine alone")
	}
	return nil
}

func loopback(host string) bool {
	ip := net.ParseIP(host)
	return host == "localhost" || strings.HasSuffix(host, ".localhost") || ip != nil && ip.IsLoopback()
}

// Webhook is an address to which checkpoints are posted, each as text/plain.
type Webhook struct {
	url    string
	header map[string]string
}

// NewWebhook is that of an address, which CheckURL accepts, and of headers, which may be
// secret.
func NewWebhook(url string, header map[string]string) *Webhook { return &Webhook{url, header} }

// Name is where it is. The rest of the address may be a secret.
func (w *Webhook) Name() string { return place(w.url) }

func place(address string) string {
	u, err := url.Parse(address)
	if err != nil {
		return "webhook"
	}
	return u.Scheme + "://" + u.Host
}

func (w *Webhook) target() string { return "webhook " + w.url }

func (w *Webhook) send(ctx context.Context, tip audit.Tip, _ uint64) error {
	a, err := post(ctx, w.url, w.header, tip.Signed)
	if err == nil && a.status/100 != 2 {
		err = fmt.Errorf("want an answer 2xx, got %s", a.came)
	}
	return err
}

// maxAnswer bounds what somebody answers; there is nothing long to be said.
const maxAnswer = 64 << 10

// An answer is what came back.
type answer struct {
	status int
	kind   string // its Content-Type
	body   []byte
	came   string // for messages: the status, and where a redirect leads
}

// client follows no redirect: what we send, secrets among it, is for one place.
var client = &http.Client{
	Transport: &http.Transport{
		Proxy: http.ProxyFromEnvironment, DialContext: (&net.Dialer{Timeout: 10 * time.Second}).DialContext, ForceAttemptHTTP2: true,
		TLSHandshakeTimeout: 10 * time.Second, IdleConnTimeout: 90 * time.Second, MaxResponseHeaderBytes: 64 << 10,
	},
	CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
}

// post sends a text and reads the answer. Its errors do not repeat the address.
func post(ctx context.Context, address string, header map[string]string, text []byte) (a answer, err error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, address, bytes.NewReader(text))
	if err != nil {
		return a, errors.New("its address is none")
	}
	for name, value := range header {
		req.Header.Set(name, value)
	}
	req.Header.Set("Content-Type", "text/plain; charset=utf-8")
	req.Header.Set("User-Agent", "openleash")
	res, err := client.Do(req)
	if err != nil {
		return a, plain(ctx, err)
	}
	defer res.Body.Close()
	a = answer{status: res.StatusCode, kind: res.Header.Get("Content-Type"), came: came(res)}
	if a.body, err = io.ReadAll(io.LimitReader(res.Body, maxAnswer+1)); err != nil {
		return a, plain(ctx, err)
	}
	if len(a.body) > maxAnswer {
		return a, fmt.Errorf("its answer is longer than %d bytes", maxAnswer)
	}
	return a, nil
}

// plain is an error without the address in it, which net/http puts before it.
func plain(ctx context.Context, err error) error {
	if errors.Is(ctx.Err(), context.DeadlineExceeded) {
		return fmt.Errorf("no answer within %s", patience)
	}
	var of *url.Error
	if errors.As(err, &of) {
		return of.Err
	}
	return err
}

func came(res *http.Response) string {
	if to, err := res.Location(); err == nil && res.StatusCode/100 == 3 {
		return fmt.Sprintf("%d, a redirect to %.100q, which is not followed", res.StatusCode, to.Scheme+"://"+to.Host)
	}
	return fmt.Sprint(res.StatusCode)
}
