package crashtest

import (
	"context"
	"testing"
	"time"

	amqp091 "github.com/rabbitmq/amqp091-go"

	"github.com/lockstep-go/lockstep/core"
	"github.com/lockstep-go/lockstep/internal/dose"
)

// inboxScenario is one run: orders are written all along, consumers and relays are killed.
type inboxScenario struct {
	on                        database
	site                      func(*testing.T, database) *site
	consumerKills, relayKills int
	points                    []killPoint
	mutant                    bool
}

var rabbitPoints = []killPoint{midEffect, midEffect, afterCommit, anywhere}

// Orders that are counted by a consumer, once each, while relays and consumers are killed: outbox, broker and inbox are
// exactly once in effect.
func TestConsumersAreKilledAndEveryEffectHappensOnce(t *testing.T) {
	for on, small := range map[database]int{onPostgres: 4, onSQLite: 4, onMySQL: 4, onMariaDB: 4} {
		t.Run(string(on), func(t *testing.T) {
			got := runInbox(t, inboxScenario{
				on: on, site: newRabbitSite, consumerKills: dose.Of(t, small, 100), relayKills: dose.Of(t, 1, 20), points: rabbitPoints,
			})
			got.expectOnce(t)
		})
	}
	t.Run("sqlite from kafka", func(t *testing.T) { // whose dead members keep their partitions for 6 s
		got := runInbox(t, inboxScenario{
			on: onSQLite, site: newSite, consumerKills: dose.Of(t, 1, 10), relayKills: dose.Of(t, 1, 5), points: []killPoint{midEffect, anywhere},
		})
		got.expectOnce(t)
	})
}

// The same with an inbox that remembers nothing: had it passed, the test above would prove nothing.
func TestAConsumerWithoutAnInboxIsCaught(t *testing.T) {
	got := runInbox(t, inboxScenario{
		on: onSQLite, site: newRabbitSite, consumerKills: 2, points: []killPoint{afterCommit}, mutant: true,
	})
	t.Logf("result: %+v", got)
	if got.twice == 0 {
		t.Error("without an inbox no effect happened twice: the test cannot see one")
	}
}

// counted is what the consumers left in the database.
type effectCounts struct{ orders, none, once, twice int }

func (c effectCounts) expectOnce(t *testing.T) {
	t.Helper()
	t.Logf("result: %+v", c)
	if c.orders == 0 || c.none != 0 || c.twice != 0 || c.once != c.orders {
		t.Errorf("got %+v, want every order counted once", c)
	}
}

func runInbox(t *testing.T, s inboxScenario) effectCounts {
	t.Helper()
	site := s.site(t, s.on)
	prepareInbox(t, site)
	site.plan.InFlight, site.plan.LeaseTTL = inFlight, 500*time.Millisecond
	consumer := site.plan
	consumer.Consumer = &consumerPlan{Topic: site.shop.topic, Group: site.shop.topic + "_counter", Forgetful: s.mutant}
	site.shop.open(t.Context(), site.seed)
	relay := startRelay(t, site.plan)
	const portion = 40
	relaysKilled := 0
	for k := range s.consumerKills {
		plan := consumer
		plan.Point, plan.OnCall = s.points[k%len(s.points)], 1+site.random.Int64N(20)
		// Before the child: one that stops in the midst of a transaction keeps SQLite's writers waiting.
		site.shop.release(portion)
		child := startRelay(t, plan)
		if plan.Point == anywhere {
			child.await(t, handling, time.Time{})
			// Not to wait for something: the moment of the kill is the test's input.
			time.Sleep(time.Duration(site.random.Int64N(int64(100 * time.Millisecond))))
		} else {
			child.await(t, arrived, time.Time{})
		}
		child.kill(t)
		child.expectNoAttempts(t)
		if (k+1)*s.relayKills/s.consumerKills > relaysKilled {
			relay.kill(t)
			relaysKilled++
			relay = startRelay(t, site.plan)
		}
	}
	if relaysKilled != s.relayKills {
		t.Errorf("relays killed: got %d, want %d", relaysKilled, s.relayKills)
	}
	last := startRelay(t, consumer)
	site.shop.release(portion)
	site.shop.close(t)
	site.awaitEmpty(t)
	relay.stop(t)
	site.awaitEffects(t)
	site.awaitConsumed(t)
	last.stop(t)
	last.expectNoAttempts(t)
	return site.effects(t)
}

// prepareInbox gives each order a counter, and makes the inbox.
func prepareInbox(t *testing.T, s *site) {
	t.Helper()
	d, err := s.plan.Database.open(s.plan.DSN)
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	if err := d.(core.InboxStore).MigrateInbox(t.Context()); err != nil {
		t.Fatal(err)
	}
	if _, err := s.shop.db.ExecContext(t.Context(), `ALTER TABLE orders ADD COLUMN effects int NOT NULL DEFAULT 0`); err != nil {
		t.Fatal(err)
	}
}

func (s *site) effects(t *testing.T) (c effectCounts) {
	t.Helper()
	err := s.shop.db.QueryRowContext(t.Context(), `SELECT count(*), count(CASE WHEN effects = 0 THEN 1 END),
  count(CASE WHEN effects = 1 THEN 1 END), count(CASE WHEN effects > 1 THEN 1 END) FROM orders`).Scan(&c.orders, &c.none, &c.once, &c.twice)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// awaitEffects returns when each order was counted.
func (s *site) awaitEffects(t *testing.T) {
	t.Helper()
	s.eventually(t, "orders are not counted", func() int { return s.effects(t).none })
}

// awaitConsumed returns when RabbitMQ's queue, duplicates included, has nothing that is yet to be delivered. A stop of the
// consumer then settles the rest, or gives it back; either way it changes nothing.
func (s *site) awaitConsumed(t *testing.T) {
	t.Helper()
	if s.plan.RabbitMQ == "" {
		return
	}
	s.eventually(t, "messages are in the queue", func() (n int) {
		onRabbitMQ(t, s.plan.RabbitMQ, func(c *amqp091.Channel) error {
			q, err := c.QueueDeclarePassive(s.shop.topic, true, false, false, false, nil)
			n = q.Messages
			return err
		})
		return n
	})
}

func (s *site) eventually(t *testing.T, what string, left func() int) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for {
		n := left()
		if n == 0 {
			return
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			t.Fatalf("%d %s, after %v", n, what, patience)
		}
	}
}
