package main

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"gopkg.in/yaml.v3"

	"github.com/openleash/openleash-go/action"
	"github.com/openleash/openleash-go/authz"
	"github.com/openleash/openleash-go/identity"
	"github.com/openleash/openleash-go/internal/home"
	"github.com/openleash/openleash-go/internal/oauth"
	"github.com/openleash/openleash-go/internal/strictyaml"
	"github.com/openleash/openleash-go/passkey"
	"github.com/openleash/openleash-go/policy"
	"github.com/openleash/openleash-go/proxy"
)

// Config is $OPENLEASH_HOME/config.yaml. All of it is optional. `openleash
// init` writes one with comments.
type Config struct {
	Hash string // of the file, for the log; empty: there is none

	// Listen is where portal, API and MCP over HTTP are served. Default
	// 127.0.0.1:8787. An address that is not loopback is refused.
	Listen string
	// Origins (origins) are further addresses at which browsers reach these pages, behind
	// a proxy of yours that has TLS, say: https://leash.example.com. Passkeys work there
	// too. Default: none.
	Origins []string
	// Hold is how long a held call waits for the owner before its host is told how
	// to come back. Default 50s: hosts give up after 60.
	Hold time.Duration
	// AgentHold (agents: NAME: {hold: …}) is the same for the hosts of some agents. It
	// goes before that of a server.
	AgentHold map[string]time.Duration
	// Policies is the folder of the policy files. Default: policies, beside
	// the configuration.
	Policies string
	// HideDenied (list: hide_denied) leaves out of tools/list what the policy
	// denies an agent whatever the arguments, and what the owner has refused. Default:
	// list: all.
	HideDenied bool
	// Pins (tools: {changed: …}) says what becomes of calls by a definition that the
	// owner has not accepted: hold, deny or allow. Default: hold.
	Pins authz.PinMode
	// MessageBytes is the largest message taken from a host. Default 16 MiB.
	MessageBytes int
	// Children is how many servers' processes may run at once. Default 64.
	Children int
	// OpenPerAgent (approvals: open_per_agent) is how many requests of one agent may
	// wait for their owner. Default 50.
	OpenPerAgent int
	// Receipts (receipts) puts a signed receipt of the outcome into each result of a
	// governed call. Default: false.
	Receipts bool
	// Log (log) is how the audit log is kept.
	Log LogConfig
	// Servers are the upstream MCP servers (mcpServers), by name.
	Servers map[string]Server
	// Groups are the agents of each group that policies may be for. Default: none.
	Groups policy.Groups
	// Mapping turns tool calls into actions; first match wins.
	Mapping []proxy.Rule
}

// Server is one upstream, in the form that hosts use.
type Server struct {
	Name    string
	Command string            // a program, started by us and spoken to over stdio …
	Args    []string          //
	Env     map[string]string // its variables; ${NAME} is taken from our environment (expand)
	Cwd     string
	AtStart bool              // started with `openleash start`, not for the first session
	Idle    time.Duration     // ended after so long without a request, until the next; 0: never
	RunAs   string            // a user of the system, whom it runs as; empty: whom we run as
	URL     string            // … or an endpoint over HTTP
	SSE     bool              // which speaks the transport before Streamable HTTP
	Headers map[string]string // sent to it; ${NAME} is taken from our environment
	OAuth   OAuth             // what a login there takes and cannot be found out
	Profile string            // a shipped profile; empty: found by command or URL
	Hold    time.Duration     // how long a held call waits; 0: as the configuration says for all
	Pins    authz.PinMode     // empty: the configuration's

	environ []string // of a wrapped command: the whole environment, instead of Env
}

// OAuth is who we are to the authorization server of a server, where that one
// registers nobody by itself, and what we ask it for.
type OAuth struct {
	ClientID     string
	ClientSecret string // ${NAME}, never the secret itself
	Scopes       []string
}

const (
	defaultListen       = "127.0.0.1:8787"
	defaultMessageBytes = 16 << 20
	defaultChildren     = 64
	// maxMembers is of all groups together: they must fit into the log's entry about
	// the start.
	maxMembers = 10_000
)

// loadConfig reads the configuration; a missing file is an empty one.
func loadConfig(h home.Home) (*Config, error) {
	c := &Config{Listen: defaultListen, Hold: proxy.DefaultHold, Policies: h.Policies(), MessageBytes: defaultMessageBytes, Children: defaultChildren, OpenPerAgent: authz.DefaultOpenPerAgent, Log: defaultLog(), Servers: map[string]Server{}, Groups: policy.Groups{}, AgentHold: map[string]time.Duration{}}
	src, err := os.ReadFile(h.Config())
	if errors.Is(err, os.ErrNotExist) {
		return c, nil
	}
	if err != nil {
		return nil, fmt.Errorf("reading the configuration: %w", err)
	}
	c.Hash = fmt.Sprintf("sha256:%x", sha256.Sum256(src))
	if len(strings.TrimSpace(withoutComments(string(src)))) == 0 {
		return c, nil
	}
	d, err := strictyaml.Parse(h.Config(), src)
	if err != nil {
		return nil, err
	}
	c.read(d, h)
	return c, d.Err()
}

var comment = regexp.MustCompile(`(?m)^\s*#.*$`)

func withoutComments(s string) string { return comment.ReplaceAllString(s, "") }

func (c *Config) read(d *strictyaml.Doc, h home.Home) {
	f := d.Fields(d.Root, "the configuration", "listen", "origins", "hold", "policies", "groups", "agents", "list", "tools", "limits", "approvals", "receipts", "log", "mcpServers", "mapping")
	if s, ok := d.String(f["listen"], "listen"); ok {
		c.Listen = s
		if err := loopback(s); err != nil {
			d.Errorf(f["listen"], "listen: %v", err)
		}
	}
	c.readOrigins(d, f["origins"])
	if hold := readHold(d, f["hold"]); hold != 0 {
		c.Hold = hold
	}
	if s, ok := d.String(f["policies"], "policies"); ok {
		c.Policies = s
		if !filepath.IsAbs(s) {
			c.Policies = filepath.Join(h.Dir, s)
		}
	}
	if n := f["groups"]; n != nil && n.Tag != "!!null" { // null: all of them are comments
		c.readGroups(d, n)
	}
	if n := f["agents"]; n != nil && n.Tag != "!!null" { // null: all of them are comments
		c.readAgents(d, n)
	}
	if s, ok := d.OneOf(f["list"], "list", "all", "hide_denied"); ok {
		c.HideDenied = s == "hide_denied"
	}
	c.Pins = readPins(d, f["tools"])
	if n := f["limits"]; n != nil {
		lf := d.Fields(n, "limits", "message_bytes", "children")
		if i, ok := d.Int(lf["message_bytes"], "message_bytes"); ok {
			c.MessageBytes = int(i)
			if i < 64<<10 || i > 256<<20 {
				d.Errorf(lf["message_bytes"], "message_bytes: want 65536 to 268435456, got %d", i)
			}
		}
		if i, ok := d.Int(lf["children"], "children"); ok {
			c.Children = int(i)
			if i < 1 || i > 10_000 {
				d.Errorf(lf["children"], "children: want 1 to 10000, got %d", i)
			}
		}
	}
	if n := f["approvals"]; n != nil {
		af := d.Fields(n, "approvals", "open_per_agent")
		if i, ok := d.Int(af["open_per_agent"], "open_per_agent"); ok {
			c.OpenPerAgent = int(i)
			if i < 1 || i > 10_000 {
				d.Errorf(af["open_per_agent"], "open_per_agent: want 1 to 10000, got %d", i)
			}
		}
	}
	c.Receipts, _ = d.Bool(f["receipts"], "receipts")
	c.Log.read(d, f["log"], h)
	if n := f["mcpServers"]; n != nil && n.Tag != "!!null" { // null: all of them are comments
		c.readServers(d, n)
	}
	if n := f["mapping"]; n != nil {
		c.Mapping = proxy.ParseMapping(d, n)
	}
}

// maxOrigins bounds what every request is compared with.
const maxOrigins = 20

func (c *Config) readOrigins(d *strictyaml.Doc, n *yaml.Node) {
	list := d.List(n, "origins")
	if len(list) > maxOrigins {
		d.Errorf(n, "origins: want at most %d, got %d", maxOrigins, len(list))
		return
	}
	for _, item := range list {
		origin, ok := d.String(item, "origins")
		if !ok {
			continue
		}
		_, err := passkey.NewParties(origin)
		if err == nil && strings.ToLower(origin) != origin {
			err = errors.New("want it in lower case, as browsers write it")
		}
		if err != nil {
			d.Errorf(item, "origins: %v", err)
		}
		c.Origins = append(c.Origins, origin)
	}
}

// hosts are those of the origins, as browsers name them.
func (c *Config) hosts() (list []string) {
	for _, origin := range c.Origins {
		_, host, _ := strings.Cut(origin, "://")
		list = append(list, host)
	}
	return list
}

// readHold reads how long a held call waits; 0 when nothing is said.
func readHold(d *strictyaml.Doc, n *yaml.Node) time.Duration {
	s, ok := d.String(n, "hold")
	if !ok {
		return 0
	}
	hold, err := time.ParseDuration(s)
	if err != nil || checkHold(hold) != nil {
		d.Errorf(n, "hold: "+wantHold+", got %q", s)
	}
	return hold
}

const wantHold = "want a time from 1s to 1h, such as 50s"

func checkHold(hold time.Duration) error {
	if hold < time.Second || hold > time.Hour {
		return fmt.Errorf(wantHold+", got %s", hold)
	}
	return nil
}

// readAgents reads what is special about some agents.
func (c *Config) readAgents(d *strictyaml.Doc, n *yaml.Node) {
	for _, e := range d.Entries(n, "agents") {
		if !identity.ValidName(e.Key) {
			d.Errorf(e.KeyNode, "agents: %q: %s", e.Key, validNames)
		}
		f := d.Fields(e.Value, "agent "+e.Key, "hold")
		if hold := readHold(d, f["hold"]); hold != 0 {
			c.AgentHold[e.Key] = hold
		}
	}
	if len(c.AgentHold) > maxMembers {
		d.Errorf(n, "agents: want at most %d, got %d", maxMembers, len(c.AgentHold))
	}
}

// readPins reads tools: {changed: …}; empty when it is not there.
func readPins(d *strictyaml.Doc, n *yaml.Node) authz.PinMode {
	if n == nil || n.Tag == "!!null" { // null: all of it is comments
		return ""
	}
	mode, _ := d.OneOf(d.Fields(n, "tools", "changed")["changed"], "changed", string(authz.PinHold), string(authz.PinDeny), string(authz.PinAllow))
	return authz.PinMode(mode)
}

// readGroups reads who is in which group.
func (c *Config) readGroups(d *strictyaml.Doc, n *yaml.Node) {
	all := 0
	for _, e := range d.Entries(n, "groups") {
		if !identity.ValidName(e.Key) {
			d.Errorf(e.KeyNode, "groups: %q: %s", e.Key, validNames)
		}
		c.Groups[e.Key] = []string{}
		for _, item := range d.List(e.Value, "group "+e.Key) {
			agent, ok := d.String(item, "group "+e.Key)
			switch {
			case !ok:
				continue
			case !identity.ValidName(agent):
				d.Errorf(item, "group %s: agent %q: %s", e.Key, agent, validNames)
			case slices.Contains(c.Groups[e.Key], agent):
				d.Errorf(item, "group %s: agent %q stands there already", e.Key, agent)
			}
			c.Groups[e.Key] = append(c.Groups[e.Key], agent)
			all++
		}
	}
	if all > maxMembers {
		d.Errorf(n, "groups: want at most %d agents in all groups together, got %d", maxMembers, all)
	}
}

const validNames = "a name has letters, digits, dots, dashes and underscores, 64 at the most"

// loopback refuses an address that other machines can reach: agents' tokens
// would travel in the clear.
func loopback(addr string) error {
	host, port, err := net.SplitHostPort(addr)
	if err != nil {
		return fmt.Errorf("want an address and a port, such as %s, got %q", defaultListen, addr)
	}
	if n, err := strconv.Atoi(port); err != nil || n < 1 || n > 65535 {
		return fmt.Errorf("want a port from 1 to 65535, got %q", port)
	}
	if ip := net.ParseIP(host); host != "localhost" && (ip == nil || !ip.IsLoopback()) {
		return fmt.Errorf("want an address of this machine alone (127.0.0.1, ::1 or localhost), got %q: OpenLeash does not serve other machines yet", host)
	}
	return nil
}

func (c *Config) readServers(d *strictyaml.Doc, n *yaml.Node) {
	if n.Kind != yaml.MappingNode {
		d.Errorf(n, "mcpServers: want a mapping of names to servers")
		return
	}
	for i := 0; i+1 < len(n.Content); i += 2 {
		name := n.Content[i].Value
		if !identity.ValidName(name) {
			d.Errorf(n.Content[i], "mcpServers: %q: %s", name, validNames)
			continue
		}
		c.Servers[name] = readServer(d, name, n.Content[i+1])
	}
}

func readServer(d *strictyaml.Doc, name string, n *yaml.Node) Server {
	s := Server{Name: name}
	f := d.Fields(n, "server "+name, "command", "args", "env", "cwd", "start", "idle", "run_as", "url", "headers", "oauth", "type", "transport", "profile", "hold", "tools")
	s.Command, _ = d.String(f["command"], "command")
	s.Args, _ = d.Strings(f["args"], "args")
	s.Cwd, _ = d.String(f["cwd"], "cwd")
	readLife(d, &s, f)
	s.URL, _ = d.String(f["url"], "url")
	s.Profile, _ = d.String(f["profile"], "profile")
	s.Hold = readHold(d, f["hold"])
	s.Pins = readPins(d, f["tools"])
	s.Env = readVariables(d, f["env"], "env")
	s.Headers = readVariables(d, f["headers"], "headers")
	if n := f["oauth"]; n != nil {
		s.OAuth = readOAuth(d, n)
		if s.URL == "" {
			d.Errorf(n, "oauth: goes with url: a program that we start gets its secrets by env")
		}
	}
	kind := readTransport(d, f["type"], "type", s)
	other := readTransport(d, f["transport"], "transport", s)
	if kind != "" && other != "" && (kind == "sse") != (other == "sse") {
		d.Errorf(f["transport"], "transport: %s, but type says %s: leave one of them out", other, kind)
	}
	s.SSE = kind == "sse" || other == "sse"
	switch {
	case n.Kind != yaml.MappingNode:
	case (s.Command == "") == (s.URL == ""):
		d.Errorf(n, "server %s: want either command (a program) or url (an endpoint)", name)
	case s.URL != "" && !strings.HasPrefix(s.URL, "http://") && !strings.HasPrefix(s.URL, "https://"):
		d.Errorf(f["url"], "url: want http:// or https://, got %q", s.URL)
	}
	return s
}

// readOAuth reads what a login takes. A secret must not stand in the file, where
// it would be backed up and versioned; it is not repeated in the error either.
func readOAuth(d *strictyaml.Doc, n *yaml.Node) (o OAuth) {
	f := d.Fields(n, "oauth", "client_id", "client_secret", "scopes")
	o.ClientID, _ = d.String(f["client_id"], "client_id")
	o.Scopes, _ = d.Strings(f["scopes"], "scopes")
	if n := f["client_secret"]; n != nil {
		o.ClientSecret = n.Value
		if m := variable.FindStringSubmatch(n.Value); n.Kind != yaml.ScalarNode || m == nil || m[2] != "" {
			d.Errorf(n, "client_secret: want ${NAME}, the name of an environment variable: a secret does not stand in this file")
		}
		if o.ClientID == "" {
			d.Errorf(n, "client_secret: goes with client_id")
		}
	}
	for _, scope := range o.Scopes {
		if !oauth.ValidScope(scope) {
			d.Errorf(f["scopes"], "scopes: want a list of scopes, each a word without spaces, got %q", scope)
		}
	}
	return o
}

// readTransport reads how a server is spoken to, which hosts call type or
// transport; empty when it is not said.
func readTransport(d *strictyaml.Doc, n *yaml.Node, key string, s Server) string {
	kind, ok := d.OneOf(n, key, "stdio", "http", "streamable-http", "sse")
	if ok && (kind == "stdio") != (s.Command != "") {
		d.Errorf(n, "%s: %s goes with %s", key, kind, map[bool]string{true: "command", false: "url"}[kind == "stdio"])
	}
	return kind
}

// readLife reads when the server's process runs, and as whom.
func readLife(d *strictyaml.Doc, s *Server, f map[string]*yaml.Node) {
	if when, ok := d.OneOf(f["start"], "start", "first_use", "at_start"); ok {
		s.AtStart = when == "at_start"
	}
	if text, ok := d.String(f["idle"], "idle"); ok {
		var err error
		if s.Idle, err = time.ParseDuration(text); err != nil || s.Idle < time.Second || s.Idle > 24*time.Hour {
			d.Errorf(f["idle"], "idle: want a time from 1s to 24h, such as 10m, got %q", text)
		}
	}
	if user, ok := d.String(f["run_as"], "run_as"); ok {
		if s.RunAs = user; user == "" {
			d.Errorf(f["run_as"], "run_as: want the name of a user of this system")
		}
	}
	for _, key := range []string{"start", "idle", "run_as"} {
		if f[key] != nil && s.Command == "" {
			d.Errorf(f[key], "%s: goes with command: a server at a url has no process of ours", key)
		}
	}
}

func readVariables(d *strictyaml.Doc, n *yaml.Node, what string) map[string]string {
	vars := map[string]string{}
	if n == nil {
		return vars
	}
	if n.Kind != yaml.MappingNode {
		d.Errorf(n, "%s: want a mapping of names to texts", what)
		return vars
	}
	for i := 0; i+1 < len(n.Content); i += 2 {
		name := n.Content[i].Value
		vars[name], _ = d.String(n.Content[i+1], what+" "+name)
	}
	return vars
}

// variable is ${NAME}, in the spellings that hosts know: ${env:NAME}, and
// ${NAME:-what to take when it is not set}. Anything else in ${} is a fault.
var (
	reference = regexp.MustCompile(`\$\{[^}]*\}`)
	variable  = regexp.MustCompile(`^\$\{(?:env:)?([A-Za-z_][A-Za-z0-9_]*)(:-[^}]*)?\}$`)
)

// expand puts the environment's values into ${NAME}; one that is not set is an
// error, since a server started without its secret fails in odder ways.
func expand(values map[string]string, what string) (map[string]string, error) {
	out := map[string]string{}
	var missing, odd []string
	for key, v := range values {
		out[key] = reference.ReplaceAllStringFunc(v, func(text string) string {
			m := variable.FindStringSubmatch(text)
			if m == nil {
				odd = append(odd, text)
				return ""
			}
			value, ok := os.LookupEnv(m[1])
			if !ok && m[2] != "" {
				return strings.TrimPrefix(m[2], ":-")
			}
			if !ok {
				missing = append(missing, m[1])
			}
			return value
		})
	}
	return out, errors.Join(
		complain(odd, what+": want ${NAME}, the name of an environment variable, got"),
		complain(missing, what+": not set in the environment:"))
}

func complain(names []string, what string) error {
	if len(names) == 0 {
		return nil
	}
	slices.Sort(names)
	return fmt.Errorf("%s %s", what, strings.Join(slices.Compact(names), ", "))
}

// server finds a server by name, with a hint when there is none.
func (c *Config) server(name string) (Server, error) {
	if s, ok := c.Servers[name]; ok {
		return s, nil
	}
	names := c.serverNames()
	if len(names) == 0 {
		return Server{}, withHint(fmt.Errorf("no server %q: the configuration names none", name),
			"put it under mcpServers: in the configuration, or wrap a command: openleash stdio --name NAME -- COMMAND ARGS…")
	}
	return Server{}, fmt.Errorf("no server %q%s; the configuration has %s", name, strictyaml.DidYouMean(name, names), strings.Join(names, ", "))
}

func (c *Config) serverNames() []string {
	var names []string
	for name := range c.Servers {
		names = append(names, name)
	}
	slices.Sort(names)
	return names
}

func (c *Config) port() int {
	_, port, _ := net.SplitHostPort(c.Listen)
	n, _ := strconv.Atoi(port)
	return n
}

// limits bound one message of a host.
func (c *Config) limits() action.Limits { return action.Limits{Bytes: c.MessageBytes} }

// portal is the address that links use: a name with a cookie jar of its own.
func (c *Config) portal() string { return fmt.Sprintf("http://openleash.localhost:%d", c.port()) }
