package crashtest

import (
	"context"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/lockstep-go/lockstep/dialect/postgres"
	"github.com/lockstep-go/lockstep/internal/dose"
	"github.com/lockstep-go/lockstep/internal/servers"
)

const partitions = 4

// scenario is one run: orders are written all along, and each kill ends a relay.
type scenario struct {
	orders int
	kills  []killPoint
	mutant bool
}

// outcome is what a run left behind.
type outcome struct {
	findings
	committed   int
	redelivered int // kills between answer and delete whose whole call was delivered again
}

func TestRelayIsKilledAndNothingIsLost(t *testing.T) {
	perKind := dose.Of(t, 8, 80)
	s := scenario{orders: dose.Of(t, 5_000, 50_000)}
	for range perKind {
		s.kills = append(s.kills, afterAnswer, afterAnswer, beforePublish, anywhere)
	}

	got := run(t, s)

	t.Logf("%d orders committed, %d kills, %d of them seen as re-deliveries after a kill between answer and delete: %+v",
		got.committed, len(s.kills), got.redelivered, got.findings)
	if got.committed != s.orders {
		t.Errorf("orders committed: got %d, want %d", got.committed, s.orders)
	}
	if got.lost != 0 || got.invented != 0 || got.disordered != 0 {
		t.Errorf("got %+v, want nothing lost, invented or disordered", got.findings)
	}
	if got.redelivered != 2*perKind {
		t.Errorf("kills between answer and delete that were seen as re-deliveries: got %d, want all %d", got.redelivered, 2*perKind)
	}
}

// The same run with a relay that deletes before the broker's answer: had it passed, the test above would prove nothing.
func TestARelayThatDeletesFirstIsCaught(t *testing.T) {
	got := run(t, scenario{orders: 500, kills: []killPoint{beforePublish, afterAnswer, beforePublish}, mutant: true})

	t.Logf("%+v, re-delivered %d", got.findings, got.redelivered)
	if got.lost == 0 {
		t.Error("a relay that deletes before the broker's answer lost nothing: the crash test cannot see a loss")
	}
	if got.redelivered != 0 {
		t.Errorf("re-deliveries of deleted events: got %d, want none", got.redelivered)
	}
}

func run(t *testing.T, s scenario) outcome {
	dsn, kafka := servers.PostgresSchema(t), servers.Kafka(t)
	topic := servers.KafkaTopic(t, partitions)
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	random := rand.New(rand.NewPCG(seed, 0))
	random.Shuffle(len(s.kills), func(i, j int) { s.kills[i], s.kills[j] = s.kills[j], s.kills[i] })

	dialect, err := postgres.Open(dsn, postgres.Config{})
	if err != nil {
		t.Fatal(err)
	}
	defer dialect.Close()
	if err := dialect.Migrate(t.Context()); err != nil {
		t.Fatal(err)
	}
	shop := newShop(t, dsn, dialect, topic)
	written := make(chan error, 1)
	go func() { written <- shop.write(t.Context(), seed) }()

	plan := relayPlan{DSN: dsn, Kafka: kafka, DeleteFirst: s.mutant}
	redelivered := killRelays(t, s, shop, plan, random)
	close(shop.tokens)
	if err := <-written; err != nil {
		t.Fatal(err)
	}
	plan.Point = nowhere
	last := startRelay(t, plan)
	waitUntilEmpty(t, shop)
	last.stop(t)

	ledger, err := consume(t.Context(), kafka, topic, partitions)
	if err != nil {
		t.Fatal(err)
	}
	committed, err := shop.orders(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return outcome{
		findings:    ledger.compare(committed),
		committed:   len(committed),
		redelivered: redelivered(ledger),
	}
}

// killRelays starts and kills one relay for each kill, while the shop writes its orders in as many portions and one
// more. It returns a function that counts the kills after an answer whose messages all arrived again.
func killRelays(t *testing.T, s scenario, shop *shop, plan relayPlan, random *rand.Rand) func(*ledger) int {
	t.Helper()
	portion := s.orders / (len(s.kills) + 1)
	var answered []arrival
	for _, point := range s.kills {
		plan.Point, plan.OnCall = point, 1+random.Int64N(2)
		relay := startRelay(t, plan)
		shop.release(portion)
		if point == anywhere {
			// Not to wait for something: the moment of the kill is the test's input.
			time.Sleep(time.Duration(random.Int64N(int64(150 * time.Millisecond))))
		} else if a := relay.arrival(t); point == afterAnswer {
			answered = append(answered, a)
		}
		relay.kill(t)
	}
	shop.release(s.orders - portion*len(s.kills))
	return func(l *ledger) int {
		n := 0
		for _, a := range answered {
			again := true
			for _, id := range a.IDs {
				again = again && l.deliveries[id] > 1
			}
			if again {
				n++
			}
		}
		return n
	}
}

// waitUntilEmpty returns when the relay has removed every event.
func waitUntilEmpty(t *testing.T, shop *shop) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	for tick := time.NewTicker(20 * time.Millisecond); ; <-tick.C {
		n, err := shop.pending(ctx)
		if err != nil {
			t.Fatalf("the outbox is not empty after a minute: %v", err)
		}
		if n == 0 {
			return
		}
	}
}
