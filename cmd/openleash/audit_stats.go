package main

import (
	"cmp"
	"fmt"
	"io"
	"maps"
	"slices"
	"strconv"
	"time"

	"github.com/spf13/cobra"

	"github.com/openleash/openleash-go/audit"
	"github.com/openleash/openleash-go/internal/visible"
)

func auditStats() *cobra.Command {
	var f queryFlags
	var perDay, asJSON bool
	cmd := &cobra.Command{
		Use:   "stats",
		Short: "Count what the log has: decisions, outcomes, approvals",
		Long: `Counts decisions by outcome, by agent and by rule, what came of the calls that were allowed,
and approvals with how long they took: from the first call that asked to the answer.
--per-day counts each day (UTC, as the log has it) apart.`,
		Example: "  openleash audit stats --since 30d --per-day",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			q, err := f.query(time.Now())
			if err != nil {
				return err
			}
			return withApp(cmd, func(a *app) error { return a.logStats(cmd, q, perDay, asJSON) })
		},
	}
	f.register(cmd)
	cmd.Flags().BoolVar(&perDay, "per-day", false, "each day apart")
	cmd.Flags().BoolVar(&asJSON, "json", false, "print one JSON object")
	return cmd
}

func (a *app) logStats(cmd *cobra.Command, q audit.Query, perDay, asJSON bool) error {
	if err := a.caughtUp(cmd.Context()); err != nil {
		return err
	}
	q.OldestFirst = true
	s := newLogStats(perDay)
	if err := a.eachLine(cmd.Context(), q, func(l audit.Sequenced) error { s.add(l.Line); return nil }); err != nil {
		return err
	}
	s.end()
	if asJSON {
		return printJSON(cmd.OutOrStdout(), s)
	}
	s.print(cmd.OutOrStdout())
	return nil
}

// tally counts by a word: ALLOW, DENY, …; ok, tool_error, …
type tally map[string]int

// logStats is what is counted.
type logStats struct {
	Entries   int              `json:"entries"`
	First     string           `json:"first,omitempty"` // when
	Last      string           `json:"last,omitempty"`
	Decisions tally            `json:"decisions"`
	Agents    map[string]tally `json:"agents"`
	Rules     map[string]tally `json:"rules"` // POLICY/RULE, POLICY, or "-" where no policy decided
	Outcomes  tally            `json:"outcomes"`
	Approvals approvalStats    `json:"approvals"`
	Days      []*dayStats      `json:"days,omitempty"`

	perDay bool
	asked  map[string]time.Time // by request, until it is answered
	took   []time.Duration
}

type approvalStats struct {
	Asked     int    `json:"asked"` // requests
	Approved  int    `json:"approved"`
	Denied    int    `json:"denied"`
	Withdrawn int    `json:"withdrawn"`
	MedianMS  *int64 `json:"median_ms,omitempty"` // from asking to the answer
	LongestMS *int64 `json:"longest_ms,omitempty"`
}

type dayStats struct {
	Day       string `json:"day"`
	Decisions tally  `json:"decisions"`
	Outcomes  tally  `json:"outcomes"`
}

func newLogStats(perDay bool) *logStats {
	return &logStats{
		Decisions: tally{}, Agents: map[string]tally{}, Rules: map[string]tally{}, Outcomes: tally{}, perDay: perDay, asked: map[string]time.Time{},
	}
}

// add counts a line.
func (s *logStats) add(line []byte) {
	about, _ := audit.ReadAbout(line)
	ts := string(about.TS)
	s.Entries++
	s.First, s.Last = cmp.Or(s.First, ts), ts
	switch event := string(about.Event); event {
	case "decision":
		s.decision(about)
	case "outcome":
		s.Outcomes[string(about.Outcome)]++
		s.day(ts).Outcomes[string(about.Outcome)]++
	case "approval.approved", "approval.denied", "approval.withdrawn":
		s.answer(event, about)
	}
}

func (s *logStats) decision(about audit.About) {
	word := string(about.Decision)
	s.Decisions[word]++
	s.day(string(about.TS)).Decisions[word]++
	countFor(s.Agents, string(about.ActorID), word)
	rule := string(about.PolicyID)
	if len(about.RuleID) > 0 {
		rule += "/" + string(about.RuleID)
	}
	countFor(s.Rules, cmp.Or(rule, "-"), word)
	// The attempt that asked, and not the one that ran by the approval.
	id := string(about.ApprovalID)
	if _, known := s.asked[id]; id == "" || known || word == "ALLOW" || word == "DENY" {
		return
	}
	if at, err := time.Parse(time.RFC3339, string(about.TS)); err == nil {
		s.asked[id] = at
		s.Approvals.Asked++
	}
}

func countFor(in map[string]tally, name, word string) {
	if in[name] == nil {
		in[name] = tally{}
	}
	in[name][word]++
}

func (s *logStats) answer(event string, about audit.About) {
	switch event {
	case "approval.approved":
		s.Approvals.Approved++
	case "approval.denied":
		s.Approvals.Denied++
	default:
		s.Approvals.Withdrawn++
		return
	}
	asked, known := s.asked[string(about.ApprovalID)]
	if at, err := time.Parse(time.RFC3339, string(about.TS)); err == nil && known {
		s.took = append(s.took, max(0, at.Sub(asked)))
	}
}

// day is what is counted of the day of a time. Lines are nearly in the order of time.
func (s *logStats) day(ts string) *dayStats {
	day := ts[:min(len(ts), len(time.DateOnly))]
	for _, d := range slices.Backward(s.Days) {
		if d.Day == day {
			return d
		}
	}
	d := &dayStats{Day: day, Decisions: tally{}, Outcomes: tally{}}
	if s.perDay {
		s.Days = append(s.Days, d)
	}
	return d
}

func (s *logStats) end() {
	slices.SortFunc(s.Days, func(a, b *dayStats) int { return cmp.Compare(a.Day, b.Day) })
	if len(s.took) == 0 {
		return
	}
	slices.Sort(s.took)
	median, longest := s.took[len(s.took)/2].Milliseconds(), s.took[len(s.took)-1].Milliseconds()
	s.Approvals.MedianMS, s.Approvals.LongestMS = &median, &longest
}

func (s *logStats) print(w io.Writer) {
	if s.Entries == 0 {
		fmt.Fprintln(w, "Nothing in the log is like that.")
		return
	}
	fmt.Fprintf(w, "%d entries, from %s to %s\n", s.Entries, visible.Line(s.First), visible.Line(s.Last))
	printTallies(w, "DECISIONS", map[string]tally{"all": s.Decisions}, mostFirst)
	printTallies(w, "AGENT", s.Agents, mostFirst)
	printTallies(w, "POLICY/RULE", s.Rules, mostFirst)
	printTallies(w, "OUTCOMES", map[string]tally{"all": s.Outcomes}, mostFirst)
	s.Approvals.print(w)
	decisions, outcomes := map[string]tally{}, map[string]tally{}
	for _, d := range s.Days {
		decisions[d.Day], outcomes[d.Day] = d.Decisions, d.Outcomes
	}
	byName := func(map[string]tally) func(a, b string) int { return cmp.Compare[string] }
	printTallies(w, "DAY: DECISIONS", decisions, byName)
	printTallies(w, "DAY: OUTCOMES", outcomes, byName)
}

func (a approvalStats) print(w io.Writer) {
	fmt.Fprintf(w, "\nAPPROVALS  %d asked for, %d approved, %d denied, %d withdrawn\n", a.Asked, a.Approved, a.Denied, a.Withdrawn)
	if a.MedianMS != nil {
		fmt.Fprintf(w, "ANSWERED   half of them within %s, the longest took %s\n", length(*a.MedianMS), length(*a.LongestMS))
	}
}

func length(ms int64) string {
	d := time.Duration(ms) * time.Millisecond
	if d >= 10*time.Second {
		d = d.Round(time.Second)
	}
	return d.String()
}

// mostFirst is the order by how much was counted.
func mostFirst(all map[string]tally) func(a, b string) int {
	return func(a, b string) int { return cmp.Or(cmp.Compare(all[b].sum(), all[a].sum()), cmp.Compare(a, b)) }
}

// printTallies prints a row for each name, and a column for each word.
func printTallies(w io.Writer, title string, all map[string]tally, order func(map[string]tally) func(a, b string) int) {
	total := tally{}
	for _, t := range all {
		for word, n := range t {
			total[word] += n
		}
	}
	if len(total) == 0 {
		return
	}
	words := total.words()
	names := slices.SortedFunc(maps.Keys(all), order(all))
	rows, align := [][]string{{title}}, "l"
	for _, word := range words {
		rows[0], align = append(rows[0], visible.Line(cmp.Or(word, "-"))), align+"r"
	}
	for _, name := range names {
		row := []string{clip(name, 60)}
		for _, word := range words {
			row = append(row, strconv.Itoa(all[name][word]))
		}
		rows = append(rows, row)
	}
	fmt.Fprintln(w)
	printTable(w, align, rows)
}

// words are those that were counted, the most first.
func (t tally) words() []string {
	return slices.SortedFunc(maps.Keys(t), func(a, b string) int { return cmp.Or(cmp.Compare(t[b], t[a]), cmp.Compare(a, b)) })
}

func (t tally) sum() (n int) {
	for _, count := range t {
		n += count
	}
	return n
}
