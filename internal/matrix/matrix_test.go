package matrix

import (
	"testing"

	"go.uber.org/goleak"

	"github.com/lockstep-go/lockstep/conformance"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// TestMatrix runs every combination, one after another: their checks restart the servers.
func TestMatrix(t *testing.T) {
	for _, d := range databases {
		for _, b := range brokers {
			t.Run(d.name+" to "+b.name, func(t *testing.T) {
				conformance.TestPair(t, d.open, b.open)
			})
		}
	}
}
