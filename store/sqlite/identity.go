package sqlite

import (
	"context"
	"errors"
	"time"

	"github.com/google/uuid"

	"github.com/openleash/openleash-go/identity"
)

const selectOwner = "SELECT id, type, name FROM owners ORDER BY n LIMIT 1"

func readOwner(scan scan) (o identity.Owner, err error) {
	err = scan(&o.ID, &o.Type, &o.Name)
	return o, err
}

// EnsureOwner returns the installation's owner.
func (s *Store) EnsureOwner(ctx context.Context, name string) (identity.Owner, error) {
	owner, err := one(ctx, s, errNone, readOwner, selectOwner)
	if !errors.Is(err, errNone) {
		return owner, err
	}
	err = s.write(ctx, func(t *tx) error {
		owner, err = inTx(t, errNone, readOwner, selectOwner)
		if !errors.Is(err, errNone) {
			return err
		}
		owner = identity.Owner{ID: uuid.NewString(), Type: identity.TypeUser, Name: name}
		return t.addUser(identity.User{Owner: owner, Roles: []string{identity.RoleAdmin}, Status: identity.UserActive, CreatedAt: time.Now()})
	})
	if err != nil {
		return identity.Owner{}, err
	}
	return owner, nil
}
