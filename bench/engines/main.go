// Engines measures one decision of OpenLeash's policy engine beside cedar-go and
// OPA: the same rules in each one's language, the same request, in this process.
//
//	cd bench/engines && go run .
//
// The rules are of three shapes: of many action types; of one action type, told
// apart by an equality; of one, told apart by a range alone. The request is met by
// the last of them. Every engine must say ALLOW to it, and DENY to one that no rule
// is about, or it is not measured.
package main

import (
	"errors"
	"flag"
	"fmt"
	"os"
	"runtime"
	"testing"
	"time"
)

// A shape is rules that are told apart in one way.
type shape struct {
	name string
	// allow is what rule i asks; met is a request that only rule i is met by.
	actionType func(i int) string
	shop       func(i int) string // empty: the rule does not ask for it
	least      func(i int) int    // amounts from here …
	most       func(i int) int    // … to here; negative: it does not ask
}

func constant[T any](v T) func(int) T { return func(int) T { return v } }

var shapes = []shape{
	{"many action types", func(i int) string { return fmt.Sprintf("shop%d.purchase", i) }, constant(""), constant(-1), constant(5000)},
	{"one, an equality", constant("purchase"), func(i int) string { return fmt.Sprintf("shop-%d", i) }, constant(-1), constant(5000)},
	{"one, ranges alone", constant("purchase"), constant(""), func(i int) int { return 10 * i }, func(i int) int { return 10*i + 9 }},
}

// A request is one action.
type request struct {
	actionType, shop string
	amount           int
}

func (s shape) request(i int) request {
	r := request{s.actionType(i), s.shop(i), 4200}
	if s.least(i) >= 0 {
		r.amount = s.most(i)
	}
	return r
}

// An engine decides with the rules that it was made of.
type engine interface {
	decide(request) (allowed bool, err error)
}

// engines are made with n rules of a shape; errTooSlow: it would take too long.
var engines = []struct {
	name string
	make func(s shape, n int) (engine, error)
}{
	{"openleash", newOurs},
	{"cedar-go", newCedar},
	{"opa", newOPA},
}

var errTooSlow = errors.New("not tried")

func main() {
	most := flag.Int("most", 10_000, "how many rules at the most")
	flag.Parse()
	if err := run(*most); err != nil {
		fmt.Fprintln(os.Stderr, "engines:", err)
		os.Exit(1)
	}
}

func run(most int) error {
	fmt.Printf("%s/%s, %d CPUs, %s\n\n", runtime.GOOS, runtime.GOARCH, runtime.NumCPU(), runtime.Version())
	fmt.Println("| rules | engine | n | load | one decision | allocations |")
	fmt.Println("|-|-|-|-|-|-|")
	for _, s := range shapes {
		for _, e := range engines {
			for _, n := range []int{10, 100, 1000, 10_000} {
				if n > most {
					continue
				}
				row, err := measure(e.make, s, n)
				if err != nil {
					return fmt.Errorf("%s, %s, %d rules: %w", s.name, e.name, n, err)
				}
				fmt.Printf("| %s | %s | %d | %s |\n", s.name, e.name, n, row)
			}
		}
	}
	return nil
}

func measure(make func(shape, int) (engine, error), s shape, n int) (string, error) {
	begun := time.Now()
	e, err := make(s, n)
	if errors.Is(err, errTooSlow) {
		return "– | – | –", nil
	}
	if err != nil {
		return "", err
	}
	load := time.Since(begun)
	last, none := s.request(n-1), request{"other.type", "nobody", 4200}
	if ok, err := e.decide(last); err != nil || !ok {
		return "", fmt.Errorf("it does not allow what its last rule allows: %v, %v", ok, err)
	}
	if ok, err := e.decide(none); err != nil || ok {
		return "", fmt.Errorf("it allows what no rule is about: %v, %v", ok, err)
	}
	r := testing.Benchmark(func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			e.decide(last)
		}
	})
	return fmt.Sprintf("%s | %s | %d", load.Round(100*time.Microsecond), per(r), r.AllocsPerOp()), nil
}

func per(r testing.BenchmarkResult) string {
	d := float64(r.T.Nanoseconds()) / float64(r.N)
	if d < 10_000 {
		return fmt.Sprintf("%.0f ns", d)
	}
	return time.Duration(d).Round(time.Microsecond / 10).String()
}
