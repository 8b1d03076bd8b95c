package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/cookiejar"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"text/tabwriter"
	"time"
)

// A person's answer, timed: from the click (the form's POST) to the moment at which
// the upstream has the call. Both are moments of the driver's own clock, which is
// why the upstream is in it.

const (
	openCalls = 1000 // held at once, all of them by hosts that wait
	// perAgent is how many one agent has open: fewer than approvals.open_per_agent
	// lets it, whose default is 50.
	perAgent  = 25
	processes = 3 // besides the one that has the portal
	loaders   = 2 // calls at once, in each process, when there is load
	stillFor  = 10 * time.Second

	goalOne    = 100 // ms, in one process
	goalAcross = 500 // ms, across processes, under load
	goalPage   = 100 // ms
	goalHeld   = 2   // percent of one processor
)

// heldFrom are the numbers that the policy leaves to a person.
const heldFrom = 1_000_000

// timing is how long something took, in milliseconds.
type timing struct {
	What  string  `json:"what"`
	Times int     `json:"times"`
	P50   float64 `json:"p50_ms"`
	P99   float64 `json:"p99_ms"`
	Max   float64 `json:"max_ms"`
	Goal  float64 `json:"goal_ms,omitempty"` // of P99; zero: none
}

func newTiming(what string, goal float64, took []time.Duration) timing {
	slices.Sort(took)
	return timing{what, len(took), percentile(took, 50), percentile(took, 99), percentile(took, 100), goal}
}

type heldReport struct {
	Began   time.Time `json:"began"`
	Took    float64   `json:"took_seconds"`
	Machine string    `json:"machine"`
	Sync    float64   `json:"fsync_ms"`
	Open    int       `json:"open"`
	Idle    float64   `json:"idle_cpu_percent"` // of one processor, while nothing is held
	CPU     float64   `json:"held_cpu_percent"` // while calls are held and nothing happens
	Memory  float64   `json:"held_resident_mb"`
	Load    float64   `json:"load_calls_per_second"`
	Timings []timing  `json:"timings"`
}

// arrival is a call that a person let go, at the upstream.
type arrival struct {
	n  int64
	at time.Time
}

// scene is a home whose agents hold calls.
type scene struct {
	*lab
	home     *home
	arrived  chan arrival
	browser  *http.Client
	last     atomic.Int64 // the number of the call that was made last
	hosts    []*session   // that call at full speed when there is load
	ending   atomic.Bool
	failures chan error // of the hosts; the first one ends the run
}

func measureHeld(l *lab, p plan) error {
	r := heldReport{Began: time.Now(), Machine: thisMachine()}
	var err error
	if r.Sync, err = syncTime(l.dir); err != nil {
		return err
	}
	s, process, err := l.newScene()
	if err != nil {
		return err
	}
	defer s.ending.Store(true)
	for _, part := range []func() error{
		func() error { r.Idle = share(process); return nil },
		func() error { return s.holdOverHTTP(openCalls / perAgent) },
		func() error { return s.still(process, &r) },
		func() error { return s.pages(p, &r) },
		func() error { return s.clicks("one process", "http-", goalOne, p.clicks, &r) },
		func() error { return s.holdOverStdio(processes) },
		func() error { return s.underLoad(p, &r) },
	} {
		if err := part(); err != nil {
			return err
		}
	}
	s.ending.Store(true)
	r.Took = time.Since(r.Began).Seconds()
	r.print(os.Stdout)
	return save("results", r.Began, "-held", r)
}

func (l *lab) newScene() (*scene, *process, error) {
	s := &scene{lab: l, arrived: make(chan arrival, openCalls), failures: make(chan error, 2*openCalls)}
	s.last.Store(heldFrom)
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, nil, err
	}
	l.keep(func() { listener.Close() })
	go echoHTTP(listener, s.hear)
	l.echoURL = "http://" + listener.Addr().String() + "/mcp"
	if s.home, err = l.newHome("held", true, map[string]any{"echo": l.httpServer()}); err != nil {
		return nil, nil, err
	}
	policy := strings.Replace(fmt.Sprintf(policyText, true), "default: deny", "default: require_approval", 1)
	if err := os.WriteFile(filepath.Join(s.home.dir, "policies", "bench.yaml"), []byte(policy), 0o600); err != nil {
		return nil, nil, err
	}
	p, err := l.startOpenLeash(s.home)
	if err != nil {
		return nil, nil, err
	}
	return s, p, s.signIn()
}

// hear notes when a call arrives that was held.
func (s *scene) hear(body []byte) {
	at := time.Now()
	var r echoRequest
	if json.Unmarshal(body, &r) == nil && r.Method == "tools/call" && r.Params.Arguments.N >= heldFrom {
		s.arrived <- arrival{r.Params.Arguments.N, at}
	}
}

// --- the owner

func (s *scene) signIn() error {
	out, err := s.openLeash(s.home, "open", "--no-browser").Output()
	if err != nil {
		return fmt.Errorf("making a sign-in link: %w", err)
	}
	link := strings.TrimSpace(string(out))
	_, token, ok := strings.Cut(link, "/sign-in/")
	if !ok {
		return fmt.Errorf("want a sign-in link, got %q", link)
	}
	jar, err := cookiejar.New(nil)
	if err != nil {
		return err
	}
	s.browser = &http.Client{Jar: jar, Timeout: patience, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	_, err = s.post("/sign-in", url.Values{"token": {token}})
	return err
}

// post sends a form, as a click does, and returns when it began.
func (s *scene) post(path string, form url.Values) (time.Time, error) {
	began := time.Now()
	res, err := s.browser.PostForm("http://"+s.home.listen+path, form)
	if err != nil {
		return began, err
	}
	defer res.Body.Close()
	text, err := io.ReadAll(res.Body)
	if err == nil && res.StatusCode != http.StatusSeeOther {
		err = fmt.Errorf("POST %s: %s %.400s", path, res.Status, text)
	}
	return began, err
}

func (s *scene) get(path string) ([]byte, error) {
	res, err := s.browser.Get("http://" + s.home.listen + path)
	if err != nil {
		return nil, err
	}
	defer res.Body.Close()
	text, err := io.ReadAll(res.Body)
	if err == nil && res.StatusCode != http.StatusOK {
		err = fmt.Errorf("GET %s: %s %.400s", path, res.Status, text)
	}
	return text, err
}

// waiting is what `openleash approvals list` knows of a request.
type waiting struct {
	ID      string `json:"id"`
	Agent   string `json:"agent"`
	Hash    string `json:"action_hash"`
	Payload struct {
		Arguments struct {
			N int64 `json:"n"`
		} `json:"arguments"`
	} `json:"payload"`
}

// newest are the requests of some agents, as many as the list has.
func (s *scene) newest(agents string) ([]waiting, error) {
	out, err := s.openLeash(s.home, "approvals", "list", "--json").Output()
	if err != nil {
		return nil, fmt.Errorf("openleash approvals list: %w", err)
	}
	var list []waiting
	if err := json.Unmarshal(out, &list); err != nil {
		return nil, err
	}
	list = slices.DeleteFunc(list, func(w waiting) bool { return !strings.HasPrefix(w.Agent, agents) })
	if len(list) == 0 {
		return nil, fmt.Errorf("no request of %s… is among the newest", agents)
	}
	return list, nil
}

// click approves one request and waits for its call at the upstream.
func (s *scene) click(w waiting) (time.Duration, error) {
	began, err := s.post("/approvals/"+w.ID+"/approve", url.Values{"action_hash": {w.Hash}})
	if err != nil {
		return 0, err
	}
	select {
	case a := <-s.arrived:
		if a.n != w.Payload.Arguments.N {
			return 0, fmt.Errorf("%d was approved, and %d arrived", w.Payload.Arguments.N, a.n)
		}
		return a.at.Sub(began), nil
	case err := <-s.failures:
		return 0, err
	case <-time.After(10 * time.Second):
		return 0, fmt.Errorf("request %s of %s was approved; its call did not arrive within 10 s", w.ID, w.Agent)
	}
}

// clicks times n answers to calls of some agents, one after another. Each makes
// its next call, which is held, as soon as it has its answer.
func (s *scene) clicks(what, agents string, goal float64, n int, r *heldReport) error {
	fmt.Fprintf(os.Stderr, "%d answers, %s\n", n, what)
	var took []time.Duration
	for len(took) < n {
		list, err := s.newest(agents)
		if err != nil {
			return err
		}
		for _, w := range list[:min(len(list), n-len(took))] {
			d, err := s.click(w)
			if err != nil {
				return err
			}
			took = append(took, d)
		}
		if _, err := s.wantOpen(r.Open); err != nil {
			return err
		}
	}
	r.Timings = append(r.Timings, newTiming("click to forwarded call, "+what, goal, took))
	return nil
}

// wantOpen waits until so many requests are open.
func (s *scene) wantOpen(n int) (open int, err error) {
	for until := time.Now().Add(patience); time.Now().Before(until); time.Sleep(20 * time.Millisecond) {
		text, err := s.get("/inbox/count")
		if err != nil {
			return 0, err
		}
		var count struct {
			Pending int `json:"pending"`
		}
		if err := json.Unmarshal(text, &count); err != nil {
			return 0, err
		}
		if open = count.Pending; open >= n {
			return open, nil
		}
		select {
		case err := <-s.failures:
			return open, err
		default:
		}
	}
	return open, fmt.Errorf("want %d open requests, there are %d", n, open)
}

// --- the agents

// hold has a host keep calls held, so many at once, until the end.
func (s *scene) hold(host *session) {
	for worker := range perAgent {
		go func() {
			for {
				if err := s.heldCall(host, worker); err != nil {
					if !s.ending.Load() {
						s.failures <- err
					}
					return
				}
			}
		}()
	}
}

// heldCall makes one call, again after each hold, until it has run.
func (s *scene) heldCall(host *session, worker int) error {
	n := s.last.Add(1)
	for range 5 {
		answer, ran, err := host.callWith(worker, host.last.Add(1), n)
		if err != nil || ran {
			return err
		}
		if !bytes.Contains(answer, []byte("approv")) {
			return fmt.Errorf("want a call that waits for its approval, got %.400s", answer)
		}
	}
	return errors.New("a held call came back five times")
}

func (s *scene) holdOverHTTP(agents int) error {
	fmt.Fprintf(os.Stderr, "holding %d calls\n", agents*perAgent)
	for i := range agents {
		host, err := s.connectAs(s.home, fmt.Sprintf("http-%d", i), "echo", true)
		if err != nil {
			return err
		}
		s.hold(host)
	}
	busy, err := s.connectAs(s.home, "busy", "echo", true)
	s.hosts = append(s.hosts, busy)
	return err
}

// holdOverStdio adds processes with a host each, which hold calls too.
func (s *scene) holdOverStdio(n int) error {
	for i := range n {
		t, err := openStdio(s.openLeash(s.home, "stdio", "--agent", fmt.Sprintf("stdio-%d", i), "echo"))
		if err != nil {
			return err
		}
		s.keep(t.close)
		host := &session{target: t, tool: "echo", proof: true}
		s.hold(host)
		s.hosts = append(s.hosts, host)
	}
	return nil
}

// still measures what it costs that calls are held.
func (s *scene) still(p *process, r *heldReport) (err error) {
	if r.Open, err = s.wantOpen(openCalls); err != nil {
		return err
	}
	r.CPU = share(p)
	r.Memory, _ = p.memory()
	return nil
}

// share is what a process takes of one processor while nothing happens, in percent.
func share(p *process) float64 {
	fmt.Fprintln(os.Stderr, "holding still")
	time.Sleep(time.Second)
	before, began := p.cpu(), time.Now()
	time.Sleep(stillFor)
	return 100 * float64(p.cpu()-before) / float64(time.Since(began))
}

// pages times what the owner's browser asks for.
func (s *scene) pages(p plan, r *heldReport) error {
	list, err := s.newest("http-")
	if err != nil {
		return err
	}
	for _, page := range []struct{ what, path string }{
		{"inbox", "/"}, {"number in the header", "/inbox/count"}, {"one request", "/approvals/" + list[0].ID}, {"policies", "/policies"},
	} {
		var took []time.Duration
		for range p.clicks {
			began := time.Now()
			if _, err := s.get(page.path); err != nil {
				return err
			}
			took = append(took, time.Since(began))
		}
		r.Timings = append(r.Timings, newTiming("page: "+page.what, goalPage, took))
	}
	return nil
}

// underLoad times answers while agents call at full speed through every process.
func (s *scene) underLoad(p plan, r *heldReport) (err error) {
	if r.Open, err = s.wantOpen(r.Open + processes*perAgent); err != nil {
		return err
	}
	ctx, stop := context.WithCancel(context.Background())
	var calls atomic.Int64
	var group sync.WaitGroup
	for _, host := range s.hosts {
		for w := range loaders {
			group.Go(func() {
				for ctx.Err() == nil {
					if err := host.call(maxWorkers - 1 - w); err != nil {
						s.failures <- err
						return
					}
					calls.Add(1)
				}
			})
		}
	}
	began := time.Now()
	err = s.clicks("across processes, under load", "stdio-", goalAcross, p.clicks, r)
	if err == nil {
		err = s.clicks("any process, under load", "", goalAcross, p.clicks, r)
	}
	r.Load = float64(calls.Load()) / time.Since(began).Seconds()
	stop()
	group.Wait()
	return err
}

func (r *heldReport) print(out io.Writer) {
	fmt.Fprintf(out, "%s\none fsync of 4 KiB: %.3f ms\n%d calls held, then %d; load %.0f calls/s beside the answers\n\n", r.Machine, r.Sync, openCalls, r.Open, r.Load)
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(w, "what\ttimes\tp50 ms\tp99 ms\tmax ms\tgoal\t")
	for _, t := range r.Timings {
		fmt.Fprintf(w, "%s\t%d\t%.1f\t%.1f\t%.1f\t%s\t\n", t.What, t.Times, t.P50, t.P99, t.Max, orDash(t.Goal))
	}
	w.Flush()
	fmt.Fprintln(out)
	for _, t := range r.Timings {
		if t.Goal > 0 {
			verdict(out, t.P99 < t.Goal, "%s: %.1f ms at p99; goal under %.0f", t.What, t.P99, t.Goal)
		}
	}
	verdict(out, r.CPU < goalHeld, "%d held calls: the process takes %.1f%% of one processor over %s (%.1f%% with none), %.1f MB resident; goal under %d%%", openCalls, r.CPU, stillFor, r.Idle, r.Memory, goalHeld)
	fmt.Fprintf(out, "\n%.0f s\n", r.Took)
}
