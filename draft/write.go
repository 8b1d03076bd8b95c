package draft

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

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
func writeNew(file, text string) (err error) {
	temp, err := os.CreateTemp(filepath.Dir(file), ".draft-*") // 0600; the policies' reader skips it
	if err != nil {
		return err
	}
	defer os.Remove(temp.Name())
	_, err = temp.WriteString(text)
	err = errors.Join(err, temp.Sync(), temp.Close())
	if err == nil {
		err = os.Link(temp.Name(), file) // fails if the file is there
	}
	if err != nil {
		return fmt.Errorf("writing %s: %w", file, err)
	}
	return durable.Dir(filepath.Dir(file))
}
