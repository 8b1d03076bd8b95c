package sqlite

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"
	"unicode/utf8"

	"github.com/openleash/openleash-go/policy"
)

// SavePolicies makes sources the last good set. Earlier ones are kept.
func (s *Store) SavePolicies(ctx context.Context, hash string, sources []policy.Source) error {
	body, err := encodeSources(sources)
	if err != nil {
		return fmt.Errorf("saving policies: %w", err)
	}
	return s.write(ctx, func(t *tx) error {
		_, err := t.exec(`INSERT INTO policies (hash, sources, saved_at) SELECT ?1, ?2, ?3
			WHERE ?1 IS NOT (SELECT hash FROM policies ORDER BY n DESC LIMIT 1)`, hash, body, time.Now().UnixMilli())
		return err
	})
}

// encodeSources refuses what JSON would change.
func encodeSources(sources []policy.Source) ([]byte, error) {
	for _, src := range sources {
		if !utf8.ValidString(src.Name) || !utf8.ValidString(src.Text) {
			return nil, fmt.Errorf("%q is not UTF-8", src.Name)
		}
	}
	if sources == nil {
		sources = []policy.Source{}
	}
	return json.Marshal(sources)
}

func readSources(scan scan) (sources []policy.Source, err error) {
	var body []byte
	if err := scan(&body); err != nil {
		return nil, err
	}
	err = json.Unmarshal(body, &sources)
	return sources, err
}

// LastPolicies returns the last good set; nil before the first.
func (s *Store) LastPolicies(ctx context.Context) ([]policy.Source, error) {
	sources, err := one(ctx, s, errNone, readSources, "SELECT sources FROM policies ORDER BY n DESC LIMIT 1")
	if errors.Is(err, errNone) {
		return nil, nil
	}
	return sources, err
}
