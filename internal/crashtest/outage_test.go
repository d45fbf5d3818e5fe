package crashtest

import (
	"context"
	"database/sql"
	"sync"
	"testing"
	"time"

	"github.com/lockstep-go/lockstep/broker/kafka"
	"github.com/lockstep-go/lockstep/core"
	"github.com/lockstep-go/lockstep/internal/dose"
	"github.com/lockstep-go/lockstep/internal/servers"
)

// resumeWithin is the time from a control client's first success to the relay's.
const resumeWithin = 2 * time.Second

// steady is how much a relay's memory may grow during an outage: what a garbage collector leaves lying about.
const steady = 16 << 20

// A server goes away under load, by kill -9 or by standing still without a word; then it comes back. It is away for longer
// than a lease's term; in the full dose for longer than any time limit of the relay, while more orders are committed than
// the relay takes into its memory.
func TestAnOutageCostsNothingButTime(t *testing.T) {
	away, every := dose.Of(t, 8*time.Second, 10*time.Minute), dose.Of(t, 2*time.Millisecond, 20*time.Millisecond)
	for _, test := range []struct{ name, server, harm, cure string }{
		{"the broker is killed", "kafka", "kill", "up"},
		{"the broker is silent", "kafka", "pause", "resume"},
		{"the database is killed", "postgres", "kill", "up"},
		{"the database is silent", "postgres", "pause", "resume"},
	} {
		t.Run(test.name, func(t *testing.T) {
			site, pulse := newSite(t, onPostgres), startPulse(t)
			controls := controlClients(t, test.server, site)
			site.shop.tolerant = test.server == "postgres"
			closing := site.shop.trade(t, site.seed, every)
			relay := startPlainRelay(t, site.plan)
			relay.await(t, stored, time.Time{})

			servers.Control(t, test.harm, test.server)
			before := relay.memory(t)
			committed := 0
			if test.server != "postgres" {
				committed = site.count(t, `SELECT count(*) FROM orders`)
			}
			time.Sleep(away) // the outage itself
			after := relay.memory(t)
			if test.server != "postgres" {
				if now := site.count(t, `SELECT count(*) FROM orders`); now == committed {
					t.Error("the application committed nothing during the outage")
				}
			}
			curing := time.Now()
			back := make(chan time.Time, 1)
			go func() { back <- firstSuccess(controls) }()
			servers.Control(t, test.cure, test.server)
			controlled := <-back
			resumed := relay.await(t, stored, curing).At

			t.Logf("result: away for %v; resumed %v after the control client; %d MiB before the outage, %d after it",
				away, resumed.Sub(controlled).Round(time.Millisecond), before.resident>>20, after.resident>>20)
			if took := pulse.without(controlled, resumed); took > resumeWithin {
				t.Errorf("delivery resumed %v after a control client succeeded, want at most %v", took, resumeWithin)
			}
			if grown := after.resident - before.peak; grown > steady {
				t.Errorf("the relay's memory grew by %d MiB during the outage, want at most %d", grown>>20, steady>>20)
			}
			closing()
			got := site.outcome(t, relay)
			relay.expectNoAttempts(t)
			got.expectPromises(t)
		})
	}
}

// Servers are killed and frozen under a relay, one after another, each for a moment; each time delivery goes on by
// itself.
func TestServersAreKilledUnderARelay(t *testing.T) {
	site := newSite(t, onPostgres)
	site.shop.tolerant = true
	closing := site.shop.trade(t, site.seed, 2*time.Millisecond)
	relay := startRelay(t, site.plan)
	relay.await(t, stored, time.Time{})
	type blow struct{ server, harm, cure string }
	blows := []blow{
		{"kafka", "kill", "up"}, {"postgres", "kill", "up"}, {"kafka", "pause", "resume"}, {"postgres", "pause", "resume"},
	}
	for range dose.Of(t, 1, 10) {
		site.random.Shuffle(len(blows), func(i, j int) { blows[i], blows[j] = blows[j], blows[i] })
		for _, b := range blows {
			servers.Control(t, b.harm, b.server)
			time.Sleep(time.Duration(site.random.Int64N(int64(3 * time.Second)))) // the outage itself
			curing := time.Now()
			servers.Control(t, b.cure, b.server)
			relay.await(t, stored, curing)
		}
	}
	closing()
	got := site.outcome(t, relay)
	t.Logf("result: %d orders committed: %+v", got.committed, got.findings)
	relay.expectNoAttempts(t)
	got.expectPromises(t)
}

// firstSuccess tries each of controls until one succeeds, each time within a second, and returns when that was.
func firstSuccess(controls []func(context.Context) error) time.Time {
	ctx, done := context.WithCancel(context.Background())
	defer done()
	first := make(chan time.Time, len(controls))
	var group sync.WaitGroup
	for _, try := range controls {
		group.Go(func() {
			for ctx.Err() == nil {
				ctx, cancel := context.WithTimeout(ctx, time.Second)
				err := try(ctx)
				cancel()
				if err == nil {
					first <- time.Now()
					done()
				}
				time.Sleep(20 * time.Millisecond) // the pace of a client that tries again
			}
		})
	}
	group.Wait()
	return <-first
}

// controlClients returns things to try at a server, through the library that the relay uses: over a connection of its
// own each time, and over one that has seen the outage.
func controlClients(t *testing.T, server string, site *site) []func(context.Context) error {
	t.Helper()
	if server == "postgres" {
		ask := func(ctx context.Context) error {
			db, err := sql.Open("postgres", site.plan.DSN+"&connect_timeout=1")
			if err != nil {
				return err
			}
			defer db.Close()
			_, err = db.ExecContext(ctx, `SELECT 1`)
			return err
		}
		return []func(context.Context) error{ask}
	}
	topic := servers.KafkaTopic(t, partitions)
	open := func() *kafka.Broker {
		broker, err := kafka.Open(kafka.Config{Brokers: []string{site.plan.Kafka}})
		if err != nil {
			t.Error(err)
		}
		return broker
	}
	// In a term, as the relay publishes: the coordinator that a term needs is back later than the partitions are.
	tell := func(ctx context.Context, broker *kafka.Broker, term core.Term) error {
		publisher, err := broker.ForTerm(ctx, term)
		if err != nil {
			return err
		}
		return publisher.Publish(ctx, []core.Message{{ID: core.NewID(), Topic: topic}}) // each time to another partition
	}
	old, outbox := open(), core.NewID()
	t.Cleanup(func() { old.Close() })
	epoch := int64(1)
	if err := tell(t.Context(), old, core.Term{Outbox: outbox, Epoch: epoch}); err != nil {
		t.Fatal(err)
	}
	return []func(context.Context) error{
		func(ctx context.Context) error {
			epoch++
			return tell(ctx, old, core.Term{Outbox: outbox, Epoch: epoch})
		},
		func(ctx context.Context) error {
			broker := open()
			defer broker.Close()
			return tell(ctx, broker, core.Term{Outbox: core.NewID(), Epoch: 1})
		},
	}
}
