package draft

import (
	"errors"
	"fmt"
	"strings"

	"github.com/openleash/openleash-go/internal/diff"
	"github.com/openleash/openleash-go/policy"
)

// A Review is what an owner has to know of a Proposal before an answer.
type Review struct {
	Place string // the policy that it would become
	Base  string // the file in force that it is compared with; empty: none is like it
	// Changes lead from the text of Base to that of the proposal.
	Changes []diff.Piece
	// With is what would be in force. nil: it cannot come into force, and Fault says why.
	With      *policy.Book
	Fault     error
	Overrides []policy.Override // every deny that an allow of it comes before
	Warnings  []string          // that it adds to those in force
}

// Review looks at a proposal beside what is in force.
func (p Proposal) Review(book *policy.Book) Review {
	r := Review{Place: p.Place()}
	if book == nil {
		r.Fault = errors.New("no valid policy is in force; mend that first")
		r.Changes = diff.Lines("", p.Policy)
		return r
	}
	base := p.nearest(book)
	r.Base, r.Changes = base.Name, diff.Lines(base.Text, p.Policy)
	if r.Fault = p.fits(book); r.Fault != nil {
		return r
	}
	file := r.Place + ".yaml"
	r.With, r.Fault = policy.NewBook("", append(book.Sources(), policy.Source{Name: file, Text: p.Policy}), book.Groups())
	if r.Fault != nil {
		return r
	}
	made := r.With.Policy(file)
	r.Overrides = r.With.Overrides(file)
	for _, w := range made.Warnings {
		r.Warnings = append(r.Warnings, w.Error())
	}
	for _, w := range added(book.Warnings(), r.With.Warnings()) {
		if w.File != made.File { // what it comes before is among Overrides
			r.Warnings = append(r.Warnings, w.Error())
		}
	}
	if made.Hides() {
		r.Warnings = append(r.Warnings, "it keeps values out of the log (log:), of all whom it binds")
	}
	return r
}

// ErrOtherSet says that what is in force is not what a review has compared with.
var ErrOtherSet = errors.New("the policies in force have changed since it was shown: look at it again")

// InForce is what a proposal is reviewed with: a Keeper.
type InForce interface {
	Current() *policy.Book
	Err() error
}

// Approvable says why a proposal that was shown beside the policies of that hash cannot be
// approved: they are others by now, or broken, or it does not load beside them.
func (p Proposal) Approvable(in InForce, set string) (Review, error) {
	if p.Status != Pending {
		return Review{}, ErrAnswered
	}
	if in.Err() != nil {
		return Review{}, errors.New("the policy files are broken, so that no change comes into force; mend them first")
	}
	book := in.Current()
	r := p.Review(book)
	if r.Fault == nil && book.Hash != set {
		r.Fault = ErrOtherSet
	}
	return r, r.Fault
}

// fits says why a proposal cannot become a file.
func (p Proposal) fits(book *policy.Book) error {
	for _, src := range book.Sources() {
		if policyID(src.Name) == p.Place() {
			return fmt.Errorf("%s is in force already: a draft replaces nothing. Rename or remove that file, or deny the draft", src.Name)
		}
	}
	return p.Check(p.Place() + ".yaml")
}

func policyID(file string) string { return file[:strings.LastIndexByte(file, '.')] }

// nearest is the policy in force that a proposal is compared with: the one of the same
// name, or of those that bind the same the one with the most lines of it, at least half.
func (p Proposal) nearest(book *policy.Book) (base policy.Source) {
	want := linesOf(p.Policy)
	most := max(1, (len(want)+1)/2)
	for _, src := range book.Sources() {
		if policyID(src.Name) == p.Place() {
			return src
		}
		if book.Policy(src.Name).Scope != p.scope() {
			continue
		}
		have := linesOf(src.Text)
		common := 0
		for line := range want {
			if have[line] {
				common++
			}
		}
		if common >= most && common > 0 {
			base, most = src, common+1
		}
	}
	return base
}

// linesOf are the lines of a text that say something.
func linesOf(text string) map[string]bool {
	set := make(map[string]bool)
	for line := range strings.Lines(text) {
		if line = strings.TrimSpace(line); line != "" {
			set[line] = true
		}
	}
	return set
}
