// Package strictyaml reads YAML the way people expect it to be read: one
// document, no duplicate or merge keys, no surprises of YAML 1.1 (0500, yes,
// on), every error with line, column and what was wanted.
//
// [Parse] checks the document as a tree. It refuses, with the place and with
// advice: bytes that are not UTF-8, a byte-order mark, tabs in indentation, an
// empty document, a second document, duplicate keys, keys that are not text,
// merge keys, tags, aliases that lead in a circle, and whatever is too large.
// Anchors and aliases are followed; all readers see what an alias stands for.
//
// The readers of [Doc] take a node and say what they want of it. A fault is
// noted, not returned, so that one run tells all of them:
//
//	doc, err := strictyaml.Parse(name, src)
//	if err != nil {
//		return err
//	}
//	top := doc.Fields(doc.Root, "config", "listen", "servers")
//	listen, _ := doc.String(top["listen"], "listen")
//	servers, _ := doc.Strings(top["servers"], "servers")
//	return doc.Err()
//
// Text that another reader of YAML takes for something else is refused where it
// stands without quotes: numbers, booleans, null, yes/no/on/off, and 12:30:45,
// which YAML 1.1 reads to the base of sixty. Whole numbers are decimal digits
// without a leading zero, a plus or underscores; booleans are true and false.
package strictyaml

import (
	"cmp"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"unicode"

	"gopkg.in/yaml.v3"
)

// An Error is one fault at one place.
type Error struct {
	File         string
	Line, Column int
	Message      string // what is wrong, what was wanted, what was probably meant
	Source       string // the line, without its end; empty when there is none
}

// Error gives file:line:column: message.
func (e Error) Error() string {
	return fmt.Sprintf("%s:%d:%d: %s", e.File, e.Line, e.Column, e.Message)
}

// mostShown is how much of a line Excerpt shows, in characters.
const mostShown = 120

// Excerpt gives the line with a caret under the place, each behind its number or
// a bar, and a newline after both; empty without a Source.
//
//	6 |     effect: alow
//	  |             ^
func (e Error) Excerpt() string {
	line := []rune(strings.NewReplacer("\t", " ", "\r", " ").Replace(e.Source))
	if len(line) == 0 {
		return ""
	}
	at := min(e.Column-1, len(line))
	from := max(0, min(at-mostShown/2, len(line)-mostShown))
	shown := strings.TrimRight(string(line[from:min(from+mostShown, len(line))]), " ")
	number := strconv.Itoa(e.Line)
	return fmt.Sprintf("%s | %s\n%*s | %*s\n", number, visible(shown), len(number), "", at-from+1, "^")
}

// visible keeps what a file holds from steering a terminal.
func visible(s string) string {
	return strings.Map(func(r rune) rune {
		if unicode.IsPrint(r) {
			return r
		}
		return '\ufffd'
	}, s)
}

// ErrorList collects all faults of a document, in file order. It unwraps to its errors.
type ErrorList []Error

// Error gives one line for each fault.
func (l ErrorList) Error() string {
	lines := make([]string, len(l))
	for i, e := range l {
		lines[i] = e.Error()
	}
	return strings.Join(lines, "\n")
}

// Unwrap lets errors.As find an Error.
func (l ErrorList) Unwrap() []error {
	errs := make([]error, len(l))
	for i, e := range l {
		errs[i] = e
	}
	return errs
}

// A Doc is a parsed document whose readers note their faults in it.
type Doc struct {
	File  string
	Root  *yaml.Node
	lines []string
	errs  ErrorList
}

// maxFaults is how many faults are noted. Whoever has so many is helped by the
// first ones, and a hostile file should not make us write megabytes.
const maxFaults = 100

// Errorf notes a fault at n; a nil node stands for the start of the document.
func (d *Doc) Errorf(n *yaml.Node, format string, args ...any) {
	line, column := 1, 1
	if n != nil {
		line, column = max(n.Line, 1), max(n.Column, 1)
	}
	d.errorAt(line, column, format, args...)
}

func (d *Doc) errorAt(line, column int, format string, args ...any) {
	if len(d.errs) < maxFaults {
		d.errs = append(d.errs, d.at(line, column, fmt.Sprintf(format, args...)))
	}
}

func (d *Doc) at(line, column int, message string) Error {
	e := Error{File: d.File, Line: line, Column: column, Message: message}
	if line <= len(d.lines) {
		e.Source = d.lines[line-1]
	}
	return e
}

// At is a remark about a place in the document: no fault, unless it is made one.
func (d *Doc) At(n *yaml.Node, format string, args ...any) Error {
	return d.at(max(n.Line, 1), max(n.Column, 1), fmt.Sprintf(format, args...))
}

// Err returns the faults noted, sorted, or nil. It is an ErrorList.
func (d *Doc) Err() error {
	if len(d.errs) == 0 {
		return nil
	}
	sorted := slices.Clone(d.errs)
	slices.SortStableFunc(sorted, func(a, b Error) int {
		return cmp.Or(cmp.Compare(a.Line, b.Line), cmp.Compare(a.Column, b.Column))
	})
	return slices.Compact(sorted) // one fault behind two aliases is one fault
}
