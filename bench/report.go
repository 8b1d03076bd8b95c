package main

import (
	"bufio"
	"bytes"
	"cmp"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"text/tabwriter"
	"time"
)

// report is all that a run found; it is saved as JSON.
type report struct {
	Began   time.Time  `json:"began"`
	Took    float64    `json:"took_seconds"`
	Machine string     `json:"machine"`
	Sync    float64    `json:"fsync_ms"` // what no durable log can be faster than
	Cells   []cell     `json:"calls"`
	Starts  []starting `json:"starts"`
	Memory  []memory   `json:"memory"`
	Logs    []logCheck `json:"logs"`
	Missing string     `json:"mcpproxy_missing,omitempty"`

	contestants []*contestant
}

// The goals of the issues that asked for this benchmark.
const (
	goalAdded  = 0.5 // ms at p50, one call at a time
	goalPassed = 0.5 // of the direct requests a second, passing on, at the most at once
	goalStart  = 100 // ms to the first answer
	goalMemory = 40  // MB
)

// goalPassing are ms at p50, passing on one request at a time.
var goalPassing = map[string]float64{"stdio": 0.25, "http": 0.3}

func thisMachine() string {
	model := ""
	info, _ := os.ReadFile("/proc/cpuinfo")
	for line := range strings.Lines(string(info)) {
		if name, value, _ := strings.Cut(line, ":"); strings.TrimSpace(name) == "model name" {
			model = ", " + strings.TrimSpace(value)
			break
		}
	}
	load, _ := os.ReadFile("/proc/loadavg")
	first, _, _ := strings.Cut(string(load), " ")
	return fmt.Sprintf("%s/%s, %d processors%s, %s; load before the run %s", runtime.GOOS, runtime.GOARCH, runtime.NumCPU(), model, runtime.Version(), cmp.Or(first, "unknown"))
}

// syncTime is the middle time of a small write and its fsync in a folder.
func syncTime(dir string) (float64, error) {
	f, err := os.CreateTemp(dir, "sync-")
	if err != nil {
		return 0, err
	}
	defer f.Close()
	page := make([]byte, 4096)
	if _, err := f.Write(bytes.Repeat(page, 256)); err != nil {
		return 0, err
	}
	var took []float64
	for i := range 200 {
		begin := time.Now()
		_, err := f.WriteAt(page, int64(i*len(page)))
		if err = cmp.Or(err, f.Sync()); err != nil {
			return 0, err
		}
		took = append(took, milliseconds(time.Since(begin)))
	}
	return median(took), nil
}

// loaded is the home with the longest log.
func (r *report) loaded() *home {
	return slices.MaxFunc(r.contestants, func(a, b *contestant) int {
		return cmp.Compare(governed(a), governed(b))
	}).home
}

func governed(c *contestant) int64 {
	if c.home == nil {
		return -1
	}
	return c.calls()
}

// logCheck compares the log of a home with the calls that were made.
type logCheck struct {
	Contestant string `json:"contestant"`
	Calls      int64  `json:"calls"`
	Decisions  int64  `json:"decisions_in_the_log"`
}

// checkLogs shows that what was measured did its work: a decision in the log
// for every call, and the longest log verifies.
func checkLogs(l *lab, _ plan, r *report) error {
	for _, c := range r.contestants {
		if c.home == nil {
			continue
		}
		n, err := decisions(filepath.Join(c.home.dir, "data", "audit.log.jsonl"))
		if err != nil {
			return err
		}
		r.Logs = append(r.Logs, logCheck{c.name, c.calls(), n})
		if n != c.calls() {
			return fmt.Errorf("%s: %d calls were answered, the log in %s has %d decisions", c.name, c.calls(), c.home.dir, n)
		}
	}
	if text, err := l.openLeash(r.loaded(), "audit", "verify").Output(); err != nil {
		return fmt.Errorf("openleash audit verify: %w\n%s", err, text)
	}
	return nil
}

func decisions(file string) (n int64, err error) {
	f, err := os.Open(file)
	if err != nil {
		return 0, err
	}
	defer f.Close()
	lines := bufio.NewScanner(f)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		if bytes.Contains(lines.Bytes(), []byte(`"event":"decision"`)) {
			n++
		}
	}
	return n, lines.Err()
}

func (r *report) print(out io.Writer) {
	fmt.Fprintf(out, "%s\none fsync of 4 KiB: %.3f ms (no synced log is faster)\n\n", r.Machine, r.Sync)
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(w, "calls\tat once\tp50 ms\tp99 ms\tadded ms\tx direct\tcalls/s\tproxy CPU us/call\t")
	for _, c := range r.Cells {
		fmt.Fprintf(w, "%s, %s\t%d\t%.3f\t%.3f\t%.3f\t%.1f\t%.0f\t%s\t\n", c.Transport, c.Contestant, c.AtOnce, c.P50, c.P99, c.Added, c.Ratio, c.PerSecond, orDash(c.CPU))
	}
	fmt.Fprintln(w, "\nstart to first answer\ttimes\tmedian ms\tworst ms\t")
	for _, s := range r.Starts {
		fmt.Fprintf(w, "%s\t%d\t%.1f\t%.1f\t\n", s.What, s.Times, s.Median, s.Worst)
	}
	fmt.Fprintln(w, "\nmemory of the proxy\tcalls\tresident MB\tpeak MB\t")
	for _, m := range r.Memory {
		fmt.Fprintf(w, "%s\t%d\t%s\t%s\t\n", m.What, m.Calls, orDash(m.Now), orDash(m.Peak))
	}
	w.Flush()
	r.verdicts(out)
}

func orDash(v float64) string {
	if v == 0 {
		return "-"
	}
	return fmt.Sprintf("%.1f", v)
}

// verdicts says which goals are met.
func (r *report) verdicts(out io.Writer) {
	fmt.Fprintln(out)
	for _, c := range r.Cells {
		transport, passes := strings.CutSuffix(c.Transport, passing)
		switch {
		case c.Contestant != "openleash":
		case c.AtOnce == 1 && !passes:
			verdict(out, c.Added <= goalAdded, "%s adds %.3f ms at p50 with 1 call at once; goal %.1f", c.Transport, c.Added, goalAdded)
		case c.AtOnce == 1:
			verdict(out, c.Added <= goalPassing[transport], "%s adds %.3f ms at p50 with 1 request at once; goal %.2f", c.Transport, c.Added, goalPassing[transport])
		case passes && c.AtOnce == slices.Max(atOnce):
			share := c.PerSecond / r.cell(c.Transport, "direct", c.AtOnce).PerSecond
			verdict(out, share >= goalPassed, "%s, %d at once: %.2f of the direct requests a second; goal %.1f", c.Transport, c.AtOnce, share, goalPassed)
		}
	}
	for _, s := range r.Starts {
		if s.What == "openleash stdio" {
			verdict(out, s.Median < goalStart, "start to first answer %.1f ms; goal under %d", s.Median, goalStart)
		}
	}
	for _, m := range r.Memory {
		if strings.HasPrefix(m.What, "openleash start") && m.Now > 0 {
			verdict(out, m.Now < goalMemory, "%s: %.1f MB resident after %d calls; goal under %d", m.What, m.Now, m.Calls, goalMemory)
		}
	}
	r.peer(out)
	var calls int64
	for _, l := range r.Logs {
		calls += l.Calls
	}
	verdict(out, true, "every one of %d governed calls has its decision in the log; the longest log verifies", calls)
	fmt.Fprintf(out, "\n%.0f s\n", r.Took)
}

// peer compares with mcpproxy, cell by cell.
func (r *report) peer(out io.Writer) {
	if r.Missing != "" {
		fmt.Fprintf(out, "       mcpproxy was not measured: %s\n", r.Missing)
		return
	}
	for _, field := range []string{"http", "http" + passing} {
		for _, pair := range [][2]string{{"openleash", "mcpproxy"}, {"openleash to stdio", "mcpproxy to stdio"}} {
			for _, n := range atOnce {
				ours, theirs := r.cell(field, pair[0], n), r.cell(field, pair[1], n)
				verdict(out, ours.P50 < theirs.P50, "%s, %d at once: %s %.3f ms, %s %.3f ms at p50; %.2f times its calls/s",
					field, n, pair[0], ours.P50, pair[1], theirs.P50, ours.PerSecond/theirs.PerSecond)
			}
		}
	}
}

func (r *report) cell(transport, name string, n int) cell {
	i := slices.IndexFunc(r.Cells, func(c cell) bool {
		return c.Transport == transport && c.Contestant == name && c.AtOnce == n
	})
	return r.Cells[i]
}

func verdict(out io.Writer, met bool, format string, args ...any) {
	fmt.Fprintf(out, "%-6s %s\n", map[bool]string{true: "met", false: "MISSED"}[met], fmt.Sprintf(format, args...))
}

// save writes the run as JSON, named after its time.
func (r *report) save(dir string) error { return save(dir, r.Began, "", r) }

func save(dir string, began time.Time, kind string, found any) error {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	text, err := json.MarshalIndent(found, "", "  ")
	if err != nil {
		return err
	}
	file := filepath.Join(dir, began.UTC().Format("20060102T150405Z")+kind+".json")
	fmt.Println("saved in bench/" + filepath.ToSlash(file))
	return os.WriteFile(file, append(text, '\n'), 0o644)
}
