package main

import (
	"bufio"
	"encoding/csv"
	"fmt"
	"io"
	"reflect"
	"strings"
	"time"
	"unicode"

	"github.com/spf13/cobra"

	"github.com/openleash/openleash-go/audit"
	"github.com/openleash/openleash-go/internal/logline"
	"github.com/openleash/openleash-go/internal/visible"
)

func auditExport() *cobra.Command {
	var f queryFlags
	var format string
	cmd := &cobra.Command{
		Use:   "export",
		Short: "Write entries of the log to standard output, as JSON lines or CSV",
		Long: `Writes all entries to which all that is given applies, the oldest first.

jsonl: the very lines of the log. Without any filter that is the log, and openleash audit
verify takes it.

csv: a column for each field, one row an entry; nested values are JSON. Spreadsheets run
what begins with = + - or @, so a text that does, or that begins with an apostrophe, has an
apostrophe before it: take one away to have the text.`,
		Example: "  openleash audit export --format csv --since 30d > log.csv",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			q, err := f.query(time.Now())
			if err == nil && format != "jsonl" && format != "csv" {
				err = fmt.Errorf("--format: want jsonl or csv, got %q", format)
			}
			if err != nil {
				return err
			}
			return withApp(cmd, func(a *app) error { return a.exportLog(cmd, q, format) })
		},
	}
	f.register(cmd)
	cmd.Flags().StringVar(&format, "format", "jsonl", "jsonl or csv")
	return cmd
}

func (a *app) exportLog(cmd *cobra.Command, q audit.Query, format string) error {
	if err := a.caughtUp(cmd.Context()); err != nil {
		return err
	}
	q.OldestFirst = true
	out := bufio.NewWriterSize(cmd.OutOrStdout(), 1<<20)
	write, flush := jsonlWriter(out, isTerminal(cmd.OutOrStdout()))
	if format == "csv" {
		write, flush = csvWriter(out, isTerminal(cmd.OutOrStdout()))
	}
	if err := a.eachLine(cmd.Context(), q, write); err != nil {
		return err
	}
	if err := flush(); err != nil {
		return err
	}
	return out.Flush()
}

// jsonlWriter writes lines as they stand; at a terminal, with what could harm it escaped.
func jsonlWriter(out io.Writer, terminal bool) (write func(audit.Sequenced) error, flush func() error) {
	return func(l audit.Sequenced) error {
		line := append(l.Line[:len(l.Line):len(l.Line)], '\n')
		if terminal {
			line = []byte(visible.JSONText(string(l.Line)) + "\n")
		}
		_, err := out.Write(line)
		return err
	}, func() error { return nil }
}

// csvColumns are all fields of a line, in the order of docs/audit.md.
func csvColumns() []string {
	columns := []string{"seq", "prev"}
	entry := reflect.TypeFor[audit.Entry]()
	for i := range entry.NumField() {
		name, _, _ := strings.Cut(entry.Field(i).Tag.Get("json"), ",")
		columns = append(columns, name)
	}
	return columns
}

func csvWriter(out io.Writer, terminal bool) (write func(audit.Sequenced) error, flush func() error) {
	w, columns := csv.NewWriter(out), csvColumns()
	at := map[string]int{}
	for i, name := range columns {
		at[name] = i
	}
	w.Write(columns) // an error stays, and flush returns it
	return func(l audit.Sequenced) error {
		members, err := logline.Members(l.Line)
		if err != nil {
			return err
		}
		row := make([]string, len(columns))
		for _, m := range members {
			i, known := at[m.Name]
			if !known {
				return fmt.Errorf("line %d of the log has a field %q, which this version does not know: update OpenLeash, or export jsonl", l.Seq, m.Name)
			}
			if row[i] = csvCell(m); terminal {
				row[i] = visible.Line(row[i])
			}
		}
		return w.Write(row)
	}, func() error { w.Flush(); return w.Error() }
}

// csvCell is the cell of a member. No spreadsheet takes it for a formula.
func csvCell(m logline.Member) string {
	switch {
	case m.JSON && m.Text == "null":
		return ""
	case m.JSON:
		return m.Text // begins with a digit, a minus and a digit, a letter or a bracket
	case strings.HasPrefix(m.Text, "'") || formula(m.Text):
		return "'" + m.Text
	}
	return m.Text
}

// formula reports whether a spreadsheet may take a text for a formula: they skip blanks,
// and know the wide forms of the signs.
func formula(text string) bool {
	text = strings.TrimLeftFunc(text, func(r rune) bool { return unicode.IsSpace(r) || visible.Odd(r) })
	return text != "" && strings.ContainsRune("=+-@＝＋－＠", []rune(text)[0])
}
