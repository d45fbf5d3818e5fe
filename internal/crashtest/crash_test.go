package crashtest

import (
	"testing"
	"time"

	"github.com/lockstep-go/lockstep/internal/dose"
)

// inFlight is the most events that a relay of the kill test has in flight: what one kill may have sent again.
const inFlight = 500

// scenario is one run: orders are written all along, and each kill ends a relay.
type scenario struct {
	on     database
	site   func(*testing.T, database) *site
	orders int
	kills  []killPoint
	mutant bool
}

func TestRelayIsKilledAndNothingIsLost(t *testing.T) {
	for on, small := range map[database]int{onPostgres: 6, onSQLite: 6, onMySQL: 4, onMariaDB: 2} {
		t.Run(string(on), func(t *testing.T) { testKills(t, on, newSite, dose.Of(t, small, 25)) })
	}
	t.Run("sqlite to rabbitmq", func(t *testing.T) { testKills(t, onSQLite, newRabbitSite, dose.Of(t, 2, 25)) })
}

func testKills(t *testing.T, on database, site func(*testing.T, database) *site, perKind int) {
	s := scenario{on: on, site: site, orders: dose.Of(t, 2_000, 50_000)}
	for range perKind {
		s.kills = append(s.kills, afterAnswer, afterAnswer, beforePublish, anywhere)
	}

	got, redelivered := run(t, s)

	t.Logf("result: %d orders committed, %d kills, %d of them seen as re-deliveries after a kill between answer and delete: %+v",
		got.committed, len(s.kills), redelivered, got.findings)
	if got.committed != s.orders {
		t.Errorf("orders committed: got %d, want %d", got.committed, s.orders)
	}
	got.expectPromises(t)
	if redelivered != 2*perKind {
		t.Errorf("kills between answer and delete that were seen as re-deliveries: got %d, want all %d", redelivered, 2*perKind)
	}
	if limit := len(s.kills) * inFlight; got.duplicates > limit {
		t.Errorf("duplicates: got %d, want at most the %d that were in flight at the kills", got.duplicates, limit)
	}
}

// The same run with a relay that deletes before the broker's answer: had it passed, the test above would prove nothing.
func TestARelayThatDeletesFirstIsCaught(t *testing.T) {
	got, redelivered := run(t, scenario{
		on: onPostgres, site: newSite, orders: 500, kills: []killPoint{beforePublish, afterAnswer, beforePublish}, mutant: true,
	})

	t.Logf("result: %+v, re-delivered %d", got.findings, redelivered)
	if got.lost == 0 {
		t.Error("a relay that deletes before the broker's answer lost nothing: the crash test cannot see a loss")
	}
	if redelivered != 0 {
		t.Errorf("re-deliveries of deleted events: got %d, want none", redelivered)
	}
}

// run also returns how many kills after an answer had their call's messages delivered again, every one.
func run(t *testing.T, s scenario) (got outcome, redelivered int) {
	t.Helper()
	site := s.site(t, s.on)
	site.random.Shuffle(len(s.kills), func(i, j int) { s.kills[i], s.kills[j] = s.kills[j], s.kills[i] })
	site.plan.DeleteFirst = s.mutant
	site.plan.InFlight = inFlight
	site.shop.open(t.Context(), site.seed)

	answered := killRelays(t, s, site)
	site.shop.close(t)
	got = site.outcome(t, nil)
	for _, r := range answered {
		again := true
		for _, id := range r.IDs {
			again = again && got.ledger.deliveries[id] > 1
		}
		if again {
			redelivered++
		}
	}
	return got, redelivered
}

// killRelays starts and kills one relay for each kill, while the shop writes its orders in as many portions and one
// more. It returns the reports of those that were killed after an answer.
func killRelays(t *testing.T, s scenario, site *site) (answered []report) {
	t.Helper()
	portion := s.orders / (len(s.kills) + 1)
	for _, point := range s.kills {
		plan := site.plan
		plan.Point, plan.OnCall = point, 1+site.random.Int64N(2)
		relay := startRelay(t, plan)
		site.shop.release(portion)
		if point == anywhere {
			relay.await(t, leading, time.Time{})
			// Not to wait for something: the moment of the kill is the test's input.
			time.Sleep(time.Duration(site.random.Int64N(int64(150 * time.Millisecond))))
		} else if r := relay.await(t, arrived, time.Time{}); point == afterAnswer {
			answered = append(answered, r)
		}
		relay.kill(t)
		site.expireLease(t)
	}
	site.shop.release(s.orders - portion*len(s.kills))
	return answered
}
