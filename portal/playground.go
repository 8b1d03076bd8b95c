package portal

import (
	"net/http"
	"slices"

	"github.com/openleash/openleash-go/configs"
	"github.com/openleash/openleash-go/identity"
	"github.com/openleash/openleash-go/policy"
)

type playgroundPage struct {
	page
	Scenarios []*policy.Scenario
	InForce   bool // there are policies of one's own to decide with
	Own       bool // they decide
	Story     *policy.Scenario
	Steps     []told
}

// told is a step of the story as the page shows it.
type told struct {
	policy.StepResult
	Level  string // the colour of the decision
	Limits []overLimit
	Told   string // what it was written to show; empty: the same
}

// playground tells a scenario, with the policies that it was written for or with
// those in force. Nothing is recorded.
func (p *portal) playground(w http.ResponseWriter, r *http.Request, s identity.Session) error {
	base, err := p.page(r, s, "Playground", "playground")
	if err != nil {
		return err
	}
	var own *policy.Book
	if p.Policies != nil {
		own = p.Policies.Current()
	}
	data := playgroundPage{page: base, InForce: own != nil, Own: own != nil && r.FormValue("policies") == "own"}
	if data.Scenarios, err = policy.Scenarios(configs.FS); err != nil {
		return err
	}
	if id := r.FormValue("scenario"); id != "" {
		if err := data.tell(id, own); err != nil {
			return err
		}
	}
	return p.render(w, http.StatusOK, "playground.html", data)
}

func (d *playgroundPage) tell(id string, own *policy.Book) error {
	i := slices.IndexFunc(d.Scenarios, func(s *policy.Scenario) bool { return s.ID == id })
	if i < 0 {
		return &pageError{status: http.StatusNotFound, Title: "No such scenario", Text: "No scenario has this name.", Hint: "openleash playground list", Retry: "/"}
	}
	d.Story = d.Scenarios[i]
	book := d.Story.Book
	if d.Own {
		book = own
	}
	for _, r := range d.Story.Run(book) {
		d.Steps = append(d.Steps, toldOf(r))
	}
	return nil
}

func toldOf(r policy.StepResult) told {
	t := told{StepResult: r, Level: "wait"}
	switch r.Decision.Outcome {
	case policy.Allow:
		t.Level = "good"
	case policy.Deny:
		t.Level = "bad"
	}
	if r.Want != r.Decision.Outcome.String() {
		t.Told = r.Want
	}
	for _, l := range r.Moved() {
		t.Limits = append(t.Limits, overLimit{
			Limit: l.Limit.ID, Window: l.Limit.Window(), For: l.Limit.Whose(l.Key),
			Max: l.Limit.Text(l.Limit.Max), Taken: l.Limit.Text(l.State.Used + l.State.Held),
		})
	}
	return t
}
