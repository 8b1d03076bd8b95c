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
	for i := range modelRoutines {
		wg.Go(func() {
			p := player{store: s, name: fmt.Sprintf("%d-%d", os.Getpid(), i), random: rand.New(rand.NewPCG(seed, uint64(os.Getpid()*100+i))), began: began}
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
	name   string
	random *rand.Rand
	began  time.Time
	n      int
	open   []modelStep // whose outcome is to come
}

// play makes one step: it charges, an action for the second time perhaps, or
// settles, which it may do twice.
func (p *player) play() (modelStep, error) {
	if len(p.open) > 0 && p.random.IntN(3) == 0 {
		return p.settle()
	}
	p.n++
	step := modelStep{ID: fmt.Sprintf("%s-%d", p.name, p.n), Action: fmt.Sprintf("%s-%d", p.name, p.n), Now: p.clock()}
	if len(p.open) > 0 && p.random.IntN(8) == 0 {
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
	return step, err
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
	decision, action string
	now              int64
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
	if step.Settled {
		m.charges = slices.DeleteFunc(m.charges, func(c modelCharge) bool {
			return c.decision == step.ID && c.held && slices.Contains(step.Release, c.Limit)
		})
		for i := range m.charges {
			if m.charges[i].decision == step.ID {
				m.charges[i].held = false
			}
		}
		return nil
	}
	var anew []authz.Charge
	for _, c := range step.Charges {
		if m.charged(step.Action, c) {
			continue
		}
		anew = append(anew, c)
		if used := m.used(c.Limit, c.Key, c.From, c.To); used+c.Amount > c.Max {
			return fmt.Errorf("decision %s was charged %d to %s%s, in which %d of %d was used", step.ID, c.Amount, c.Limit, c.Key, used, c.Max)
		}
	}
	for _, c := range anew {
		m.charges = append(m.charges, modelCharge{step.ID, step.Action, step.Now, c, true})
	}
	return nil
}

// charged finds the charge of the same action in the window, and keeps it for good.
func (m *model) charged(action string, c authz.Charge) (found bool) {
	for i, old := range m.charges {
		if old.action == action && old.Limit == c.Limit && old.Key == c.Key && old.Amount == c.Amount && old.now >= c.From && (c.To == 0 || old.now < c.To) {
			m.charges[i].held, found = false, true
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

// TestLimitsModel: three processes with 66 goroutines charge and give back, one of
// them is killed on the way, and the log's order explains all of it.
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
	committed := map[string]bool{}
	for _, detail := range orderedDetails(t, s) {
		var step modelStep
		if err := json.Unmarshal([]byte(detail), &step); err != nil {
			t.Fatal(err)
		}
		if err := m.apply(step); err != nil {
			t.Fatal(err)
		}
		committed[detail] = true
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
	t.Logf("%d committed, %d refused, %d charges at the end", len(committed), refused, len(m.charges))
	if len(committed) < 200 || refused < 100 {
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
		decision, limit, key string
		at, amount           int64
		held                 bool
	}
	stored, err := list(t.Context(), s, func(scan scan) (r row, err error) {
		err = scan(&r.decision, &r.limit, &r.key, &r.at, &r.amount, &r.held)
		return r, err
	}, "SELECT decision_id, limit_id, key, at, amount, held FROM charges")
	if err != nil {
		t.Fatal(err)
	}
	count := map[row]int{}
	for _, r := range stored {
		count[r]++
	}
	for _, c := range m.charges {
		count[row{c.decision, c.Limit, c.Key, c.now, c.Amount, c.held}]--
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
