package main

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"os"
	"os/user"
	"path/filepath"
	"sync"
	"time"

	"github.com/rs/zerolog"

	"github.com/openleash/openleash-go/audit"
	"github.com/openleash/openleash-go/authz"
	"github.com/openleash/openleash-go/identity"
	"github.com/openleash/openleash-go/internal/home"
	"github.com/openleash/openleash-go/internal/oauth"
	"github.com/openleash/openleash-go/internal/wiring"
	"github.com/openleash/openleash-go/owners"
	"github.com/openleash/openleash-go/policy"
	"github.com/openleash/openleash-go/proof"
	"github.com/openleash/openleash-go/proxy"
	"github.com/openleash/openleash-go/store/sqlite"
)

// app is an opened installation: what every command works on.
type app struct {
	home      home.Home
	config    *Config
	log       zerolog.Logger
	parts     *wiring.Parts // of which the next ones are
	store     *sqlite.Store
	owner     identity.Owner
	key       *proof.Key
	logKey    *audit.Key // of the audit log's checkpoints
	maskKey   *authz.MaskKey
	policies  *policy.Keeper
	sequencer *audit.Sequencer
	service   *authz.Service
	owners    *owners.Service
	children  *proxy.Children // the servers' processes of this one
	bearersMu sync.Mutex
	bearers   map[string]*oauth.Bearer // of servers over HTTP, by name; guarded by bearersMu
	proxies   proxies                  // in front of the servers
	process   string                   // a name of this one that no other has
	presence  *presence                // nil: it does not govern
	running   string                   // what close records as stopped; empty: nothing was started

	background context.Context // of what open leaves running: sessions, doors
	end        context.CancelFunc
	sessions   sync.WaitGroup
}

// run runs do beside the rest, until close.
func (a *app) run(do func(ctx context.Context)) {
	a.sessions.Go(func() { do(a.background) })
}

// openApp opens the installation in $OPENLEASH_HOME, making what is missing.
func openApp(ctx context.Context, log zerolog.Logger) (*app, error) {
	return openAppWith(ctx, log, func(*app) error { return nil })
}

// openAppWith lets adjust change the configuration before anything leans on it.
func openAppWith(ctx context.Context, log zerolog.Logger, adjust func(*app) error) (*app, error) {
	dir, err := home.Locate(os.Getenv("OPENLEASH_HOME"))
	if err != nil {
		return nil, err
	}
	a := &app{home: home.Home{Dir: dir}, log: log}
	a.background, a.end = context.WithCancel(ctx)
	if err := a.home.FirstStart(ctx, func() error { return a.openParts(ctx, adjust) }); err != nil {
		return nil, errors.Join(err, a.close())
	}
	if err := a.openService(); err != nil {
		return nil, errors.Join(err, a.close())
	}
	return a, nil
}

// openParts runs while no other process starts.
func (a *app) openParts(ctx context.Context, adjust func(*app) error) (err error) {
	if a.config, err = loadConfig(a.home); err != nil {
		return err
	}
	if err = adjust(a); err != nil {
		return err
	}
	a.children = &proxy.Children{Max: a.config.Children}
	a.parts, err = wiring.Open(ctx, wiring.Config{
		Home: a.home, Owner: userName(), Policies: a.config.Policies, Groups: a.config.Groups, Reloaded: a.proxies.policiesChanged, Log: a.log,
	})
	if err != nil {
		return err
	}
	p := a.parts
	a.store, a.owner, a.key, a.logKey, a.maskKey, a.policies = p.Store, p.Owner, p.Key, p.LogKey, p.MaskKey, p.Policies
	return nil
}

func (a *app) openService() error {
	a.process = rand.Text()
	err := a.parts.Start(authz.Config{
		Protect:      authz.NewProtection(append(a.config.witnessFiles(), a.home.Dir, a.config.Policies), []int{a.config.port()}),
		OpenPerAgent: a.config.OpenPerAgent, Process: a.process,
	}, a.keeping(), append([]string{a.config.portal()}, a.config.Origins...)...)
	a.sequencer, a.service, a.owners = a.parts.Sequencer, a.parts.Service, a.parts.Owners
	return err
}

// proxies are those that want to hear of reloads.
type proxies struct {
	mu  sync.Mutex
	all []*proxy.Proxy
}

func (p *proxies) add(one *proxy.Proxy) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.all = append(p.all, one)
}

func (p *proxies) policiesChanged() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, one := range p.all {
		one.PoliciesChanged()
	}
}

// close ends everything in the order in which it leans on each other: sessions
// and doors, then the parts. It can be called twice.
func (a *app) close() error {
	a.end()
	a.sessions.Wait()
	if a.parts == nil {
		return nil
	}
	return a.parts.Close(func(failed error) error {
		err := a.depart(failed == nil)
		if a.running != "" {
			a.record("stop", a.running) // the last line of what this process did
			a.running = ""
		}
		return err
	})
}

// caller is an agent that came over a channel which carries no token.
func (a *app) caller(ctx context.Context, agent string) (authz.Caller, error) {
	if !identity.ValidName(agent) {
		return authz.Caller{}, fmt.Errorf("agent %q: %s", agent, validNames)
	}
	if err := a.recordNewAgent(ctx, agent); err != nil {
		return authz.Caller{}, err
	}
	known, err := a.store.EnsureAgent(ctx, agent, a.owner)
	return authz.Caller{Agent: known}, err
}

// recordNewAgent comes before the agent does: one that is not recorded must not exist.
func (a *app) recordNewAgent(ctx context.Context, name string) error {
	_, err := a.store.AgentByName(ctx, name)
	if !errors.Is(err, identity.ErrNotFound) {
		return err
	}
	return a.service.Record(ctx, audit.Entry{Event: "agent.created", ActorType: "owner", ActorID: "cli:" + userName(), OwnerID: a.owner.ID, AgentID: name})
}

// started notes that the program begins its work, on which log, and by which groups it decides;
// close notes the end.
func (a *app) started(as string) {
	detail := as + ", " + version() + ", log " + a.logKey.Origin()
	if a.config.Hash != "" {
		detail += ", configuration " + a.config.Hash
	}
	if groups := a.config.Groups; len(groups) > 0 {
		detail += ", groups: " + groups.String()
		a.log.Info().Str("groups", groups.String()).Msg("agents are in groups")
	}
	if err := a.arrive(context.Background()); err != nil {
		a.log.Error().Err(err).Msg("if this process is killed, the log will not say of which calls the outcome is unknown")
	}
	a.record("start", detail)
	a.running = as
	a.run(a.seeToTheDead)
	a.run(a.serveWitnesses)
	a.parts.RecordBroken()
}

func (a *app) record(event, detail string) { a.recordOf("", event, detail) }

// recordOf records what has happened with a server.
func (a *app) recordOf(server, event, detail string) {
	e := audit.Entry{Event: event, ActorType: "system", ActorID: "openleash", Server: server, Detail: detail, PolicyHash: a.parts.PolicyHash(), Process: a.process}
	if err := a.service.Record(context.Background(), e); err != nil {
		a.log.Error().Err(err).Str("event", event).Msg("could not be recorded")
	}
}

func userName() string {
	if u, err := user.Current(); err == nil && u.Username != "" {
		return filepath.Base(u.Username) // Windows: DOMAIN\name
	}
	return "owner"
}

// quietLog is the log of commands that end at once: only what is wrong.
func quietLog(w io.Writer) zerolog.Logger { return newLog(w).Level(zerolog.WarnLevel) }

// newLog is the program's own log. It never goes to standard output, which may
// carry a protocol.
func newLog(w io.Writer) zerolog.Logger {
	console := zerolog.ConsoleWriter{Out: w, TimeFormat: time.TimeOnly, NoColor: true}
	return zerolog.New(console).With().Timestamp().Logger().Level(zerolog.InfoLevel)
}
