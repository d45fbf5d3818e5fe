package crashtest

import (
	"context"
	"math/rand/v2"
	"path/filepath"
	"testing"
	"time"

	"github.com/lockstep-go/lockstep/internal/servers"
)

const partitions = 4

// site is a test's world but for its relays: a shop in a database of its own, and a topic.
type site struct {
	shop    *shop
	plan    relayPlan                              // of a relay that works here
	consume func(context.Context) (*ledger, error) // reads the whole topic
	random  *rand.Rand
	seed    uint64
}

// newSite is one with Kafka.
func newSite(t *testing.T, on database) *site {
	t.Helper()
	address, topic := servers.Kafka(t), servers.KafkaTopic(t, partitions)
	s := newSiteTo(t, on, topic, relayPlan{Database: on, Kafka: address})
	s.consume = func(ctx context.Context) (*ledger, error) { return consumeKafka(ctx, address, topic, partitions) }
	return s
}

// newSiteTo leaves out how the topic is read.
func newSiteTo(t *testing.T, on database, topic string, plan relayPlan) *site {
	t.Helper()
	s := &site{plan: plan, seed: rand.Uint64()}
	t.Logf("seed %d", s.seed)
	s.random = rand.New(rand.NewPCG(s.seed, 0))
	s.plan.DSN = newDatabase(t, on)
	s.shop = newShop(t, on, s.plan.DSN, topic)
	return s
}

func newDatabase(t *testing.T, on database) string {
	t.Helper()
	switch on {
	case onSQLite:
		return filepath.Join(t.TempDir(), "shop.db")
	case onMySQL:
		return servers.MySQLDatabase(t)
	case onMariaDB:
		return servers.MariaDBDatabase(t)
	default:
		return servers.PostgresSchema(t)
	}
}

// expireLease lets the term of a relay that was killed be over, as it is after LeaseTTL. Terms that are so short that nobody minds
// waiting for their end would end on a busy machine under relays that live.
func (s *site) expireLease(t *testing.T) {
	t.Helper()
	longAgo := `'2000-01-01'`
	if s.plan.Database == onSQLite {
		longAgo = `0`
	}
	if _, err := s.shop.db.ExecContext(t.Context(), `UPDATE outbox_lease SET expires_at = `+longAgo); err != nil {
		t.Fatal(err)
	}
}

// outcome is what a test left behind.
type outcome struct {
	findings
	committed int
	ledger    *ledger
}

// outcome lets a last relay, or the one that is running, deliver what is left, stops it, and compares.
func (s *site) outcome(t *testing.T, last *child) outcome {
	t.Helper()
	if last == nil {
		last = startRelay(t, s.plan)
	}
	s.awaitEmpty(t)
	last.stop(t)
	ledger, err := s.consume(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	committed, err := s.shop.orders(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return outcome{ledger.compare(committed), len(committed), ledger}
}

// expectPromises fails the test where an event is lost, invented or out of order.
func (o outcome) expectPromises(t *testing.T) {
	t.Helper()
	if o.committed == 0 {
		t.Error("no order was committed: nothing was tested")
	}
	if o.lost != 0 || o.invented != 0 || o.disordered != 0 {
		t.Errorf("got %+v, want nothing lost, invented or disordered", o.findings)
	}
}

// awaitEmpty returns when the relay has removed every event.
func (s *site) awaitEmpty(t *testing.T) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	for tick := time.NewTicker(20 * time.Millisecond); ; <-tick.C {
		n, err := s.shop.pending(ctx)
		if err != nil {
			t.Fatalf("the outbox is not empty after %v: %v", patience, err)
		}
		if n == 0 {
			return
		}
	}
}
