package portal

import (
	"fmt"
	"net/http"
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
	For  string // whom it binds
	Rank string // empty: the one of a policy that names none
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
		p := book.Policy(src.Name)
		f := policyFile{Source: src, For: p.Scope.String()}
		if p.Scope.Layer == policy.GroupLayer {
			f.For += members(book.Groups()[p.Scope.Name])
		}
		if p.Rank != policy.DefaultRank {
			f.Rank = fmt.Sprintf("rank %d", p.Rank)
		}
		list = append(list, f)
	}
	return list
}

// members are a group's agents, behind its name.
func members(agents []string) string {
	if len(agents) == 0 {
		return ", in which is nobody"
	}
	return ": " + strings.Join(agents, ", ")
}
