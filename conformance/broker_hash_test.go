package conformance

import (
	"strings"
	"testing"
	"testing/synctest"

	"github.com/lockstep-go/lockstep/core"
)

// hashingBroker counts its keys' hashes up after so many calls.
type hashingBroker struct {
	core.Broker
	calls, drifts uint32
}

func (b *hashingBroker) HashKey(_, key string) uint32 {
	b.calls++
	return uint32(len(key)) + b.drifts*b.calls/100
}

func TestKeyHashCatchesAHashThatChanges(t *testing.T) {
	for _, drifts := range []uint32{0, 1} {
		synctest.Test(t, func(t *testing.T) {
			f := BrokerFixture{Broker: &hashingBroker{Broker: NewRecorder().Client(ClientConfig{}), drifts: drifts}, Topic: "t"}
			err := checkKeyHash(t.Context(), f)
			if drifts == 0 && err != nil || drifts == 1 && (err == nil || !strings.Contains(err.Error(), "another lane")) {
				t.Errorf("a hash that changes (%d): got %v", drifts, err)
			}
		})
	}
}
