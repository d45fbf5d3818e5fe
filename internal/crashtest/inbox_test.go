package crashtest

import (
	"context"
	"slices"
	"testing"
	"time"

	amqp091 "github.com/rabbitmq/amqp091-go"
	kafkago "github.com/segmentio/kafka-go"

	"github.com/lockstep-go/lockstep/core"
	"github.com/lockstep-go/lockstep/internal/dose"
)

// inboxScenario is one run: orders are written all along, consumers and relays are killed.
type inboxScenario struct {
	on         database
	site       func(*testing.T, database) *site
	kills      map[killPoint]int // of consumers
	relayKills int
	mutant     bool
}

// Orders that are counted by a consumer, once each, while relays and consumers are killed: outbox, broker and inbox are
// exactly once in effect.
func TestConsumersAreKilledAndEveryEffectHappensOnce(t *testing.T) {
	kills := map[killPoint]int{midEffect: dose.Of(t, 2, 100), afterCommit: dose.Of(t, 1, 25), anywhere: dose.Of(t, 1, 25)}
	for _, on := range []database{onPostgres, onMySQL, onMariaDB, onSQLite} {
		t.Run(string(on), func(t *testing.T) {
			testConsumerKills(t, inboxScenario{on: on, site: newRabbitSite, kills: kills, relayKills: dose.Of(t, 1, 20)})
		})
	}
	kills = map[killPoint]int{midEffect: dose.Of(t, 1, 10), anywhere: dose.Of(t, 0, 5)}
	// Kafka's dead members keep their partitions for 6 s: one database in the small dose.
	for _, on := range dose.Of(t, []database{onSQLite}, []database{onSQLite, onPostgres}) {
		t.Run(string(on)+" from kafka", func(t *testing.T) {
			testConsumerKills(t, inboxScenario{on: on, site: newSite, kills: kills, relayKills: dose.Of(t, 1, 5)})
		})
	}
}

func testConsumerKills(t *testing.T, s inboxScenario) {
	got := runInbox(t, s)
	got.expectOnce(t)
	if got.uncommitted != s.kills[midEffect] || got.committed != s.kills[afterCommit] {
		t.Errorf("consumers killed: %d whose effect was made and not committed, and %d whose effect was; want %d and %d",
			got.uncommitted, got.committed, s.kills[midEffect], s.kills[afterCommit])
	}
}

// The same with an inbox that remembers nothing: had it passed, the test above would prove nothing.
func TestAConsumerWithoutAnInboxIsCaught(t *testing.T) {
	got := runInbox(t, inboxScenario{
		on: onSQLite, site: newRabbitSite, kills: map[killPoint]int{afterCommit: 2}, mutant: true,
	})
	t.Logf("result: %+v", got)
	if got.twice == 0 {
		t.Error("without an inbox no effect happened twice: the test cannot see one")
	}
}

// effectCounts is what the consumers left in the database.
type effectCounts struct {
	orders, none, once, twice int
	// What the database said of the effects in whose midst, and behind whose COMMIT, a consumer was killed.
	uncommitted, committed int
}

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
	points := site.shuffled(s.kills)
	relaysKilled := 0
	var killed effectCounts
	for k, point := range points {
		plan := consumer
		plan.Point, plan.OnCall = point, 1+site.random.Int64N(20)
		// Before the child: one that stops in the midst of a transaction keeps SQLite's writers waiting.
		site.shop.release(portion)
		site.killConsumer(t, plan, &killed)
		if (k+1)*s.relayKills/len(points) > relaysKilled {
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
	got := site.effects(t)
	got.uncommitted, got.committed = killed.uncommitted, killed.committed
	return got
}

// shuffled is each point as often as it says, in the order of the site's seed.
func (s *site) shuffled(kills map[killPoint]int) (points []killPoint) {
	for _, point := range []killPoint{midEffect, afterCommit, anywhere} {
		points = append(points, slices.Repeat([]killPoint{point}, kills[point])...)
	}
	s.random.Shuffle(len(points), func(i, j int) { points[i], points[j] = points[j], points[i] })
	return points
}

// killConsumer runs a consumer until it is at its plan's point, kills it, and asks the database what has become of the effect.
func (s *site) killConsumer(t *testing.T, plan relayPlan, killed *effectCounts) {
	t.Helper()
	child := startRelay(t, plan)
	var at report
	if plan.Point == anywhere {
		child.await(t, handling, time.Time{})
		// Not to wait for something: the moment of the kill is the test's input.
		time.Sleep(time.Duration(s.random.Int64N(int64(100 * time.Millisecond))))
	} else {
		at = child.await(t, arrived, time.Time{})
	}
	child.kill(t)
	child.expectNoAttempts(t)
	for _, id := range at.IDs {
		n := 0
		query := s.shop.like.arguments.Replace(`SELECT effects FROM orders WHERE id = $1`)
		if err := s.shop.db.QueryRowContext(t.Context(), query, id).Scan(&n); err != nil {
			t.Fatal(err)
		}
		switch {
		case plan.Point == midEffect && n == 0:
			killed.uncommitted++
		case plan.Point == afterCommit && n > 0:
			killed.committed++
		default:
			t.Errorf("a consumer was killed %s, and the effect is there %d times", plan.Point, n)
		}
	}
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

// awaitConsumed returns when nothing, duplicates included, is yet to be delivered from the queue, or settled of the topic. A stop of
// the consumer then settles the rest, or gives it back; either way it changes nothing.
func (s *site) awaitConsumed(t *testing.T) {
	t.Helper()
	if s.plan.RabbitMQ == "" {
		s.eventually(t, "records are not settled", func() int { return s.unsettled(t) })
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

// unsettled is how far the group's offsets are from the ends of the topic's partitions.
func (s *site) unsettled(t *testing.T) (n int) {
	t.Helper()
	client := &kafkago.Client{Addr: kafkago.TCP(s.plan.Kafka), Transport: &kafkago.Transport{}}
	defer client.Transport.(*kafkago.Transport).CloseIdleConnections()
	topic, group := s.shop.topic, s.shop.topic+"_counter"
	var all []int
	var ask []kafkago.OffsetRequest
	for p := range partitions {
		all, ask = append(all, p), append(ask, kafkago.LastOffsetOf(p))
	}
	ends, err := client.ListOffsets(t.Context(), &kafkago.ListOffsetsRequest{Topics: map[string][]kafkago.OffsetRequest{topic: ask}})
	if err != nil {
		t.Fatal(err)
	}
	committed, err := client.OffsetFetch(t.Context(), &kafkago.OffsetFetchRequest{GroupID: group, Topics: map[string][]int{topic: all}})
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range ends.Topics[topic] {
		n += int(p.LastOffset)
	}
	for _, p := range committed.Topics[topic] {
		n -= max(0, int(p.CommittedOffset))
	}
	return n
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
