package sqlite

import (
	"context"
	"database/sql"

	"github.com/openleash/openleash-go/authz"
)

const selectGeneration = "SELECT generation FROM pin_servers WHERE owner_id = ? AND server = ?"

func readNumber(scan scan) (n int64, err error) {
	err = scan(&n)
	return n, err
}

func generation(q querier, owner, server string) (int64, error) {
	return inTx(q, nil, readNumber, selectGeneration, owner, server)
}

// PinGeneration tells which generation of a server's pins is the latest.
func (s *Store) PinGeneration(ctx context.Context, owner, server string) (int64, error) {
	return one(ctx, s, nil, readNumber, selectGeneration, owner, server)
}

// PinBook reads what is kept of a server, but for the texts.
func (s *Store) PinBook(ctx context.Context, owner, server string) (b authz.PinBook, err error) {
	err = s.atOnce(ctx, func(q querier) (err error) {
		if b.Generation, err = generation(q, owner, server); err != nil {
			return err
		}
		b.Pins, err = rowsOf(q, readPin, `SELECT server, kind, name, hash, state, coalesce(length(definition), 0), seen_at, answered_at, answered_by
			FROM pins WHERE owner_id = ? AND server = ? ORDER BY kind, name, seen_at`, owner, server)
		if err != nil {
			return err
		}
		if b.Whole, err = rowsOf(q, readText, "SELECT kind FROM pin_lists WHERE owner_id = ? AND server = ? ORDER BY kind", owner, server); err != nil {
			return err
		}
		b.Gone, err = rowsOf(q, readGone, "SELECT kind, name, at, back FROM pin_gone WHERE owner_id = ? AND server = ? ORDER BY kind, name", owner, server)
		return err
	})
	return b, err
}

func rowsOf[T any](q querier, read func(scan) (T, error), query string, args ...any) ([]T, error) {
	rows, err := q.query(query, args...)
	if err != nil {
		return nil, err
	}
	return collect(rows, read)
}

func readPin(scan scan) (p authz.Pin, err error) {
	var hash []byte
	var state string
	var seen int64
	var answered sql.NullInt64
	err = scan(&p.Server, &p.Kind, &p.Name, &hash, &state, &p.Kept, &seen, &answered, &p.AnsweredBy)
	copy(p.Hash[:], hash)
	p.State, p.SeenAt, p.AnsweredAt = authz.PinState(state), instant(seen), optional(answered)
	return p, err
}

func readGone(scan scan) (g authz.PinGone, err error) {
	var at int64
	err = scan(&g.Kind, &g.Name, &at, &g.Back)
	g.At = instant(at)
	return g, err
}

// PinText reads the text of a version.
func (s *Store) PinText(ctx context.Context, owner string, p authz.Pin) ([]byte, error) {
	return one(ctx, s, authz.ErrNoPin, func(scan scan) (text []byte, err error) {
		err = scan(&text)
		return text, err
	}, "SELECT definition FROM pins WHERE owner_id = ? AND server = ? AND kind = ? AND name = ? AND hash = ?", owner, p.Server, p.Kind, p.Name, p.Hash[:])
}

// PinServers lists the servers of which pins are kept.
func (s *Store) PinServers(ctx context.Context, owner string) ([]string, error) {
	return list(ctx, s, readText, "SELECT server FROM pin_servers WHERE owner_id = ? ORDER BY server", owner)
}

// PinsWaiting counts what waits for the owner.
func (s *Store) PinsWaiting(ctx context.Context, owner string) (int, error) {
	n, err := one(ctx, s, nil, readNumber, "SELECT count(*) FROM pins WHERE owner_id = ? AND state <> 'accepted' AND state = 'waiting'", owner) // by pins_pending
	return int(n), err
}

// pin changes what is kept of a server, if nobody else has meanwhile.
func (t *tx) pin(p authz.Pinning) error {
	now, err := generation(t, p.Owner, p.Server)
	if err != nil {
		return err
	}
	if now != p.Generation {
		return authz.ErrPinsChanged
	}
	if _, err := t.exec(`INSERT INTO pin_servers (owner_id, server, generation) VALUES (?, ?, ?)
		ON CONFLICT DO UPDATE SET generation = excluded.generation`, p.Owner, p.Server, now+1); err != nil {
		return err
	}
	for _, d := range p.Drop { // before what comes in its place
		if _, err := t.exec("DELETE FROM pins WHERE owner_id = ? AND server = ? AND kind = ? AND name = ? AND hash = ?", p.Owner, p.Server, d.Kind, d.Name, d.Hash[:]); err != nil {
			return err
		}
	}
	for _, put := range p.Put {
		if err := t.putPin(p, put); err != nil {
			return err
		}
	}
	return t.putLists(p)
}

func (t *tx) putPin(p authz.Pinning, put authz.Pin) error {
	var text any // nil is NULL, and leaves what is kept
	if put.Text != nil {
		text = put.Text
	}
	_, err := t.exec(`INSERT INTO pins (owner_id, server, kind, name, hash, state, definition, seen_at, answered_at, answered_by)
		VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
		ON CONFLICT (owner_id, server, kind, name, hash) DO UPDATE SET state = excluded.state, definition = coalesce(excluded.definition, definition),
			seen_at = excluded.seen_at, answered_at = excluded.answered_at, answered_by = excluded.answered_by`,
		p.Owner, p.Server, put.Kind, put.Name, put.Hash[:], string(put.State), text, put.SeenAt.UnixMilli(), millis(put.AnsweredAt), put.AnsweredBy)
	return err
}

func (t *tx) putLists(p authz.Pinning) error {
	for _, kind := range p.Whole {
		if _, err := t.exec("INSERT INTO pin_lists (owner_id, server, kind) VALUES (?, ?, ?) ON CONFLICT DO NOTHING", p.Owner, p.Server, kind); err != nil {
			return err
		}
	}
	for _, g := range p.Gone {
		if _, err := t.exec(`INSERT INTO pin_gone (owner_id, server, kind, name, at, back) VALUES (?, ?, ?, ?, ?, ?)
			ON CONFLICT DO UPDATE SET at = excluded.at, back = excluded.back`, p.Owner, p.Server, g.Kind, g.Name, g.At.UnixMilli(), g.Back); err != nil {
			return err
		}
	}
	return nil
}
