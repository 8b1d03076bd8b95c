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
	"slices"
	"sync"
	"time"

	"github.com/rs/zerolog"

	"github.com/openleash/openleash-go/audit"
	"github.com/openleash/openleash-go/authz"
	"github.com/openleash/openleash-go/configs"
	"github.com/openleash/openleash-go/identity"
	"github.com/openleash/openleash-go/internal/home"
	"github.com/openleash/openleash-go/internal/oauth"
	"github.com/openleash/openleash-go/owners"
	"github.com/openleash/openleash-go/passkey"
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

	stop       context.CancelFunc // ends the sequencer, which outlives the sessions
	sequencing sync.WaitGroup
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
	if a.store, err = sqlite.Open(ctx, a.home.Data()); err != nil {
		return err
	}
	if a.owner, err = a.store.EnsureOwner(ctx, userName()); err != nil {
		return err
	}
	if a.key, err = proof.LoadOrCreate(a.home.Keys(), time.Now()); err != nil {
		return err
	}
	if err = a.publishKey(ctx); err != nil {
		return err
	}
	if a.logKey, err = audit.LoadOrCreateKey(a.home.Keys()); err != nil {
		return err
	}
	if a.maskKey, err = authz.LoadOrCreateMaskKey(a.home.Keys()); err != nil {
		return err
	}
	if err = a.firstPolicy(ctx); err != nil {
		return err
	}
	a.policies, err = policy.Open(ctx, a.config.Policies, a.config.Groups, a.store, a.announce)
	return err
}

// publishKey makes the key known to the store. The log first: a key that is not recorded
// signs nothing. The first key of all is that of a new installation, and its owner is new.
func (a *app) publishKey(ctx context.Context) error {
	known, err := a.store.Keys(ctx)
	if err != nil {
		return err
	}
	key := a.key.Public()
	if slices.ContainsFunc(known, func(k proof.PublicKey) bool { return k.ID == key.ID }) {
		return a.store.PutKey(ctx, key) // sees that it has the same bytes
	}
	added := []audit.Entry{{
		Event: "key.added", ActorType: "system", ActorID: "openleash", ProofKID: &key.ID, OwnerID: a.owner.ID, Detail: "public key " + key.SPKI(),
	}}
	if len(known) == 0 {
		added = append(added, audit.Entry{
			Event: "owner.created", ActorType: "system", ActorID: "openleash", OwnerID: a.owner.ID, Detail: a.owner.Type + " " + a.owner.Name,
		})
	}
	if err := a.commit(ctx, added...); err != nil {
		return err
	}
	return a.store.PutKey(ctx, key)
}

// commit records what there is no service for, or not yet.
func (a *app) commit(ctx context.Context, entries ...audit.Entry) error {
	now := time.Now().UTC().Format("2006-01-02T15:04:05.000Z")
	for i := range entries {
		entries[i].TS = now
	}
	return a.store.Commit(ctx, authz.Batch{Entries: entries})
}

// firstPolicy writes the default policy of a new installation.
func (a *app) firstPolicy(ctx context.Context) error {
	last, err := a.store.LastPolicies(ctx)
	if err != nil || last != nil {
		return err
	}
	files, err := os.ReadDir(a.config.Policies)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("reading the policies: %w", err)
	}
	if len(files) > 0 {
		return nil
	}
	return writeProfile(a.config.Policies, "balanced")
}

// writeProfile puts a shipped policy into the folder.
func writeProfile(dir, name string) error {
	src, err := configs.FS.ReadFile("policies/" + name + ".yaml")
	if err != nil {
		return fmt.Errorf("no shipped policy is named %q", name)
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return fmt.Errorf("writing the policy: %w", err)
	}
	if err := os.WriteFile(filepath.Join(dir, name+".yaml"), src, 0o600); err != nil {
		return fmt.Errorf("writing the policy: %w", err)
	}
	return nil
}

func (a *app) openService() (err error) {
	ctx, cancel := context.WithCancel(context.Background())
	a.stop = cancel
	a.process = rand.Text()
	a.sequencer = audit.NewSequencer(a.store, a.home.AuditLog(), a.logKey, a.keeping())
	a.sequencing.Go(func() {
		if err := a.sequencer.Run(ctx); err != nil {
			a.log.Error().Err(err).Msg("the audit log is behind the store; it is completed at the next start")
		}
	})
	parties, err := passkey.NewParties(append([]string{a.config.portal()}, a.config.Origins...)...)
	if err != nil {
		return err
	}
	a.service, err = authz.New(authz.Config{
		Store: a.store, Owner: a.owner, Policies: a.policies, Key: a.key, Log: a.sequencer, MaskKey: a.maskKey,
		Protect:      authz.NewProtection(append(a.config.witnessFiles(), a.home.Dir, a.config.Policies), []int{a.config.port()}),
		OpenPerAgent: a.config.OpenPerAgent, Process: a.process, Factors: identity.NewFactors(a.store, nil),
		Passkeys: passkey.Checker{Parties: parties, Store: a.store},
	})
	if err != nil {
		return err
	}
	a.owners, err = owners.New(owners.Config{Store: a.store, Owner: a.owner, Key: a.key, Keys: a.publicKeys, Wake: a.sequencer.Wake, Parties: parties})
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

// announce tells of every reload: the hosts whose lists of tools it changes, the
// program's log and the audit log.
func (a *app) announce(e policy.Event) {
	a.proxies.policiesChanged()
	entry := audit.Entry{Event: "policy.reloaded", ActorType: "system", ActorID: "openleash", PolicyHash: e.Hash}
	switch {
	case e.Err != nil:
		entry.Event, entry.Reason = "policy.rejected", e.Err.Error()
		a.log.Error().Err(e.Err).Msg("the policies are broken; the last good set stays in force")
	default:
		entry.Reason = reloadWords(e)
		a.log.Info().Str("hash", e.Hash).Strs("changed", e.Changed).Strs("removed", e.Removed).Msg("policies in force")
	}
	for _, w := range e.Warnings {
		a.log.Warn().Msg(w.Error())
	}
	if a.service == nil {
		return // at the start: the start itself is recorded
	}
	a.recordReload(entry)
}

func (a *app) recordReload(e audit.Entry) {
	if err := a.service.Record(context.Background(), e); err != nil {
		a.log.Error().Err(err).Msg("a reload could not be recorded")
	}
}

func reloadWords(e policy.Event) string {
	words := ""
	if len(e.Changed) > 0 {
		words = fmt.Sprintf("changed: %v", e.Changed)
	}
	if len(e.Removed) > 0 {
		words += fmt.Sprintf(" removed: %v", e.Removed)
	}
	return words
}

// close ends everything in the order in which it leans on each other: sessions
// and doors, calls' outcomes, the log's last lines, the store. It can be called
// twice.
func (a *app) close() error {
	a.end()
	a.sessions.Wait()
	var errs []error
	if a.service != nil {
		err := a.service.Close()
		errs = append(errs, err, a.depart(err == nil))
		if a.running != "" {
			a.record("stop", a.running) // the last line of what this process did
			a.running = ""
		}
	}
	if a.stop != nil {
		a.stop()
		a.sequencing.Wait()
	}
	if a.policies != nil {
		errs = append(errs, a.policies.Close())
	}
	if a.store != nil {
		errs = append(errs, a.store.Close())
	}
	a.policies, a.store = nil, nil
	return errors.Join(errs...)
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
	agents, err := a.store.Agents(ctx)
	if err != nil || slices.ContainsFunc(agents, func(known identity.Agent) bool { return known.Name == name }) {
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
	if err := a.policies.Err(); err != nil { // it was found broken before there was a service
		a.recordReload(audit.Entry{Event: "policy.rejected", ActorType: "system", ActorID: "openleash", PolicyHash: a.policyHash(), Reason: err.Error()})
	}
}

func (a *app) record(event, detail string) { a.recordOf("", event, detail) }

// recordOf records what has happened with a server.
func (a *app) recordOf(server, event, detail string) {
	e := audit.Entry{Event: event, ActorType: "system", ActorID: "openleash", Server: server, Detail: detail, PolicyHash: a.policyHash(), Process: a.process}
	if err := a.service.Record(context.Background(), e); err != nil {
		a.log.Error().Err(err).Str("event", event).Msg("could not be recorded")
	}
}

func (a *app) policyHash() string {
	if book := a.policies.Current(); book != nil {
		return book.Hash
	}
	return ""
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
