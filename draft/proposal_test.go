package draft

import (
	"errors"
	"os"
	"path/filepath"
	"regexp"
	"runtime"
	"strings"
	"testing"

	"github.com/openleash/openleash-go/policy"
)

const buying = "version: 1\ndefault: passthrough\nrules:\n  - {id: buy, effect: allow, action: purchase}\n"

// proposed is a policy that bot proposes for itself.
func proposed(name, text string) Proposal {
	return Proposal{ID: "d24187b9-ad60-4f91-9713-8589543b8079", Agent: "bot", TargetID: "id of bot", Target: "bot", Name: name, Policy: text, Status: Pending}
}

// Whatever the agent calls it, the file is one of its own folder, and an ordinary one.
func TestPlace(t *testing.T) {
	for name, want := range map[string]string{
		"": "draft-d24187b9", "Shopping, daily": "shopping-daily", "../../x": "x", "agents/other/x": "agents-other-x", `..\..\x`: "x", "..": "draft-d24187b9",
		"x\x00.yaml": "x-yaml", "a\nb": "a-b", "/etc/passwd": "etc-passwd", ".hidden": "hidden", "x_test": "x-test", "Ä Ö": "draft-d24187b9", "\u202exyz": "xyz", "CON": "draft-d24187b9", "lpt1": "draft-d24187b9",
		strings.Repeat("long ", 20): "long-long-long-long-long-long-long-long", "-": "draft-d24187b9", "~": "draft-d24187b9", "C:x": "c-x", "${HOME}": "home",
	} {
		p := proposed(name, buying)
		if got := p.Place(); got != "agents/bot/"+want {
			t.Errorf("%q would be %s, want %s", name, got, want)
		}
		if p.TargetID, p.Target = "", ""; p.Place() != want {
			t.Errorf("%q for all would be %s, want %s", name, p.Place(), want)
		}
	}
}

func FuzzPlace(f *testing.F) {
	f.Add("../../x")
	f.Add("agents/other/x\u202e\x00")
	form := regexp.MustCompile(`^agents/bot/[a-z0-9]([a-z0-9-]{0,38}[a-z0-9])?$`)
	f.Fuzz(func(t *testing.T, name string) {
		if got := proposed(name, buying).Place(); !form.MatchString(got) || policy.IsSuite(got+".yaml") {
			t.Errorf("%q would be %s", name, got)
		}
	})
}

func TestReview(t *testing.T) {
	const (
		never   = "  - {id: never, effect: allow, action: purchase}\n"
		denying = "version: 1\ndefault: passthrough\nrules:\n  - {id: d, effect: deny, action: purchase}\n"
	)
	in := func(sources ...policy.Source) *policy.Book {
		b, err := policy.NewBook("", append(sources, policy.Source{Name: "owner.yaml", Text: "version: 1\ndefault: deny\nrules:\n  - {id: no-buy, effect: deny, action: purchase}\n"}), nil)
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	own := policy.Source{Name: "agents/bot/own.yaml", Text: strings.Replace(buying, "purchase", "sale", 1)}
	for name, tt := range map[string]struct {
		book  *policy.Book
		p     Proposal
		base  string
		fault string
		warns string
		over  int
	}{
		"new":                {in(), proposed("x", buying), "", "", "", 1},
		"like one":           {in(own), proposed("x", buying), "agents/bot/own.yaml", "", "", 1},
		"like none":          {in(policy.Source{Name: "agents/other/own.yaml", Text: own.Text}), proposed("x", buying), "", "", "", 1},
		"of its name":        {in(own), proposed("own", buying), "agents/bot/own.yaml", "agents/bot/own.yaml is in force already", "", 0},
		"of its name, .yml":  {in(policy.Source{Name: "agents/bot/own.yml", Text: "version: 1\ndefault: deny\nrules: []\n"}), proposed("own", buying), "agents/bot/own.yml", "agents/bot/own.yml is in force already", "", 0},
		"hides":              {in(), proposed("x", buying+"log: [{action: '*', arguments: hash}]\n"), "", "", "it keeps values out of the log", 1},
		"not meant":          {in(), proposed("x", buying+never), "", "", `rule "never" can never decide`, 1},
		"not meant, as one":  {in(policy.Source{Name: "agents/bot/z.yaml", Text: buying + never}), proposed("x", buying+never), "agents/bot/z.yaml", "", `rule "never" can never decide`, 1},
		"comes after an own": {in(policy.Source{Name: "agents/bot/z.yaml", Text: buying}), Proposal{Name: "x", Status: Pending, Policy: denying}, "owner.yaml", "", `agents/bot/z.yaml:4:10: rule "buy" comes before rule "d" of policy "x"`, 0},
		"invalid":            {in(), proposed("x", "version: 2\n"), "", "agents/bot/x.yaml:1:", "", 0},
		"for another":        {in(), proposed("x", "applies_to: {agent: other}\n"+buying), "", "applies_to says agent other", "", 0},
		"no policy in force": {nil, proposed("x", buying), "", "no valid policy is in force", "", 0},
	} {
		r := tt.p.Review(tt.book)
		switch warnings := strings.Join(r.Warnings, "\n"); {
		case r.Base != tt.base, len(r.Overrides) != tt.over, len(r.Changes) == 0, (r.With == nil) != (tt.fault != ""):
			t.Errorf("%s: %+v", name, r)
		case (r.Fault == nil) != (tt.fault == "") || r.Fault != nil && !strings.Contains(r.Fault.Error(), tt.fault):
			t.Errorf("%s: fault %v", name, r.Fault)
		case (warnings == "") != (tt.warns == "") || !strings.Contains(warnings, tt.warns):
			t.Errorf("%s: warnings %q", name, warnings)
		}
		if _, err := tt.p.Approvable(inForce{tt.book, nil}, hashOf(tt.book)); (err == nil) != (tt.fault == "") {
			t.Errorf("%s: approvable: %v", name, err)
		}
	}
	book, p := in(), proposed("x", buying)
	if _, err := p.Approvable(inForce{book, nil}, "sha256:other"); !errors.Is(err, ErrOtherSet) {
		t.Errorf("beside other policies: %v", err)
	}
	if _, err := p.Approvable(inForce{book, errors.New("broken")}, book.Hash); err == nil {
		t.Error("approvable beside broken files")
	}
	p.Status = Denied
	if _, err := p.Approvable(inForce{book, nil}, book.Hash); !errors.Is(err, ErrAnswered) {
		t.Errorf("denied already: %v", err)
	}
}

type inForce struct {
	book *policy.Book
	err  error
}

func (f inForce) Current() *policy.Book { return f.book }
func (f inForce) Err() error            { return f.err }

func hashOf(b *policy.Book) string {
	if b == nil {
		return ""
	}
	return b.Hash
}

// The file is there when it is put, whole and for its owner alone; nothing is replaced,
// and nothing is left behind.
func TestPrepare(t *testing.T) {
	dir := t.TempDir()
	p := proposed("x", buying)
	file := filepath.Join(dir, "agents", "bot", "x.yaml")
	names := func() string {
		entries, _ := os.ReadDir(filepath.Dir(file))
		var list []string
		for _, e := range entries {
			list = append(list, e.Name())
		}
		return strings.Join(list, " ")
	}
	dropped, err := p.Prepare(dir)
	if err != nil {
		t.Fatal(err)
	}
	if book, err := policy.Load(dir, nil); err != nil || len(book.Sources()) != 0 {
		t.Errorf("in force before it was put: %v, %v", book, err)
	}
	dropped.Drop()
	if names() != "" {
		t.Errorf("left behind: %s", names())
	}
	late, err := p.Prepare(dir)
	if err != nil {
		t.Fatal(err)
	}
	made, err := p.Prepare(dir)
	if err != nil {
		t.Fatal(err)
	}
	if err := made.Put(); err != nil || made.File != file {
		t.Fatal(err, made.File)
	}
	made.Drop()
	info, err := os.Stat(file)
	if err != nil || runtime.GOOS != "windows" && info.Mode().Perm() != 0o600 {
		t.Errorf("%v, %v", info, err)
	}
	if err := late.Put(); err == nil || !strings.Contains(err.Error(), "openleash policy drafts show "+p.ID+" --policy") {
		t.Errorf("put twice: %v", err)
	}
	p.Policy = "replaced"
	if _, err := p.Prepare(dir); err == nil || !strings.Contains(err.Error(), "is there already: a draft replaces nothing") {
		t.Errorf("again: %v", err)
	}
	text, err := os.ReadFile(file)
	if err != nil || string(text) != buying || names() != "x.yaml" {
		t.Errorf("%s, %v, %s", text, err, names())
	}
	// A folder that has another name: another agent's, where Bot is bot.
	other := filepath.Join(dir, "agents", "Bot")
	if os.Mkdir(other, 0o700) != nil || os.Remove(filepath.Join(dir, "agents", "Bot")) != nil {
		p.Target, p.Name = "Bot", "y"
		if _, err := p.Prepare(dir); err == nil {
			t.Error("written into the folder of another agent")
		}
	}
}
