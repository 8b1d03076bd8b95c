package sqlite_test

import (
	"testing"

	"github.com/openleash/openleash-go/store/sqlite"
	"github.com/openleash/openleash-go/store/storetest"
)

func TestStore(t *testing.T) {
	storetest.Run(t, func(t *testing.T, place string) storetest.Store {
		s, err := sqlite.Open(t.Context(), place)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { s.Close() })
		return s
	})
}
