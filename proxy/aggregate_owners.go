package proxy

import (
	"bytes"
	"fmt"
	"strings"

	"github.com/yosida95/uritemplate/v3"

	"github.com/openleash/openleash-go/action"
)

// owners are the servers of an Aggregate by what they have given out: a URI, the
// id of a task. What two have given out is nobody's (nil).
type owners map[string]*branch

func (o owners) add(key string, b *branch) {
	by, known := o[key]
	switch {
	case known && by != b:
		o[key] = nil
	case !known && len(o) < maxOwners:
		o[key] = b
	}
}

// resources tell whose a resource is.
type resources struct {
	byURI      owners
	byTemplate owners // the text of a template
	templates  map[string]*uritemplate.Template
	asked      bool // the servers, for their lists
}

func newResources() resources {
	return resources{byURI: owners{}, byTemplate: owners{}, templates: map[string]*uritemplate.Template{}}
}

const (
	// maxTemplates bounds what a URI is matched against, maxMatched the URI and the
	// template.
	maxTemplates = 1000
	maxMatched   = 4 << 10
)

func (r *resources) compile(text string) {
	if len(text) > maxMatched || len(r.templates) >= maxTemplates || r.templates[text] != nil {
		return
	}
	if t, err := uritemplate.New(text); err == nil {
		r.templates[text] = t
	}
}

// note remembers whose a listed item is.
func (g *gathering) note(b *branch, kind listKind, item action.Value) {
	g.mu.Lock()
	defer g.mu.Unlock()
	switch kind.member {
	case "resources":
		g.resources.byURI.add(item.Get("uri").Text(), b)
	case "tasks":
		g.tasks.add(item.Get("taskId").Text(), b)
	case "resourceTemplates":
		text := item.Get("uriTemplate").Text()
		g.resources.byTemplate.add(text, b)
		g.resources.compile(text)
	}
}

// learn notes what an answer of a server gives out: links to resources, a task.
func (g *gathering) learn(b *branch, m Message) {
	if !bytes.Contains(m.Raw, []byte(`"resource_link"`)) && !bytes.Contains(m.Raw, []byte(`"task"`)) {
		return // nearly all
	}
	root, err := action.Parse(m.Raw, anyMessage(m.Raw))
	if err != nil {
		return
	}
	result := root.Get("result")
	g.mu.Lock()
	defer g.mu.Unlock()
	if id := result.Get("task").Get("taskId"); id.Kind() == action.String {
		g.tasks.add(id.Text(), b)
	}
	for _, c := range result.Get("content").Items() {
		if c.Get("type").Text() == "resource_link" {
			g.resources.byURI.add(c.Get("uri").Text(), b)
		}
	}
}

// byName takes a request to the server that the name at path begins with.
func (g *gathering) byName(m Message, path ...string) {
	at, ok := find(m.Raw, path...)
	name, _ := stringAt(m.Raw, path...)
	b, inner := g.named(name)
	if !ok || b == nil {
		g.refuse(m, codeInvalidParams, fmt.Sprintf("%s: want a name that begins with its server's (%s), got %q", strings.Join(path, "."), g.prefixes(), name))
		return
	}
	g.pass(m, b, edit{at, string(quote(inner))})
}

// prefixes are those of all servers, for a message.
func (g *gathering) prefixes() string {
	var all []string
	for _, b := range g.branches {
		all = append(all, b.prefix())
	}
	return strings.Join(all, ", ")
}

// byReference takes a completion/complete to the server of what it is about.
func (g *gathering) byReference(m Message) {
	switch kind, _ := stringAt(m.Raw, "params", "ref", "type"); kind {
	case "ref/prompt":
		g.byName(m, "params", "ref", "name")
	case "ref/resource":
		g.byURI(m)
	default:
		g.refuse(m, codeInvalidParams, fmt.Sprintf("params.ref.type: want ref/prompt or ref/resource, got %q", kind))
	}
}

func (g *gathering) byTask(m Message) {
	id, _ := stringAt(m.Raw, "params", "taskId")
	g.mu.Lock()
	b := g.tasks[id]
	g.mu.Unlock()
	if b == nil {
		g.refuse(m, codeInvalidParams, fmt.Sprintf("params.taskId: no task %q is known of one server here", id))
		return
	}
	g.pass(m, b)
}

// byURI takes a request about a resource to its server. Servers that nobody has
// asked what they have are asked first.
func (g *gathering) byURI(m Message) {
	uri, ok := stringAt(m.Raw, "params", "uri")
	if !ok {
		uri, ok = stringAt(m.Raw, "params", "ref", "uri")
	}
	if !ok {
		g.refuse(m, codeInvalidParams, "params.uri: want the URI of a resource")
		return
	}
	if b, err := g.owner(uri); err == nil {
		g.pass(m, b)
		return
	}
	g.beside(func() {
		g.askResources()
		b, err := g.owner(uri)
		if err != nil {
			g.refuse(m, codeInvalidParams, err.Error())
			return
		}
		g.pass(m, b)
	})
}

func (g *gathering) askResources() {
	g.mu.Lock()
	asked := g.resources.asked
	g.resources.asked = true
	g.mu.Unlock()
	if !asked {
		for _, method := range []string{"resources/list", "resources/templates/list"} {
			g.collect(method, lists[method])
		}
	}
}

// owner finds whose a resource is: of the one that has given it out; else of the
// one with a template for it; else of the only one that has resources at all.
func (g *gathering) owner(uri string) (*branch, error) {
	able := g.present("resources")
	g.mu.Lock()
	defer g.mu.Unlock()
	r := &g.resources
	if b, known := r.byURI[uri]; known {
		return oneOf(uri, b)
	}
	if b, known := r.byTemplate[uri]; known {
		return oneOf(uri, b)
	}
	fits := map[*branch]bool{}
	for text, t := range r.templates {
		if len(uri) <= maxMatched && t.Match(uri) != nil {
			fits[r.byTemplate[text]] = true
		}
	}
	switch {
	case len(fits) == 1:
		for b := range fits {
			return oneOf(uri, b)
		}
	case len(fits) > 1:
		return oneOf(uri, nil)
	case len(able) == 1:
		return able[0], nil
	}
	return nil, fmt.Errorf("params.uri: no server at this address lists %q; read it at its server's own address", uri)
}

func oneOf(uri string, b *branch) (*branch, error) {
	if b == nil {
		return nil, fmt.Errorf("params.uri: several servers at this address have %q; read it at the one's own address", uri)
	}
	return b, nil
}
