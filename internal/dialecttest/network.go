package dialecttest

import (
	"log/slog"
	"testing"
	"time"

	"github.com/lockstep-go/lockstep/conformance"
	"github.com/lockstep-go/lockstep/core"
)

// BadNetwork runs a relay whose connections lose answers, are cut and fall silent, again and again, until the n events that o
// holds are delivered: it goes on by itself each time, nothing is lost, and no attempt is counted.
func BadNetwork(t *testing.T, o Outbox, n int) {
	t.Helper()
	const ttl = 2 * time.Second // within which a machine that is busy gets through to the server
	var broker conformance.Recorder
	broker.Inject(slowly)
	logger := slog.New(slog.NewTextHandler(t.Output(), nil)) // what it did last, should it stand still
	stop := Started(t, o.Through, &broker, core.RelayConfig{LeaseTTL: ttl, BatchSize: 5, InFlight: 20, Logger: logger})
	left, faults := n, 0
	for ; left > 0; faults++ {
		length := 30 * time.Millisecond
		switch faults % 8 {
		case 0, 2, 4:
			o.Proxy.SwallowAnswer(faults % 7)
		case 1, 5:
			o.Proxy.Cut()
		case 3, 6:
			o.Proxy.Freeze()
		case 7: // the lease ends
			o.Proxy.Freeze()
			length = ttl + ttl/5
		}
		time.Sleep(length) // the fault's time
		o.Proxy.Thaw()
		before := left
		Eventually(t, "something is delivered after a fault", func() (bool, error) {
			left = Count(t, o.DialectFixture, `SELECT COUNT(*) FROM outbox`)
			return left < before, nil
		})
	}
	o.Proxy.SwallowAnswer(1 << 30)
	stop()
	if dead := Count(t, o.DialectFixture, `SELECT COUNT(*) FROM outbox_dead`); dead > 0 {
		t.Errorf("%d dead letters: a bad network cost attempts", dead)
	}
	delivered := map[string]bool{}
	for _, d := range broker.Stored() {
		delivered[d.Message.ID] = true
	}
	t.Logf("result: %d events, %d deliveries, %d faults, %d of them lost answers", n, len(broker.Stored()), faults, o.Proxy.Swallowed())
	if len(delivered) != n || o.Proxy.Swallowed() == 0 || faults < 8 {
		t.Errorf("%d of %d events were delivered, with %d faults, %d of them lost answers", len(delivered), n, faults, o.Proxy.Swallowed())
	}
}

// slowly lets a publish call take a while, so that there is something for the faults to meet.
func slowly(conformance.PublishCall) conformance.PublishFault {
	time.Sleep(2 * time.Millisecond) // what the call takes
	return conformance.PublishFault{}
}
