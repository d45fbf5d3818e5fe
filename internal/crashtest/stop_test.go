package crashtest

import (
	"strings"
	"testing"
	"time"

	"github.com/lockstep-go/lockstep/internal/dose"
)

// Relays are replaced by SIGTERM while orders are written: the next one stands by already, or starts afterwards.
func TestRelaysAreStoppedUnderLoadWithoutADuplicate(t *testing.T) {
	for on, small := range map[database]int{onPostgres: 12, onSQLite: 12, onMySQL: 8, onMariaDB: 4} {
		t.Run(string(on), func(t *testing.T) { testStops(t, on, dose.Of(t, small, 100)) })
	}
}

func testStops(t *testing.T, on database, stops int) {
	t.Helper()
	site := newSite(t, on)
	site.plan.Slow = 20 * time.Millisecond // so that SIGTERM finds calls in flight
	site.plan.LeaseTTL = 20 * time.Second  // no term ends before its relay does
	closing := site.shop.trade(t, site.seed, time.Millisecond)

	midway := 0
	relay := startRelay(t, site.plan)
	for range stops {
		relay.await(t, stored, time.Time{})
		var next *child
		if site.random.IntN(2) == 0 {
			next = startRelay(t, site.plan)
		}
		// Not to wait for something: the moment of the signal is the test's input.
		time.Sleep(time.Duration(site.random.Int64N(int64(100 * time.Millisecond))))
		relay.await(t, begun, time.Now())
		relay.stop(t)
		if relay.await(t, stopping, time.Time{}).N > 0 {
			midway++
		}
		relay.expectNoAttempts(t)
		if next == nil {
			next = startRelay(t, site.plan)
		}
		relay = next
	}
	closing()
	got := site.outcome(t, relay)

	t.Logf("result: %d orders committed, %d stops, %d of them with publish calls in flight: %+v", got.committed, stops, midway, got.findings)
	got.expectPromises(t)
	if got.duplicates != 0 {
		t.Errorf("duplicates after %d graceful stops: got %d, want none", stops, got.duplicates)
	}
	if midway < stops/2 {
		t.Errorf("stops with a publish call in flight: got %d, want at least %d", midway, stops/2)
	}
}

// The broker answers a while after SIGTERM: the relay waits for it, acknowledges, and releases its lease.
func TestAStoppedRelayFinishesWhatIsInFlight(t *testing.T) {
	site := newSite(t, onPostgres)
	site.shop.open(t.Context(), site.seed)
	site.shop.release(200)
	site.shop.close(t)
	site.plan.Point, site.plan.OnCall = untilStopped, 1

	relay := startRelay(t, site.plan)
	inFlight := relay.await(t, arrived, time.Time{}).IDs
	relay.stop(t)

	for _, id := range inFlight {
		if left := site.count(t, `SELECT count(*) FROM outbox WHERE id = $1`, id); left != 0 {
			t.Errorf("event %s was delivered, and is still in the outbox", id)
		}
	}
	if held := site.count(t, `SELECT count(*) FROM outbox_lease WHERE holder <> ''`); held != 0 {
		t.Error("the lease is not released")
	}
	site.plan.Point = nowhere
	got := site.outcome(t, nil)
	got.expectPromises(t)
	if got.duplicates != 0 {
		t.Errorf("duplicates: got %d, want none", got.duplicates)
	}
}

// The broker does not answer within the drain's time: the relay says what it leaves, and gives the lease to the next.
func TestADrainThatTakesTooLongSaysWhatIsLeft(t *testing.T) {
	site := newSite(t, onPostgres)
	site.shop.open(t.Context(), site.seed)
	site.shop.release(50)
	site.shop.close(t)
	plan := site.plan
	plan.Point, plan.OnCall, plan.DrainTimeout = afterAnswer, 1, 200*time.Millisecond

	relay := startRelay(t, plan)
	relay.await(t, arrived, time.Time{})
	relay.terminate(t)
	if err := relay.wait(); err == nil {
		t.Error("a relay whose drain took too long ended with exit code 0")
	}
	got, want := relay.await(t, ended, time.Time{}).Text, "1 publish calls unanswered"
	if !strings.Contains(got, want) {
		t.Errorf("Run returned %q, want an error with %q", got, want)
	}
	if held := site.count(t, `SELECT count(*) FROM outbox_lease WHERE holder <> ''`); held != 0 {
		t.Error("the lease is not released")
	}
	site.outcome(t, nil).expectPromises(t)
}

func (s *site) count(t *testing.T, query string, args ...any) (n int) {
	t.Helper()
	if err := s.shop.db.QueryRowContext(t.Context(), query, args...).Scan(&n); err != nil {
		t.Fatalf("%s: %v", query, err)
	}
	return n
}
