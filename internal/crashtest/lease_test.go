package crashtest

import (
	"fmt"
	"net/url"
	"testing"
	"time"

	"github.com/lockstep-go/lockstep/internal/dose"
)

// leaseTTL is the default of core.RelayConfig.
const leaseTTL = 5 * time.Second

func TestTheLeaseOfAKilledRelayIsTakenOverInTime(t *testing.T) {
	rounds := dose.Of(t, 2, 20)
	testTakeover(t, rounds, leaseTTL+time.Second, func(relay *child) time.Time {
		killed := time.Now()
		relay.kill(t)
		return killed
	})
}

func TestTheLeaseOfAStoppedRelayIsTakenOverInTime(t *testing.T) {
	rounds := dose.Of(t, 10, 100)
	testTakeover(t, rounds, 200*time.Millisecond, func(relay *child) time.Time {
		relay.stop(t)
		return relay.await(t, released, time.Time{}).At
	})
}

// testTakeover ends the relay that leads, again and again, while another stands by, which has to lead within limit of
// the time that end returns, on a machine that lets it.
func testTakeover(t *testing.T, rounds int, limit time.Duration, end func(*child) time.Time) {
	site := newSite(t, onPostgres)
	closing := site.shop.trade(t, site.seed, 5*time.Millisecond)
	relay := startPlainRelay(t, site.plan)
	relay.await(t, stored, time.Time{})
	longest, pulse := time.Duration(0), startPulse(t)
	for round := range rounds {
		name := fmt.Sprintf("standby %d of %s", round, site.shop.topic)
		plan := site.plan
		plan.DSN += "&application_name=" + url.QueryEscape(name)
		next := startPlainRelay(t, plan)
		site.awaitSession(t, name)
		// Not to wait for something: it sets where in the standby's round the relay ends.
		time.Sleep(time.Duration(site.random.Int64N(int64(150 * time.Millisecond))))
		if _, leads, _ := next.find(leading, time.Time{}); leads {
			t.Fatal("two relays lead at once")
		}
		ended := end(relay)
		took := pulse.without(ended, next.await(t, leading, time.Time{}).At)
		longest = max(longest, took)
		if took > limit {
			t.Errorf("takeover: took %v, want at most %v", took, limit)
		}
		next.await(t, stored, time.Time{})
		relay = next
	}
	closing()
	t.Logf("result: %d takeovers, the longest took %v, allowed are %v", rounds, longest, limit)
	site.outcome(t, relay).expectPromises(t)
}

// awaitSession waits until somebody of that application_name is connected: the standby looks at the lease from then on.
func (s *site) awaitSession(t *testing.T, name string) {
	t.Helper()
	deadline := time.Now().Add(patience)
	for tick := time.NewTicker(5 * time.Millisecond); time.Now().Before(deadline); <-tick.C {
		if s.count(t, `SELECT count(*) FROM pg_stat_activity WHERE application_name = $1`, name) > 0 {
			return
		}
	}
	t.Fatalf("%s is not connected after %v", name, patience)
}
