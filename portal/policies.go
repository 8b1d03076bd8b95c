package portal

import (
	"net/http"
	"path"
	"strings"

	"github.com/openleash/openleash-go/identity"
	"github.com/openleash/openleash-go/policy"
)

type policiesPage struct {
	page
	Hash  string // of the book in force; empty: there is none
	Files []policyFile
	Fault string // why the folder's present content is not in force
	// Warnings are about what is in force and probably not meant.
	Warnings []string
}

type policyFile struct {
	policy.Source
	For string // whom it binds
}

func (p *portal) policies(w http.ResponseWriter, r *http.Request, s identity.Session) error {
	base, err := p.page(r, s, "Policies", "policies")
	if err != nil {
		return err
	}
	data := policiesPage{page: base}
	if p.Policies != nil {
		if err := p.Policies.Err(); err != nil {
			data.Fault = err.Error()
		}
		if book := p.Policies.Current(); book != nil {
			data.Hash, data.Files = book.Hash, policyFiles(book)
			for _, w := range book.Warnings() {
				data.Warnings = append(data.Warnings, w.Error())
			}
		}
	}
	return p.render(w, http.StatusOK, "policies.html", data)
}

func policyFiles(book *policy.Book) []policyFile {
	var list []policyFile
	for _, src := range book.Sources() {
		f := policyFile{Source: src, For: "every agent"}
		if dir := path.Dir(src.Name); dir != "." {
			f.For = "agent " + strings.TrimPrefix(dir, "agents/")
		}
		list = append(list, f)
	}
	return list
}
