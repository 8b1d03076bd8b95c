//go:build unix

package api_test

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/openleash/openleash-go/audit"
	"github.com/openleash/openleash-go/authz"
	"github.com/openleash/openleash-go/identity"
	"github.com/openleash/openleash-go/openleashtest"
	"github.com/openleash/openleash-go/store/sqlite"
)

// What POST /v1/authorize costs whole: HTTP over loopback, the signature, the policy, a
// proof, the decision on disk, the log sequenced. The client only writes bytes that were
// made before and looks for the ALLOW in the answer, so that nearly all of cpu-ms/op, which
// is of the whole process, is the server's. Measure on a machine that does nothing else:
//
//	go test -run - -bench . -benchtime 20000x ./api

const benchPolicy = `version: 1
default: deny
rules:
  - id: small
    effect: allow
    action: purchase
    constraints: {amount_max: 5000, currency: [SEK]}
`

func BenchmarkAuthorize(b *testing.B) {
	for _, clients := range []int{1, 16, 64} {
		b.Run(fmt.Sprint("clients=", clients), func(b *testing.B) {
			srv := openleashtest.NewServer(b, &openleashtest.Options{Policy: benchPolicy})
			authorizeAll(b, srv, clients)
		})
	}
}

// BenchmarkGrowth is the same, at 16 clients, where there is much of something: each
// comes after the one that it is to be compared with.
func BenchmarkGrowth(b *testing.B) {
	for _, of := range []struct{ agents, rules, lines int }{
		{1, 1, 0}, {10_000, 1, 0},
		{1, 1, 0}, {1, 10_000, 0},
		{1, 1, 0}, {1, 1, 200_000},
	} {
		b.Run(fmt.Sprintf("agents=%d/rules=%d/lines=%d", of.agents, of.rules, of.lines), func(b *testing.B) {
			home := filepath.Join(b.TempDir(), "home")
			fill(b, home, of.agents-1, of.lines)
			moreRules(b, home, of.rules-1)
			srv := openleashtest.NewServer(b, &openleashtest.Options{Policy: benchPolicy, Home: home})
			srv.Entries(b) // all lines are sequenced
			authorizeAll(b, srv, 16)
		})
	}
}

// BenchmarkStateChange is an agent's end, and what the next decision takes: nobody
// remembers the agents then.
func BenchmarkStateChange(b *testing.B) {
	for _, agents := range []int{1, 5_000} {
		b.Run(fmt.Sprint("agents=", agents), func(b *testing.B) {
			home := filepath.Join(b.TempDir(), "home")
			fill(b, home, agents-1, 0)
			var ahead atomic.Int64 // an address may not register as many agents at once
			clock := func() time.Time { return time.Now().Add(time.Duration(ahead.Load())) }
			srv := openleashtest.NewServer(b, &openleashtest.Options{Policy: benchPolicy, Home: home, Now: clock})
			bot := srv.Agent(b, "bot")
			var change, next []time.Duration
			for i := range b.N {
				ahead.Add(int64(time.Second))
				name := fmt.Sprint("brief-", i)
				srv.Agent(b, name)
				began := time.Now()
				srv.Revoke(b, name)
				change = append(change, time.Since(began))
				began = time.Now()
				bot.Authorize(b, purchase(bot))
				next = append(next, time.Since(began))
			}
			b.ReportMetric(middle(change), "ms-change")
			b.ReportMetric(middle(next), "ms-next-decision")
		})
	}
}

func middle(all []time.Duration) (ms float64) {
	slices.Sort(all)
	return all[len(all)/2].Seconds() * 1000
}

// BenchmarkStart is a start to its first answer.
func BenchmarkStart(b *testing.B) {
	for _, agents := range []int{1, 5_000} {
		b.Run(fmt.Sprint("agents=", agents), func(b *testing.B) {
			home := filepath.Join(b.TempDir(), "home")
			fill(b, home, agents, 0)
			for b.Loop() {
				srv := openleashtest.NewServer(b, &openleashtest.Options{Policy: benchPolicy, Home: home})
				resp, err := http.Get(srv.URL + "/v1/health")
				if err != nil || resp.StatusCode != http.StatusOK {
					b.Fatalf("%v, %v", resp, err)
				}
				resp.Body.Close()
				b.StopTimer()
				if err := srv.Close(); err != nil {
					b.Fatal(err)
				}
				b.StartTimer()
			}
		})
	}
}

// moreRules puts rules before those of the policy, a file has at most so many: none of
// them is about what is asked for, which is known by looking at one of its fields.
func moreRules(b *testing.B, home string, n int) {
	b.Helper()
	const each = 2_000
	for first := 0; first < n; first += each {
		var policy strings.Builder
		policy.WriteString("version: 1\ndefault: passthrough\nrules:\n")
		for i := range min(each, n-first) {
			fmt.Fprintf(&policy, "  - {id: r%d, effect: deny, action: purchase, when: {match: {path: $.payload.shop, op: eq, value: shop-%d}}}\n", i, first+i)
		}
		if err := os.WriteFile(filepath.Join(home, "policies", fmt.Sprintf("more-%d.yaml", first/each)), []byte(policy.String()), 0o600); err != nil {
			b.Fatal(err)
		}
	}
}

func purchase(a *openleashtest.Agent) map[string]any {
	return a.Action("purchase", map[string]any{"amount_minor": 400, "currency": "SEK", "shop": "butik", "text": "bread, milk, and the tea that Ann likes"})
}

// fill makes a home that has agents, and lines in its log.
func fill(b *testing.B, home string, agents, lines int) {
	b.Helper()
	if err := openleashtest.NewServer(b, &openleashtest.Options{Policy: benchPolicy, Home: home}).Close(); err != nil {
		b.Fatal(err)
	}
	store, err := sqlite.Open(b.Context(), filepath.Join(home, "data"))
	if err != nil {
		b.Fatal(err)
	}
	defer store.Close()
	owner, err := store.EnsureOwner(b.Context(), "owner")
	if err != nil {
		b.Fatal(err)
	}
	var all sync.WaitGroup
	for worker := range 64 {
		all.Go(func() {
			for i := worker; i < agents; i += 64 {
				a := identity.Agent{
					ID: uuid.NewString(), Name: fmt.Sprint("agent-", i), OwnerID: owner.ID, OwnerType: owner.Type,
					Status: identity.Active, Key: bytes.Repeat([]byte{byte(i)}, 32), CreatedAt: time.Now(),
				}
				if err := store.Commit(context.Background(), authz.Batch{Enrol: &identity.Enrolment{Agent: a, Now: time.Now()}}); err != nil {
					b.Error(err)
				}
			}
		})
	}
	all.Wait()
	entry := audit.Entry{TS: "2026-05-05T13:42:11.000Z", Event: "decision", ActorType: "agent", ActorID: "bot", Payload: []byte(`{"amount_minor":400,"currency":"SEK"}`)}
	for lines > 0 {
		n := min(lines, 1000)
		lines -= n
		batch := make([]audit.Entry, n)
		for i := range batch {
			entry.DecisionID = uuid.NewString()
			batch[i] = entry
		}
		if err := store.Commit(b.Context(), authz.Batch{Entries: batch}); err != nil {
			b.Fatal(err)
		}
	}
}

// authorizeAll sends b.N signed requests from so many clients, of some agents: one may not
// ask as often as we can answer.
func authorizeAll(b *testing.B, srv *openleashtest.Server, clients int) {
	b.Helper()
	var bots []*openleashtest.Agent
	for i := range 8 {
		bots = append(bots, srv.Agent(b, fmt.Sprint("bot-", i)))
	}
	requests := make([][]byte, b.N)
	for i := range requests {
		bot := bots[i%len(bots)]
		r, err := bot.Request("POST", "/v1/authorize", []byte(text(b, purchase(bot))))
		if err != nil {
			b.Fatal(err)
		}
		var wire bytes.Buffer
		if err := r.Write(&wire); err != nil {
			b.Fatal(err)
		}
		requests[i] = wire.Bytes()
	}
	var next atomic.Int64
	var all sync.WaitGroup
	b.ResetTimer()
	cpu := processorTime()
	for range clients {
		all.Go(func() {
			conn, err := net.Dial("tcp", strings.TrimPrefix(srv.URL, "http://"))
			if err != nil {
				b.Error(err)
				return
			}
			defer conn.Close()
			answers := bufio.NewReader(conn)
			var body []byte
			for i := next.Add(1) - 1; i < int64(b.N); i = next.Add(1) - 1 {
				if _, err := conn.Write(requests[i]); err != nil {
					b.Error(err)
					return
				}
				if body, err = readAnswer(answers, body); err != nil || !bytes.Contains(body, []byte(`"decision":"ALLOW"`)) {
					b.Errorf("%s, %v", body, err)
					return
				}
			}
		})
	}
	all.Wait()
	b.StopTimer()
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "decisions/s")
	b.ReportMetric((processorTime()-cpu).Seconds()*1000/float64(b.N), "cpu-ms/op")
}

// readAnswer reads the body of one answer.
func readAnswer(r *bufio.Reader, into []byte) ([]byte, error) {
	length := 0
	for {
		line, err := r.ReadSlice('\n')
		if err != nil {
			return nil, err
		}
		if value, ok := bytes.CutPrefix(line, []byte("Content-Length: ")); ok {
			if length, err = strconv.Atoi(string(bytes.TrimSpace(value))); err != nil {
				return nil, err
			}
		}
		if len(line) == 2 {
			break
		}
	}
	if cap(into) < length {
		into = make([]byte, length)
	}
	_, err := io.ReadFull(r, into[:length])
	return into[:length], err
}

func processorTime() time.Duration {
	var u syscall.Rusage
	syscall.Getrusage(syscall.RUSAGE_SELF, &u) // cannot fail of oneself
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}
