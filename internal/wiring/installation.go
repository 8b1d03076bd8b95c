// Package wiring puts the parts of an installation together, in one place for all
// who run one: the program, and openleashtest, whose servers are to be what users run.
//
// Open opens what a home has, and makes what is missing. Start begins to decide, and to
// sequence the log. Pages is what is served: the portal and the API behind their door.
// Close ends it all in the order in which it leans on each other, so that the log is whole
// when it returns. What a configuration adds to that (hosts, servers, witnesses) is the
// program's.
package wiring

import (
	"context"
	"errors"
	"fmt"
	"os"
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
	"github.com/openleash/openleash-go/owners"
	"github.com/openleash/openleash-go/passkey"
	"github.com/openleash/openleash-go/policy"
	"github.com/openleash/openleash-go/proof"
	"github.com/openleash/openleash-go/store/sqlite"
)

// Config says what is opened.
type Config struct {
	Home     home.Home
	Owner    string        // the name of a new installation's owner
	Policies string        // the folder of the policy files; a new installation's gets the shipped "balanced"
	Groups   policy.Groups // whom policies may be for
	Reloaded func()        // called when the policies have changed; nil: nobody wants to hear of it
	Now      func() time.Time
	Log      zerolog.Logger
}

// Parts are what an installation is made of.
type Parts struct {
	Store     *sqlite.Store
	Owner     identity.Owner
	Key       *proof.Key
	LogKey    *audit.Key // of the audit log's checkpoints
	MaskKey   *authz.MaskKey
	Policies  *policy.Keeper
	Sequencer *audit.Sequencer // nil before Start
	Service   *authz.Service   // nil before Start
	Owners    *owners.Service  // nil before Start

	config     Config
	stop       context.CancelFunc // ends the sequencer; nil: it does not run
	sequencing sync.WaitGroup
}

// Open opens an installation. No other process may start meanwhile (home.FirstStart).
func Open(ctx context.Context, c Config) (*Parts, error) {
	if c.Now == nil {
		c.Now = time.Now
	}
	p := &Parts{config: c}
	if err := p.open(ctx); err != nil {
		return nil, errors.Join(err, p.Close(nil))
	}
	return p, nil
}

func (p *Parts) open(ctx context.Context) (err error) {
	h := p.config.Home
	if p.Store, err = sqlite.Open(ctx, h.Data()); err != nil {
		return err
	}
	if p.Owner, err = p.Store.EnsureOwner(ctx, p.config.Owner); err != nil {
		return err
	}
	if p.Key, err = proof.LoadOrCreate(h.Keys(), p.config.Now()); err != nil {
		return err
	}
	if err = p.publishKey(ctx); err != nil {
		return err
	}
	if p.LogKey, err = audit.LoadOrCreateKey(h.Keys()); err != nil {
		return err
	}
	if p.MaskKey, err = authz.LoadOrCreateMaskKey(h.Keys()); err != nil {
		return err
	}
	if err = p.firstPolicy(ctx); err != nil {
		return err
	}
	p.Policies, err = policy.Open(ctx, p.config.Policies, p.config.Groups, p.Store, p.announce)
	return err
}

// publishKey makes the key known to the store. The log first: a key that is not recorded
// signs nothing. The first key of all is that of a new installation, and its owner is new.
func (p *Parts) publishKey(ctx context.Context) error {
	known, err := p.Store.Keys(ctx)
	if err != nil {
		return err
	}
	key := p.Key.Public()
	if slices.ContainsFunc(known, func(k proof.PublicKey) bool { return k.ID == key.ID }) {
		return p.Store.PutKey(ctx, key) // sees that it has the same bytes
	}
	added := []audit.Entry{{
		Event: "key.added", ActorType: "system", ActorID: "openleash", ProofKID: &key.ID, OwnerID: p.Owner.ID, Detail: "public key " + key.SPKI(),
	}}
	if len(known) == 0 {
		added = append(added, audit.Entry{
			Event: "owner.created", ActorType: "system", ActorID: "openleash", OwnerID: p.Owner.ID, Detail: p.Owner.Type + " " + p.Owner.Name,
		})
	}
	if err := p.Record(ctx, added...); err != nil {
		return err
	}
	return p.Store.PutKey(ctx, key)
}

// Record records what there is no service for, or not yet.
func (p *Parts) Record(ctx context.Context, entries ...audit.Entry) error {
	now := p.config.Now().UTC().Format("2006-01-02T15:04:05.000Z")
	for i := range entries {
		entries[i].TS = now
	}
	return p.Store.Commit(ctx, authz.Batch{Entries: entries})
}

// firstPolicy writes the default policy of a new installation.
func (p *Parts) firstPolicy(ctx context.Context) error {
	last, err := p.Store.LastPolicies(ctx)
	if err != nil || last != nil {
		return err
	}
	files, err := os.ReadDir(p.config.Policies)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("reading the policies: %w", err)
	}
	if len(files) > 0 {
		return nil
	}
	return WriteProfile(p.config.Policies, "balanced")
}

// WriteProfile puts a shipped policy into a folder.
func WriteProfile(dir, name string) error {
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

// Start begins to decide, and to sequence the log. What of c is one of the parts is theirs.
// origins are the portal's addresses, as browsers have them: passkeys are for those.
func (p *Parts) Start(c authz.Config, keeping audit.Keeping, origins ...string) (err error) {
	ctx, cancel := context.WithCancel(context.Background())
	p.stop = cancel
	p.Sequencer = audit.NewSequencer(p.Store, p.config.Home.AuditLog(), p.LogKey, keeping)
	p.sequencing.Go(func() {
		if err := p.Sequencer.Run(ctx); err != nil {
			p.config.Log.Error().Err(err).Msg("the audit log is behind the store; it is completed at the next start")
		}
	})
	parties, err := passkey.NewParties(origins...)
	if err != nil {
		return err
	}
	c.Factors, c.Passkeys = identity.NewFactors(p.Store, p.config.Now), passkey.Checker{Parties: parties, Store: p.Store}
	c.Store, c.Owner, c.Policies, c.Key, c.MaskKey, c.Log, c.Now = p.Store, p.Owner, p.Policies, p.Key, p.MaskKey, p.Sequencer, p.config.Now
	if p.Service, err = authz.New(c); err != nil {
		return err
	}
	p.Owners, err = owners.New(owners.Config{Store: p.Store, Owner: p.Owner, Key: p.Key, Keys: p.PublicKeys, Wake: p.Sequencer.Wake, Now: p.config.Now, Parties: parties})
	return err
}

// Close ends everything: calls' outcomes, the log's last lines, the store. last, when not
// nil, runs in between, with the error with which the outcomes were written: what it records
// is the last of the log. It can be called twice.
func (p *Parts) Close(last func(error) error) error {
	var errs []error
	if p.Service != nil && p.Store != nil {
		err := p.Service.Close()
		errs = append(errs, err)
		if last != nil {
			errs = append(errs, last(err))
		}
	}
	if p.stop != nil {
		p.stop()
		p.sequencing.Wait()
	}
	if p.Policies != nil {
		errs = append(errs, p.Policies.Close())
	}
	if p.Store != nil {
		errs = append(errs, p.Store.Close())
	}
	p.Policies, p.Store = nil, nil
	return errors.Join(errs...)
}
