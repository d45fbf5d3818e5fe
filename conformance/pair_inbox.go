package conformance

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/lockstep-go/lockstep/core"
)

var pairInboxChecks = []check[pair]{
	{"pair-inbox", "outbox, broker and inbox together are exactly once in effect, whatever of them is killed", checkPairInbox},
}

var pairInboxRestartChecks = []check[pair]{
	{"pair-inbox-restart", "they are that, too, while the broker is killed and started again", checkPairInboxRestart},
}

// counter is a consumer of the topic. It knows how far it has acknowledged, and forgets a part of that when it dies, as a
// broker delivers again what was not acknowledged. Its effect is an event that is due in a year, in the database of the
// outbox: every database has those, and counts them.
type counter struct {
	consumer
	s            *scenario
	random       *rand.Rand
	acknowledged int
	deaths       int
	effects      map[string]int // that were committed, by the order's id
}

const inAYear = 365 * 24 * time.Hour

// mostDeaths ends the dying in one round.
const mostDeaths = 6

// checkPairInbox cuts the broker's connections in one round, and takes it away in the next: where the fixture can.
func checkPairInbox(ctx context.Context, p pair) error {
	return p.inboxUnder(ctx, 4, func(s *scenario, round int) (heal func(), err error) {
		if round%2 == 1 && s.broker.Outage != nil {
			return harm("begin the outage", s.broker.Outage)
		}
		if s.broker.Cut != nil {
			s.broker.Cut()
		}
		return func() {}, nil
	})
}

func checkPairInboxRestart(ctx context.Context, p pair) error {
	return p.inboxUnder(ctx, 1, func(s *scenario, _ int) (heal func(), err error) {
		if err := s.broker.Restart(); err != nil {
			return nil, fmt.Errorf("restart the broker: %w", err)
		}
		return func() {}, nil
	})
}

// inboxUnder does harm to the broker under a relay that publishes, kills the relay under the harm, and has a consumer that dies
// now and then settle what arrived: once a round. In the end each order has had its effect once.
func (p pair) inboxUnder(ctx context.Context, rounds int, strike func(s *scenario, round int) (heal func(), err error)) error {
	c, err := p.consumer(ctx)
	if err != nil {
		return err
	}
	return p.scenarioOf(ctx, func(s *scenario) error {
		s.config.LeaseTTL = time.Second // which each killed relay's successor waits for
		count := &counter{consumer: c, s: s, random: s.randomOf(1), effects: map[string]int{}}
		relay := s.startRelay(nil)
		const perRound = 15
		for round := range s.times(rounds) {
			before := relay.publishes.Load() // the relay may have sent all of them when the last one is committed
			if _, err := s.commitSeries(fmt.Sprintf("k%d", round%2), 1+round/2*perRound, perRound); err != nil {
				return err
			}
			if err := s.await("a relay that publishes", func() bool { return relay.publishes.Load() > before }); err != nil {
				return err
			}
			heal, err := strike(s, round)
			if err != nil {
				return err
			}
			err = relay.killed(s.ctx)
			if err == nil {
				relay = s.startRelay(nil)
			}
			heal()
			if err != nil {
				return err
			}
			if err := s.awaitStats("an outbox with effects and nothing else", func(st core.Stats) bool { return st.Pending.N == 0 }); err != nil {
				return err
			}
			msgs, err := s.arrived()
			if err != nil {
				return err
			}
			if err := count.live(msgs); err != nil {
				return err
			}
		}
		if err := s.stopRelays(); err != nil {
			return err
		}
		return count.expectOnce()
	})
}

// arrived reads at least as many messages as were committed, and, where that takes time, no more of the duplicates.
func (s *scenario) arrived() ([]core.Message, error) {
	if s.broker.Stored != nil {
		return s.broker.Stored(s.ctx)
	}
	return s.read(len(s.committed))
}

// live settles msgs, in some lives.
func (c *counter) live(msgs []core.Message) error {
	deaths := 0
	for c.acknowledged < len(msgs) {
		last := c.acknowledged == len(msgs)-1
		dies := deaths < mostDeaths && (c.random.IntN(4) == 0 || last && c.deaths+deaths == 0) // once at least
		committed, err := c.settle(msgs[c.acknowledged], dies && c.random.IntN(2) == 0)
		switch {
		case err != nil && c.Dialect.Retryable(err):
		case err != nil:
			return err
		case dies:
			deaths++
			c.acknowledged -= c.random.IntN(c.acknowledged + 1) // what was committed is delivered again
		case committed:
			c.acknowledged++
		}
	}
	c.deaths += deaths
	return nil
}

// settle makes m's effect, where it is new, and commits, unless the consumer dies before.
func (c *counter) settle(m core.Message, diesBefore bool) (committed bool, err error) {
	tx, rollback, err := c.begin(c.s.ctx)
	if err != nil {
		return false, err
	}
	defer rollback()
	first, err := c.box.Once(c.s.ctx, tx, billing, m.ID)
	if err == nil && first {
		err = c.s.outbox.Enqueue(c.s.ctx, tx, core.Message{
			ID: core.NewID(), Topic: c.s.broker.Topic, Headers: map[string]string{"of": m.ID}, NotBefore: time.Now().Add(inAYear),
		})
	}
	if err != nil || diesBefore {
		return false, err
	}
	if err := tx.Commit(); err != nil {
		return false, fmt.Errorf("commit: %w", err)
	}
	if first {
		c.effects[m.ID]++
	}
	return true, nil
}

// expectOnce reads the topic from its beginning once more, as if every acknowledgement had been lost, and counts the
// effects.
func (c *counter) expectOnce() error {
	msgs, err := c.s.stored(len(c.s.committed))
	if err != nil {
		return err
	}
	for _, m := range msgs {
		if _, err := c.settle(m, false); err != nil {
			return err
		}
	}
	stats, err := c.s.operator.Stats(c.s.ctx)
	if err != nil {
		return err
	}
	var none, several []string // which a sum does not tell from each other
	for id := range c.s.committed {
		switch n := c.effects[id]; {
		case n == 0:
			none = append(none, id)
		case n > 1:
			several = append(several, id)
		}
	}
	wrong := errors.Join(some("orders had no effect", none), some("orders had their effect more than once", several))
	if want := int64(len(c.s.committed)); stats.Delayed.N != want || wrong != nil {
		return errors.Join(fmt.Errorf("%d orders were committed, and %d effects: %d messages were delivered, to a consumer that died %d times",
			want, stats.Delayed.N, len(msgs), c.deaths), wrong)
	}
	return nil
}
