package main

import (
	"cmp"
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/openleash/openleash-go/internal/strictyaml"
	"github.com/openleash/openleash-go/policy"
)

func policyTestCommand() *cobra.Command {
	var run, junit string
	var least int
	cmd := &cobra.Command{
		Use:   "test [FILE or FOLDER…]",
		Short: "Run the tests that stand beside policies",
		Long: `Runs suites: files named *_test.yaml. Of a folder all are run, of the folders below it
too; without an argument those of this installation. NAME_test.yaml tests the policy
NAME.yaml beside it by itself; where there is none, the folder as a whole. In which
groups an agent is, a test says itself.

Exit code 0: all passed, and as much was met as --coverage wants; 1: not.`,
		RunE: func(cmd *cobra.Command, args []string) error {
			only, err := regexp.Compile(run)
			if err != nil {
				return fmt.Errorf("--run: %w", err)
			}
			if args, _, err = orOwnPolicies(args); err != nil {
				return err
			}
			t := suiteRun{out: cmd.OutOrStdout(), complain: cmd.ErrOrStderr(), only: only}
			for _, name := range args {
				if err := t.take(name); err != nil {
					return err
				}
			}
			if junit != "" {
				if err := t.writeJUnit(junit); err != nil {
					return err
				}
			}
			return t.verdict(cmd.Flags().Changed("coverage"), least)
		},
	}
	cmd.Flags().StringVar(&run, "run", "", "only tests whose name matches this pattern")
	cmd.Flags().StringVar(&junit, "junit", "", "write the results as JUnit XML to this file")
	cmd.Flags().IntVar(&least, "coverage", 0, "tell what no test meets, and fail when less than so many per cent is met")
	return cmd
}

// suiteRun runs suites and gathers what came of them.
type suiteRun struct {
	out, complain  io.Writer
	only           *regexp.Regexp
	passed, failed int
	coverage       policy.Coverage
	report         []junitSuite
}

// take runs one suite, or all in a folder.
func (t *suiteRun) take(name string) error {
	info, err := os.Stat(name)
	if err != nil {
		return err
	}
	if !info.IsDir() {
		return t.suites(filepath.Dir(name), []string{name})
	}
	files, err := suitesIn(name)
	if err != nil {
		return err
	}
	if len(files) == 0 {
		return withHint(fmt.Errorf("%s has no tests", name), "a suite is a file NAME_test.yaml; docs/policy.md shows one")
	}
	return t.suites(name, files)
}

func suitesIn(dir string) (files []string, err error) {
	err = filepath.WalkDir(dir, func(name string, e fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case name != dir && strings.HasPrefix(e.Name(), "."):
			if e.IsDir() {
				return fs.SkipDir
			}
		case !e.IsDir() && policy.IsSuite(filepath.ToSlash(e.Name())):
			files = append(files, name)
		}
		return nil
	})
	return files, err
}

// suites runs suites of one folder; those of the same policies are measured
// together.
func (t *suiteRun) suites(dir string, files []string) error {
	together := map[string][]*policy.Suite{}
	books := map[string]*policy.Book{}
	for _, file := range files {
		src, err := os.ReadFile(file)
		if err != nil {
			return err
		}
		suite, err := policy.ParseSuite(file, src)
		if err != nil {
			return t.broken(err)
		}
		of := aboutPolicy(dir, file)
		if books[of] == nil {
			if books[of], err = bookOf(of, nil); err != nil {
				return t.broken(err)
			}
		}
		together[of] = append(together[of], suite)
		t.run(suite, books[of])
	}
	for of, suites := range together {
		c := policy.Cover(books[of], suites)
		t.coverage.Met, t.coverage.All = t.coverage.Met+c.Met, t.coverage.All+c.All
		t.coverage.Missed = append(t.coverage.Missed, c.Missed...)
	}
	return nil
}

// aboutPolicy is what a suite tests: the policy beside it, or the folder.
func aboutPolicy(dir, file string) string {
	beside := strings.TrimSuffix(file, filepath.Ext(file))
	beside = strings.TrimSuffix(beside, "_test")
	for _, ending := range []string{".yaml", ".yml"} {
		if _, err := os.Stat(beside + ending); err == nil {
			return beside + ending
		}
	}
	return dir
}

// bookOf reads a policy by itself, for all agents, or a folder.
func bookOf(name string, groups policy.Groups) (*policy.Book, error) {
	if info, err := os.Stat(name); err == nil && info.IsDir() {
		return policy.Load(name, groups)
	}
	src, err := os.ReadFile(name)
	if err != nil {
		return nil, err
	}
	return policy.Alone(name, src)
}

// broken tells of a suite or a policy with mistakes, as check does.
func (t *suiteRun) broken(err error) error {
	var list strictyaml.ErrorList
	if !errors.As(err, &list) {
		return err
	}
	(&checker{complain: t.complain}).print("error", list)
	return exitCode(1)
}

func (t *suiteRun) run(suite *policy.Suite, book *policy.Book) {
	fmt.Fprintln(t.out, suite.File)
	report := junitSuite{Name: suite.File}
	for _, r := range suite.Run(book) {
		if !t.only.MatchString(r.Name) {
			continue
		}
		rule := cmp.Or(r.Decision.RuleID, "(default)")
		for _, e := range r.Decision.Over {
			rule += ", over " + e.Limit.ID
		}
		c := junitCase{Name: r.Name, Class: suite.File}
		if len(r.Faults) == 0 {
			t.passed++
			fmt.Fprintf(t.out, "  ok    %-44s %-16s %s\n", r.Name, r.Decision.Outcome, rule)
		} else {
			t.failed++
			fmt.Fprintf(t.out, "  FAIL  %s (line %d)\n", r.Name, r.Line)
			for _, f := range r.Faults {
				fmt.Fprintf(t.out, "        %s\n", f)
			}
			c.Failure = &junitFailure{Message: r.Faults[0], Text: strings.Join(r.Faults, "\n")}
			report.Failures++
		}
		report.Cases = append(report.Cases, c)
	}
	report.Tests = len(report.Cases)
	t.report = append(t.report, report)
}

func (t *suiteRun) verdict(measure bool, least int) error {
	fmt.Fprintf(t.out, "%d passed, %d failed\n", t.passed, t.failed)
	if measure {
		fmt.Fprintf(t.out, "coverage %d %%: %d of %d rules and conditions\n", t.coverage.Percent(), t.coverage.Met, t.coverage.All)
		slices.SortStableFunc(t.coverage.Missed, func(a, b strictyaml.Error) int { return strings.Compare(a.File, b.File) })
		for _, m := range t.coverage.Missed {
			fmt.Fprintf(t.out, "  %s\n", m)
		}
	}
	switch {
	case t.failed > 0 || measure && t.coverage.Percent() < least:
		return exitCode(1)
	case t.passed == 0:
		return fmt.Errorf("no test has a name that matches %q", t.only)
	}
	return nil
}

// JUnit's XML, as far as the programs that show it read it.
type junitSuite struct {
	XMLName  xml.Name    `xml:"testsuite"`
	Name     string      `xml:"name,attr"`
	Tests    int         `xml:"tests,attr"`
	Failures int         `xml:"failures,attr"`
	Cases    []junitCase `xml:"testcase"`
}

type junitCase struct {
	Name    string        `xml:"name,attr"`
	Class   string        `xml:"classname,attr"`
	Failure *junitFailure `xml:"failure,omitempty"`
}

type junitFailure struct {
	Message string `xml:"message,attr"`
	Text    string `xml:",chardata"`
}

func (t *suiteRun) writeJUnit(file string) error {
	raw, err := xml.MarshalIndent(struct {
		XMLName xml.Name `xml:"testsuites"`
		Suites  []junitSuite
	}{Suites: t.report}, "", "  ")
	if err != nil {
		return err
	}
	return os.WriteFile(file, append([]byte(xml.Header), append(raw, '\n')...), 0o600)
}
