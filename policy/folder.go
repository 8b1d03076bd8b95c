package policy

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"github.com/openleash/openleash-go/internal/strictyaml"
)

// What is read of a folder at the most. Links can make any tree endless.
const (
	maxFile    = 1 << 20
	maxDepth   = 16   // of folders in folders
	maxFolders = 1000 // in all
)

// read gives the sources of a folder, and what is wrong with single files.
func read(dir string) ([]Source, strictyaml.ErrorList, error) {
	r := reader{dir: dir}
	switch err := r.root(); {
	case errors.Is(err, fs.ErrNotExist):
		return nil, nil, fmt.Errorf("reading policies: %w: make the folder and put a policy file into it", err)
	case err != nil:
		return nil, nil, fmt.Errorf("reading policies: %w", err)
	}
	slices.SortFunc(r.sources, bySourceName)
	return r.sources, r.faults, nil
}

type reader struct {
	dir     string
	sources []Source
	faults  strictyaml.ErrorList
	folders int
}

func (r *reader) root() error {
	info, err := os.Stat(r.dir)
	if err != nil {
		return err
	}
	return r.walk("", []fs.FileInfo{info})
}

// walk reads a folder and those in it. trail are the folders that lead to it,
// itself included.
func (r *reader) walk(below string, trail []fs.FileInfo) error {
	entries, err := os.ReadDir(r.file(below))
	if err != nil {
		return err
	}
	for _, e := range entries {
		name := path.Join(below, e.Name())
		if strings.HasPrefix(e.Name(), ".") {
			continue
		}
		info, err := os.Stat(r.file(name)) // follows links
		switch {
		case errors.Is(err, fs.ErrNotExist) && e.Type()&fs.ModeSymlink == 0:
			continue // removed meanwhile
		case err != nil:
			r.fault(name, "%v", err)
		case info.IsDir():
			err = r.folder(name, info, trail)
		case isPolicyName(name):
			r.take(name, info)
		}
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	return nil
}

func (r *reader) file(name string) string { return filepath.Join(r.dir, filepath.FromSlash(name)) }

func (r *reader) fault(name, format string, args ...any) {
	r.faults = append(r.faults, fault(r.file(name), format, args...))
}

// folder walks a folder, unless that would never end.
func (r *reader) folder(name string, info fs.FileInfo, trail []fs.FileInfo) error {
	switch r.folders++; {
	case slices.ContainsFunc(trail, func(above fs.FileInfo) bool { return os.SameFile(above, info) }):
		r.fault(name, "a link that leads back to a folder which it is in: remove it")
	case len(trail) > maxDepth:
		r.fault(name, "folders in folders are read to a depth of %d: move it up", maxDepth)
	case r.folders == maxFolders+1:
		r.fault(name, "more than %d folders: what is no policy does not belong here, nor do links to it", maxFolders)
	case r.folders <= maxFolders:
		return r.walk(name, append(trail, info))
	}
	return nil
}

func isPolicyName(name string) bool {
	ext := strings.ToLower(path.Ext(name))
	return ext == ".yaml" || ext == ".yml"
}

func (r *reader) take(name string, info fs.FileInfo) {
	file := r.file(name)
	if !info.Mode().IsRegular() {
		r.fault(name, "want a file, got %s", info.Mode().Type())
		return
	}
	text, err := readFile(file)
	if err != nil {
		r.fault(name, "%v", err)
		return
	}
	if IsSuite(name) {
		if looksLikePolicy(file, text) {
			r.fault(name, "a name that ends in %s is that of tests, which bind nobody, and this is a policy: rename it", suiteEnding)
		}
		return
	}
	r.sources = append(r.sources, Source{Name: name, Text: text})
}

// looksLikePolicy tells a policy from tests.
func looksLikePolicy(file, text string) bool {
	doc, err := strictyaml.Parse(file, []byte(text))
	return err == nil && fieldsOf(doc.Root)["rules"] != nil
}

// readFile reads a file of at most maxFile bytes.
func readFile(file string) (string, error) {
	f, err := os.Open(file)
	if err != nil {
		return "", err
	}
	defer f.Close()
	var buf bytes.Buffer
	n, err := io.Copy(&buf, io.LimitReader(f, maxFile+1))
	if err != nil {
		return "", err
	}
	if n > maxFile {
		return "", fmt.Errorf("the file is larger than %d bytes; split it", maxFile)
	}
	return buf.String(), nil
}
