package draft

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"

	"github.com/openleash/openleash-go/internal/durable"
)

// Write puts the policy and its suite into a folder of policies, for the owner's eyes
// alone, each whole or not at all. What is there already is never replaced. The policy
// comes last: with it the rule is in force.
func (d Draft) Write(dir string) (files []string, err error) {
	suite := filepath.Join(dir, filepath.FromSlash(d.SuiteName()))
	rule := filepath.Join(dir, filepath.FromSlash(d.Name+".yaml"))
	if _, err := os.Lstat(rule); !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("%s is there already: a rule was made of this request before; remove it first", rule)
	}
	if err := os.MkdirAll(filepath.Dir(rule), 0o700); err != nil {
		return nil, err
	}
	if err := writeNew(suite, d.Suite); err != nil {
		return nil, err
	}
	if err := writeNew(rule, d.Policy); err != nil {
		return nil, errors.Join(err, os.Remove(suite))
	}
	return []string{rule, suite}, nil
}

// writeNew writes a file that is not there yet.
func writeNew(file, text string) error {
	f, err := prepare(file, text)
	if err != nil {
		return err
	}
	defer f.Drop()
	return f.put()
}

// A Prepared is a file that is written whole, and does not have its name yet.
type Prepared struct {
	File string // its name, once it is put
	temp string
	text string // how to get at the text again
}

func prepare(file, text string) (*Prepared, error) {
	temp, err := os.CreateTemp(filepath.Dir(file), ".draft-*") // 0600; the policies' reader skips it
	if err != nil {
		return nil, err
	}
	p := &Prepared{File: file, temp: temp.Name()}
	_, err = temp.WriteString(text)
	if err = errors.Join(err, temp.Sync(), temp.Close()); err != nil {
		p.Drop()
		return nil, fmt.Errorf("writing %s: %w", file, err)
	}
	return p, nil
}

// Drop removes what was not put.
func (p *Prepared) Drop() { os.Remove(p.temp) }

func (p *Prepared) put() error {
	if err := os.Link(p.temp, p.File); err != nil { // fails if the file is there
		return fmt.Errorf("writing %s: %w", p.File, err)
	}
	return durable.Dir(filepath.Dir(p.File))
}

// Prepare writes a proposal's policy for a folder of policies, for the owner's eyes
// alone. It binds nobody before it is put: that comes after the approval is recorded, so
// that nothing is in force that was not approved.
func (p Proposal) Prepare(dir string) (*Prepared, error) {
	file := filepath.Join(dir, filepath.FromSlash(p.Place()+".yaml"))
	if _, err := os.Lstat(file); !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("%s is there already: a draft replaces nothing. Rename or remove that file, or deny the draft", file)
	}
	if err := os.MkdirAll(filepath.Dir(file), 0o700); err != nil {
		return nil, err
	}
	if err := named(filepath.Dir(file), dir); err != nil {
		return nil, err
	}
	made, err := prepare(file, p.Policy)
	if err == nil {
		made.text = "openleash policy drafts show " + p.ID + " --policy"
	}
	return made, err
}

// named sees that a folder below dir has exactly its name: to some systems Bot, bot and
// "bot." are one folder, and the policies in it are those of one of them.
func named(folder, dir string) error {
	for ; folder != filepath.Clean(dir); folder = filepath.Dir(folder) {
		entries, err := os.ReadDir(filepath.Dir(folder))
		if err != nil {
			return err
		}
		if !slices.ContainsFunc(entries, func(e fs.DirEntry) bool { return e.Name() == filepath.Base(folder) }) {
			return fmt.Errorf("%s is a folder of another name on this system, whose policies bind another agent: rename one of the two agents, or deny the draft", folder)
		}
	}
	return nil
}

// Put gives the file its name: with it the policy is in force. What was put stays.
func (p *Prepared) Put() error {
	defer p.Drop()
	if err := p.put(); err != nil {
		return fmt.Errorf("the draft is approved, and its policy is not in force: %w. %s prints it: put it into the policies folder yourself", err, p.text)
	}
	return nil
}
