package proxy

import (
	"fmt"
	"io/fs"
	"path"
	"slices"
	"strings"

	"gopkg.in/yaml.v3"

	"github.com/openleash/openleash-go/configs"
	"github.com/openleash/openleash-go/internal/strictyaml"
)

// A Profile is what we know of a server that many people use: which tools only
// read, which destroy, and how its calls are mapped. In YAML:
//
//	profile: filesystem
//	match:                       # by how the server is started; one is enough
//	  npm: ["@modelcontextprotocol/server-filesystem"]   # npx, bunx, node_modules
//	  pypi: [mcp-server-git]                             # uvx, pipx, python -m
//	  image: [mcp/filesystem]                            # docker, podman
//	  program: [mcp-server-filesystem]                   # a file that is run, by its name
//	  url: ["https://api.example.com/mcp*"]              # a glob
//	reads: [read_file, list_directory]
//	destroys: [write_file]       # deletes, overwrites, spends or sends
//	mapping: []                  # rules, as in the config
//
// A tool in neither list is unknown, which is not reading. What a server says of
// itself plays no part: its name and its annotations could say anything.
type Profile struct {
	Name            string
	reads, destroys map[string]bool
	rules           []Rule
	match           map[origin][]string // for program, words: "openleash sample-server"
	urls            []glob
}

// ParseProfile reads a profile. file names it in messages.
func ParseProfile(file string, src []byte) (*Profile, error) {
	d, err := strictyaml.Parse(file, src)
	if err != nil {
		return nil, err
	}
	fields := d.Fields(d.Root, "profile", "profile", "match", "reads", "destroys", "mapping")
	p := &Profile{
		reads:    parseTools(d, fields["reads"], "reads"),
		destroys: parseTools(d, fields["destroys"], "destroys"),
		rules:    ParseMapping(d, fields["mapping"]),
	}
	if p.Name, _ = d.String(fields["profile"], "profile"); p.Name == "" {
		d.Errorf(d.Root, "profile: want a name, like profile: filesystem")
	}
	p.parseMatch(d, fields["match"])
	for tool := range p.reads {
		if p.destroys[tool] {
			d.Errorf(fields["reads"], "reads: %q is in destroys too; keep it in one of them", tool)
		}
	}
	if err := d.Err(); err != nil {
		return nil, err
	}
	return p, nil
}

func parseTools(d *strictyaml.Doc, n *yaml.Node, what string) map[string]bool {
	tools, ok := d.Strings(n, what)
	if ok && len(tools) == 0 {
		d.Errorf(n, "%s: want at least one tool, or no %s at all", what, what)
	}
	set := make(map[string]bool, len(tools))
	for _, tool := range tools {
		if set[tool] {
			d.Errorf(n, "%s: %q is there twice", what, tool)
		}
		set[tool] = true
	}
	return set
}

func (p *Profile) parseMatch(d *strictyaml.Doc, n *yaml.Node) {
	if n == nil {
		d.Errorf(d.Root, "profile: want match, which says how the server is started")
		return
	}
	fields := d.Fields(n, "match", "npm", "pypi", "image", "program", "url")
	if fields != nil && len(fields) == 0 {
		d.Errorf(n, "match: want at least one of npm, pypi, image, program and url")
	}
	p.match = make(map[origin][]string)
	for _, from := range []origin{fromNPM, fromPyPI, fromImage, fromDisk} {
		p.match[from], _ = d.Strings(fields[string(from)], "match."+string(from))
	}
	urls, _ := d.Strings(fields["url"], "match.url")
	for _, url := range urls {
		p.urls = append(p.urls, newGlob(url))
	}
}

// Fits reports whether a server that is started by this command, or reached at
// this URL, is the one that the profile describes.
func (p *Profile) Fits(command []string, url string) bool {
	if url != "" && slices.ContainsFunc(p.urls, func(g glob) bool { return g.match(url) }) {
		return true
	}
	started := readLaunch(command)
	return slices.ContainsFunc(p.match[started.from], started.is)
}

// ShippedProfiles returns the profiles that come with the program.
func ShippedProfiles() ([]*Profile, error) {
	files, err := fs.Glob(configs.FS, "profiles/*.yaml")
	if err != nil {
		return nil, fmt.Errorf("listing shipped profiles: %w", err)
	}
	var profiles []*Profile
	for _, file := range files {
		src, err := configs.FS.ReadFile(file)
		if err != nil {
			return nil, fmt.Errorf("reading a shipped profile: %w", err)
		}
		p, err := ParseProfile(file, src)
		if err != nil {
			return nil, err
		}
		if name := strings.TrimSuffix(path.Base(file), ".yaml"); p.Name != name {
			return nil, fmt.Errorf("%s: want profile: %s, got %s", file, name, p.Name)
		}
		profiles = append(profiles, p)
	}
	return profiles, nil
}
