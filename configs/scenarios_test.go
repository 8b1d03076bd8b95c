package configs_test

import (
	"io/fs"
	"slices"
	"testing"

	"github.com/openleash/openleash-go/configs"
	"github.com/openleash/openleash-go/policy"
)

// Every scenario is told as it comes, with policies without a warning.
func TestScenariosComeAsTold(t *testing.T) {
	list, err := policy.Scenarios(configs.FS)
	if err != nil {
		t.Fatal(err)
	}
	if len(list) < 13 {
		t.Errorf("only %d scenarios", len(list))
	}
	for _, s := range list {
		t.Run(s.ID, func(t *testing.T) {
			for _, w := range s.Book.Warnings() {
				t.Errorf("warning: %v", w)
			}
			if len(s.ID) > 20 || len(s.Title) > 50 {
				t.Error("id or title do not fit a line")
			}
			for _, r := range s.Run(s.Book) {
				for _, fault := range r.Faults {
					t.Errorf("line %d: %s: %s (%s)", r.Line, r.Does, fault, r.Decision.Shown)
				}
			}
		})
	}
}

// The use cases are told with the policies that people start from, and between
// them the stories show all that can come of an action.
func TestScenariosShowAll(t *testing.T) {
	list, err := policy.Scenarios(configs.FS)
	if err != nil {
		t.Fatal(err)
	}
	told, came := map[string]bool{}, map[policy.Came]bool{}
	for _, s := range list {
		for _, name := range s.Told {
			told[name] = true
		}
		for _, r := range s.Run(s.Book) {
			came[r.Came] = true
		}
	}
	for _, name := range []string{"purchases", "appointments", "government", "communication", "sales", "demo"} {
		if !told[name] {
			t.Errorf("no scenario is told with %s", name)
		}
	}
	for _, c := range []policy.Came{policy.Refused, policy.Ran, policy.Failed, policy.Waits, policy.Approved, policy.Denied} {
		if !came[c] {
			t.Errorf("no step of a scenario is %s", c)
		}
	}
}

// Nobody is told of a policy that is neither in a story nor tested.
func TestEveryTemplateIsToldOrTested(t *testing.T) {
	list, err := policy.Scenarios(configs.FS)
	if err != nil {
		t.Fatal(err)
	}
	names, err := fs.Glob(configs.FS, "policies/*.yaml")
	if err != nil || len(names) == 0 {
		t.Fatalf("no policies: %v", err)
	}
	for _, file := range names {
		name := file[len("policies/") : len(file)-len(".yaml")]
		tested := slices.Contains(names, "policies/"+name+"_test.yaml")
		told := slices.ContainsFunc(list, func(s *policy.Scenario) bool { return slices.Contains(s.Told, name) })
		if !policy.IsSuite(file) && !tested && !told {
			t.Errorf("%s has no suite, and no scenario is told with it", file)
		}
	}
}
