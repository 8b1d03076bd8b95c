package sqlite

import (
	"bufio"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/openleash/openleash-go/action"
	"github.com/openleash/openleash-go/audit"
	"github.com/openleash/openleash-go/authz"
	"github.com/openleash/openleash-go/policy"
)

// Random histories of limits, from many goroutines of several processes, held
// against a model that is as plain as the promise: it replays what was committed, in
// the order of the log, and adds up every window by looking at every charge.

// modelLimits are what the histories charge. The times of a history pass faster than
// the clock, and not in order, so that windows end in it.
var modelLimits = []authz.Charge{
	{Limit: "p/trailing", Max: 100, Trailing: 60_000},
	{Limit: "p/short", Max: 30, Trailing: 5_000},
	{Limit: "p/calendar", Max: 200, To: 90_000}, // To is the period here
	{Limit: "p/count", Max: 12, Trailing: 20_000},
}

// A modelStep is one commit, or one refusal, as the process that made it saw it. It
// is the entry's detail too.
type modelStep struct {
	ID      string // of the decision
	Action  string
	Now     int64
	Charges []authz.Charge `json:",omitempty"`
	// What the store said when it refused.
	Full []policy.LimitState `json:",omitempty"`
	// Of a settlement: the limits that were given back.
	Settled bool     `json:",omitempty"`
	Release []string `json:",omitempty"`
	// Of an owner's release: the charges that the decision was taken off.
	Owner []authz.ReleasedCharge `json:",omitempty"`
}

const (
	modelProcesses = 3
	modelRoutines  = 22 // in each: 66 in all
)

var modelHash = action.Hash{7}.String()

// modelChild plays until its standard input ends, and prints each step.
func modelChild(s *Store) error {
	seed, _ := strconv.ParseUint(os.Getenv("OPENLEASH_MODEL_SEED"), 10, 64)
	over := make(chan struct{})
	go func() {
		io.Copy(io.Discard, os.Stdin)
		close(over)
	}()
	var mu sync.Mutex // of standard output
	var wg sync.WaitGroup
	errs := make(chan error, modelRoutines)
	began := time.Now()
	var recent decisions
	for i := range modelRoutines {
		wg.Go(func() {
			p := player{store: s, others: &recent, name: fmt.Sprintf("%d-%d", os.Getpid(), i), random: rand.New(rand.NewPCG(seed, uint64(os.Getpid()*100+i))), began: began}
			for {
				select {
				case <-over:
					return
				default:
				}
				step, err := p.play()
				if err != nil {
					errs <- err
					return
				}
				line, _ := json.Marshal(step)
				mu.Lock()
				fmt.Printf("%s\n", line)
				mu.Unlock()
			}
		})
	}
	wg.Wait()
	close(errs)
	return <-errs
}

// A player is one goroutine's history.
type player struct {
	store  *Store
	others *decisions
	name   string
	random *rand.Rand
	began  time.Time
	n      int
	open   []modelStep // whose outcome is to come
}

// decisions are the latest of all players of a process, for owners to release: two may
// choose the same, before its outcome or after, or one whose action was asked for again.
type decisions struct {
	mu   sync.Mutex
	list []string
}

func (d *decisions) add(id string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.list = append(d.list, id); len(d.list) > 2*modelRoutines {
		d.list = d.list[1:]
	}
}

func (d *decisions) pick(random *rand.Rand) string {
	d.mu.Lock()
	defer d.mu.Unlock()
	if len(d.list) == 0 {
		return ""
	}
	return d.list[random.IntN(len(d.list))]
}

// play makes one step: it charges, an action for the second time perhaps, settles,
// which it may do twice, or is the owner who releases.
func (p *player) play() (modelStep, error) {
	if p.random.IntN(8) == 0 {
		if step, done, err := p.release(); done || err != nil {
			return step, err
		}
	}
	if len(p.open) > 0 && p.random.IntN(3) == 0 {
		return p.settle()
	}
	p.n++
	step := modelStep{ID: fmt.Sprintf("%s-%d", p.name, p.n), Action: fmt.Sprintf("%s-%d", p.name, p.n), Now: p.clock()}
	if len(p.open) > 0 && p.random.IntN(5) == 0 {
		return p.again(step, p.open[p.random.IntN(len(p.open))])
	}
	for _, c := range modelLimits {
		if p.random.IntN(2) == 0 {
			step.Charges = append(step.Charges, p.charge(c, step.Now))
		}
	}
	return p.reserve(step)
}

// again asks for an action a second time.
func (p *player) again(step, first modelStep) (modelStep, error) {
	step.Action = first.Action
	for _, c := range first.Charges {
		for _, l := range modelLimits {
			if l.Limit == c.Limit {
				step.Charges = append(step.Charges, window(l, c.Key, c.Amount, step.Now))
			}
		}
	}
	return p.reserve(step)
}

func (p *player) reserve(step modelStep) (modelStep, error) {
	err := p.commit(step, authz.Batch{Reserve: p.reservation(step)})
	var full *authz.LimitError
	if errors.As(err, &full) {
		step.Full = full.Full
		return step, nil
	}
	p.open = append(p.open, step)
	p.others.add(step.ID)
	return step, err
}

// release takes a decision off some of its charges. It is done unless there were none,
// or another was faster.
func (p *player) release() (step modelStep, done bool, err error) {
	step.ID = p.others.pick(p.random)
	charges, err := p.store.DecisionCharges(context.Background(), step.ID)
	if err != nil {
		return step, false, err
	}
	for _, c := range charges {
		if c.ReleasedAt == 0 && p.random.IntN(3) > 0 {
			step.Owner = append(step.Owner, authz.ReleasedCharge{Charged: c, Kept: len(c.Decisions) > 1})
		}
	}
	if step.Owner == nil {
		return step, false, nil
	}
	err = p.commit(step, authz.Batch{Release: &authz.Release{DecisionID: step.ID, By: "cli:owner", At: p.clock(), Charges: step.Owner}})
	if errors.Is(err, authz.ErrChargesChanged) {
		return step, false, nil
	}
	return step, err == nil, err
}

// clock is 50 times as fast as ours, and up to 2 seconds behind.
func (p *player) clock() int64 {
	return 1e12 + 50*time.Since(p.began).Milliseconds() - int64(p.random.IntN(2000))
}

func (p *player) charge(c authz.Charge, now int64) authz.Charge {
	amount := int64(p.random.IntN(12))
	if c.Limit == "p/count" {
		amount = 1
	}
	return window(c, []string{"[]", `["a"]`}[p.random.IntN(2)], amount, now)
}

func window(c authz.Charge, key string, amount, now int64) authz.Charge {
	c.Key, c.Amount = key, amount
	if c.To > 0 {
		c.From = now / c.To * c.To
		c.To += c.From
	} else {
		c.From = now - c.Trailing + 1
	}
	return c
}

func (p *player) reservation(step modelStep) *authz.Reservation {
	return &authz.Reservation{DecisionID: step.ID, AgentID: "bot", ActionID: step.Action, ActionHash: modelHash, Now: step.Now, Charges: step.Charges}
}

func (p *player) settle() (modelStep, error) {
	i := p.random.IntN(len(p.open))
	step := modelStep{ID: p.open[i].ID, Action: p.open[i].Action, Settled: true}
	if p.random.IntN(4) > 0 { // else it is settled once more, later
		p.open = slices.Delete(p.open, i, i+1)
	}
	for _, c := range modelLimits {
		if p.random.IntN(3) == 0 {
			step.Release = append(step.Release, c.Limit)
		}
	}
	return step, p.commit(step, authz.Batch{Settle: []authz.Settlement{{DecisionID: step.ID, AgentID: "bot", ActionID: step.Action, Release: step.Release}}})
}

func (p *player) commit(step modelStep, b authz.Batch) error {
	detail, err := json.Marshal(step)
	if err != nil {
		return err
	}
	b.Entries = []audit.Entry{{Event: "test", Detail: string(detail)}}
	return p.store.Commit(context.Background(), b)
}

// A modelCharge is one that the model knows of.
type modelCharge struct {
	decisions []string // that stand on it
	action    string
	now       int64
	authz.Charge
	held bool
}

// A model adds everything up.
type model struct{ charges []modelCharge }

// used is what counts in a window.
func (m *model) used(limit, key string, from, to int64) (sum int64) {
	for _, c := range m.charges {
		if c.Limit == limit && c.Key == key && c.now >= from && (to == 0 || c.now < to) {
			sum += c.Amount
		}
	}
	return sum
}

// apply replays a commit: it must have had room.
func (m *model) apply(step modelStep) error {
	switch {
	case step.Settled:
		m.settle(step)
		return nil
	case step.Owner != nil:
		return m.release(step)
	}
	var anew []authz.Charge
	for _, c := range step.Charges {
		if m.charged(step, c) {
			continue
		}
		anew = append(anew, c)
		if used := m.used(c.Limit, c.Key, c.From, c.To); used+c.Amount > c.Max {
			return fmt.Errorf("decision %s was charged %d to %s%s, in which %d of %d was used", step.ID, c.Amount, c.Limit, c.Key, used, c.Max)
		}
	}
	for _, c := range anew {
		m.charges = append(m.charges, modelCharge{[]string{step.ID}, step.Action, step.Now, c, true})
	}
	return nil
}

// settle ends what a decision holds; what it shares is not held.
func (m *model) settle(step modelStep) {
	m.charges = slices.DeleteFunc(m.charges, func(c modelCharge) bool {
		return c.decisions[0] == step.ID && c.held && slices.Contains(step.Release, c.Limit)
	})
	for i := range m.charges {
		if m.charges[i].decisions[0] == step.ID {
			m.charges[i].held = false
		}
	}
}

// release takes a decision off charges: it stood on each, and those on which no other
// stands are gone.
func (m *model) release(step modelStep) error {
	for _, off := range step.Owner {
		i := slices.IndexFunc(m.charges, func(c modelCharge) bool {
			return c.Limit == off.Limit && c.Key == off.Key && c.now == off.At && slices.Contains(c.decisions, step.ID)
		})
		if i < 0 {
			return fmt.Errorf("decision %s was released from what it does not stand on: %+v", step.ID, off)
		}
		c := &m.charges[i]
		if c.decisions = slices.DeleteFunc(c.decisions, func(id string) bool { return id == step.ID }); off.Kept != (len(c.decisions) > 0) || off.Amount != c.Amount {
			return fmt.Errorf("decision %s was released from %+v, on which stand also %v", step.ID, off, c.decisions)
		}
		if !off.Kept {
			m.charges = slices.Delete(m.charges, i, i+1)
		}
	}
	return nil
}

// charged finds the charge of the same action in the window, and keeps it for good.
func (m *model) charged(step modelStep, c authz.Charge) (found bool) {
	for i, old := range m.charges {
		if old.action == step.Action && old.Limit == c.Limit && old.Key == c.Key && old.Amount == c.Amount && old.now >= c.From && (c.To == 0 || old.now < c.To) {
			m.charges[i].held, found = false, true
			if !slices.Contains(old.decisions, step.ID) {
				m.charges[i].decisions = append(m.charges[i].decisions, step.ID)
			}
		}
	}
	return found
}

// windows looks at every window there is: of each length that ends with a charge.
func (m *model) windows() error {
	for _, c := range m.charges {
		from, to := c.From, c.To
		if c.Trailing > 0 {
			to = c.now + 1
		}
		if sum := m.used(c.Limit, c.Key, from, to); sum > c.Max {
			return fmt.Errorf("%s%s: %d of %d between %d and %d", c.Limit, c.Key, sum, c.Max, from, to)
		}
	}
	return nil
}

// TestLimitsModel: three processes with 66 goroutines charge and give back, owners
// release, one process is killed on the way, and the log's order explains all of it.
func TestLimitsModel(t *testing.T) { playModel(t, 3*time.Second) }

// playModel plays for a time, and longer where little has happened by then.
func playModel(t *testing.T, length time.Duration) {
	const enough, longest = 1200, 20 * time.Second
	var seen atomic.Int64
	seed := rand.Uint64()
	t.Logf("OPENLEASH_MODEL_SEED=%d", seed)
	t.Setenv("OPENLEASH_MODEL_SEED", fmt.Sprint(seed))
	dir := t.TempDir()
	steps := make([][]modelStep, modelProcesses)
	var ins []io.Closer
	var wg sync.WaitGroup
	for i := range modelProcesses {
		cmd, out, in := startPlayer(t, dir)
		wg.Go(func() {
			lines := bufio.NewScanner(out)
			lines.Buffer(nil, 1<<20)
			for lines.Scan() {
				var step modelStep
				if json.Unmarshal(lines.Bytes(), &step) == nil { // the last line of who was killed may be torn
					steps[i] = append(steps[i], step)
					seen.Add(1)
				}
			}
			if err := cmd.Wait(); err != nil && i > 0 {
				t.Errorf("process %d: %v", i, err)
			}
		})
		kill := time.AfterFunc(length/2, func() {
			if i == 0 {
				cmd.Process.Kill()
			}
		})
		defer kill.Stop()
		ins = append(ins, in)
	}
	time.Sleep(length)
	for more := longest; seen.Load() < enough && more > 0; more -= 100 * time.Millisecond {
		time.Sleep(100 * time.Millisecond)
	}
	for _, in := range ins {
		in.Close()
	}
	wg.Wait()
	checkModel(t, open(t, dir), steps)
}

func startPlayer(t *testing.T, dir string) (cmd *exec.Cmd, out io.Reader, in io.Closer) {
	t.Helper()
	c := command(t, "model", dir)
	stdin, err := c.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	stdout, err := c.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	return c, stdout, stdin
}

// checkModel replays the log, and looks at what each process was told.
func checkModel(t *testing.T, s *Store, steps [][]modelStep) {
	var m model
	committed, released, kept := map[string]bool{}, 0, 0
	for _, detail := range orderedDetails(t, s) {
		var step modelStep
		if err := json.Unmarshal([]byte(detail), &step); err != nil {
			t.Fatal(err)
		}
		if err := m.apply(step); err != nil {
			t.Fatal(err)
		}
		committed[detail] = true
		for _, off := range step.Owner {
			if released++; off.Kept {
				kept++
			}
		}
	}
	if err := m.windows(); err != nil {
		t.Error(err)
	}
	refused := 0
	for _, list := range steps {
		for _, step := range list {
			if step.Full != nil {
				refused++
				checkRefusal(t, step)
				continue
			}
			if detail, _ := json.Marshal(step); !committed[string(detail)] {
				t.Errorf("a commit that a process was told of is not in the log: %s", detail)
			}
		}
	}
	t.Logf("%d committed, %d refused, %d times released by an owner (%d on what others stand on too), %d charges at the end", len(committed), refused, released, kept, len(m.charges))
	if len(committed) < 200 || refused < 50 || released < 30 || kept == 0 {
		t.Error("too little happened")
	}
	checkStored(t, s, m)
}

// checkRefusal: what was refused had no room, by what the store said of it.
func checkRefusal(t *testing.T, step modelStep) {
	for _, full := range step.Full {
		i := slices.IndexFunc(step.Charges, func(c authz.Charge) bool { return c.Limit == full.Limit && c.Key == full.Key })
		if i < 0 {
			t.Fatalf("%s is full, and was not to be charged: %+v", full.Limit, step)
		}
		if c := step.Charges[i]; full.Used < 0 || full.Held < 0 || full.Used+full.Held+c.Amount <= c.Max || full.Retry <= step.Now {
			t.Errorf("refused with room: %+v of %+v at %d", full, c, step.Now)
		}
	}
}

// checkStored: what the store has is what the model has, to each release.
func checkStored(t *testing.T, s *Store, m model) {
	t.Helper()
	type row struct {
		decisions, limit, key string
		at, amount            int64
		held                  bool
	}
	all := func(decisions []string) string { return strings.Join(slices.Sorted(slices.Values(decisions)), " ") }
	stored, err := list(t.Context(), s, readCharged, selectCharges)
	if err != nil {
		t.Fatal(err)
	}
	count := map[row]int{}
	for _, c := range stored {
		count[row{all(c.Decisions), c.Limit, c.Key, c.At, c.Amount, c.Held}]++
	}
	for _, c := range m.charges {
		count[row{all(c.decisions), c.Limit, c.Key, c.now, c.Amount, c.held}]--
	}
	for r, n := range count {
		if n != 0 {
			t.Errorf("%+v: %d more in the store than in the model", r, n)
		}
	}
	checkSums(t, s)
}

// checkSums: the sums that are kept are those of the charges.
func checkSums(t *testing.T, s *Store) {
	t.Helper()
	const kept = "SELECT limit_id, key, bits, start, charges, high, low, high_held, low_held FROM charge_sums"
	const counted = `SELECT limit_id, key, column1, at >> column1, count(*), sum(amount >> 32), sum(amount & 4294967295), sum((amount >> 32) * held), sum((amount & 4294967295) * held)
		FROM charges, (VALUES (10), (16), (22), (28)) GROUP BY 1, 2, 3, 4`
	for _, query := range []string{kept + " EXCEPT " + counted, counted + " EXCEPT " + kept} {
		odd, err := list(t.Context(), s, func(scan scan) (r [9]string, err error) {
			err = scan(&r[0], &r[1], &r[2], &r[3], &r[4], &r[5], &r[6], &r[7], &r[8])
			return r, err
		}, query)
		if err != nil || len(odd) > 0 {
			t.Errorf("%s: %v, %v", query, odd, err)
		}
	}
}

// TestPartsOf: whatever a window is, its parts are all of it, once, and few.
func TestPartsOf(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	for range 20_000 {
		from := random.Int64N(1 << 41 >> random.IntN(41))
		to := from + 1 + random.Int64N(1<<32>>random.IntN(32))
		open := random.IntN(3) == 0
		if open {
			to = 0
		}
		parts := partsOf(from, to)
		slices.SortFunc(parts, func(a, b part) int { return cmp.Compare(a.from<<a.bits, b.from<<b.bits) })
		at, rows := from, int64(0)
		for _, p := range parts {
			if p.from<<p.bits != at {
				t.Fatalf("%d to %d: a gap or an overlap at %d in %v", from, to, at, parts)
			}
			at = p.to << p.bits
			if p.bits > 0 && !open {
				rows += p.to - p.from
			}
		}
		if !open && at != to || open && at < 1<<62 || rows > 400 {
			t.Fatalf("%d to %d: %v, %d rows of sums", from, to, parts, rows)
		}
	}
}
