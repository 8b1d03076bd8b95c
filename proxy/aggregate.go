package proxy

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/rs/zerolog"

	"github.com/openleash/openleash-go/action"
	"github.com/openleash/openleash-go/authz"
)

// Aggregate serves several servers at one address, to hosts of the eras with a
// handshake. Each session has one with every server, governed by that server's
// own Proxy: actions, policies and the log see the server's names, only the host
// sees them prefixed.
//
//   - Tools and prompts are named SERVER__NAME, with a dot in SERVER as an underscore.
//   - What is listed is the lists of all, one after the other. Resources keep their
//     URIs, and tasks their ids: who has listed or made one is asked about it.
//   - A server that is not there, or slow to start, is left out; the host hears of
//     changed lists when it comes.
//   - Methods that no server can be told from are refused: what an extension adds is
//     to be had at the server's own address.
type Aggregate struct {
	Members []Member
	Version string // ours, that hosts see
	Limits  action.Limits
	Log     zerolog.Logger
}

// Member is one server of an Aggregate. Dial opens its upstream, for one session.
type Member struct {
	*Proxy
	Dial func(ctx context.Context, who authz.Caller) (Conn, error)
}

// prefix begins the names of a server's tools and prompts. Most models take
// letters, digits, _ and - alone.
func (m Member) prefix() string { return strings.ReplaceAll(m.Name, ".", "_") + "__" }

// HTTPHost serves hosts over HTTP. The error names servers whose tools could not
// be told apart.
func (a *Aggregate) HTTPHost() (*HTTPSessions, error) {
	if err := a.collisions(); err != nil {
		return nil, err
	}
	return newHTTPSessions(&HTTPSessions{
		name: "all servers", limits: a.Limits, log: a.Log,
		dial: func(_ context.Context, who authz.Caller) (Conn, error) { return a.gather(who), nil },
	}), nil
}

// collisions finds servers of which one's prefix begins with another's: there a
// name could be that of either.
func (a *Aggregate) collisions() error {
	var errs []error
	for i, m := range a.Members {
		for j, other := range a.Members {
			if i != j && strings.HasPrefix(m.prefix(), other.prefix()) && (i < j || m.prefix() != other.prefix()) {
				errs = append(errs, fmt.Errorf("servers %s and %s: where all servers are served at one address, both would have tools that begin with %s; rename one of them", other.Name, m.Name, m.prefix()))
			}
		}
	}
	return errors.Join(errs...)
}

// named finds whose tool or prompt a name is, and what that server calls it.
func (g *gathering) named(name string) (b *branch, inner string) {
	for _, b := range g.branches {
		if inner, ok := strings.CutPrefix(name, b.prefix()); ok {
			return b, inner
		}
	}
	return nil, ""
}

// relay moves messages between two sides, and rules on nothing. It ends with
// either of them, and closes both.
func relay(ctx context.Context, host, up Conn) error {
	ctx, cancel := context.WithCancel(ctx)
	ended := make(chan error, 2)
	go func() { ended <- pump(ctx, host, up) }()
	go func() { ended <- pump(ctx, up, host) }()
	err := <-ended
	cancel()
	host.Close()
	up.Close()
	<-ended
	return clean(err)
}

func pump(ctx context.Context, from, to Conn) error {
	for {
		m, err := from.Recv(ctx)
		var bad *BadMessage
		switch {
		case errors.As(err, &bad) && bad.Response && bad.ID != "": // who asked waits for it
			err = to.Send(ctx, Message{Raw: bad.Reply(), ID: bad.ID})
		case errors.As(err, &bad):
			err = from.Send(ctx, Message{Raw: bad.Reply(), ID: bad.ID})
		case err == nil:
			err = to.Send(ctx, m)
		}
		if err != nil {
			return err
		}
	}
}

const (
	// greetAll is how long a session waits for its servers: hosts give up after a
	// minute. Who comes later is announced.
	greetAll = 20 * time.Second
	// listAll is how long a list waits for a server.
	listAll = 20 * time.Second
	// handRoom is how many messages wait for a server that reads nothing,
	// handWithin how long the one after them does.
	handRoom   = 1024
	handWithin = time.Second
	// maxOwners bounds how many URIs, and how many tasks, a session remembers.
	maxOwners = 50_000
)
