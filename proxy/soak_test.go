//go:build soak

package proxy

import "testing"

// Hundreds of random schedules: `make soak`. TestRaces plays a few.

func TestSoakRaces(t *testing.T) { races(t, 300, inProcess) }

func TestSoakRacesOfProcesses(t *testing.T) { races(t, 100, ownProcess) }
