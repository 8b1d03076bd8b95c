//go:build soak

package sqlite

import (
	"testing"
	"time"
)

// Minutes of random histories of limits: `make soak`.
func TestSoakLimits(t *testing.T) { playModel(t, 2*time.Minute) }
