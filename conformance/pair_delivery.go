package conformance

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/lockstep-go/lockstep/core"
)

type stats = core.Stats

var pairDeliveryChecks = []check[pair]{
	{"pair-uncertain-answers", "an event whose publishing has no answer, or fails in part, is sent again until the broker confirmed it, in order", pairUncertainAnswers},
	{"pair-nothing-waits", "no transaction of the application waits while publish calls are unanswered, and no other session does", pairNothingWaits},
	{"pair-relay-killed", "a relay that is killed loses nothing: a standby takes over, and what was not acknowledged is sent again, in order", pairRelayKilled},
	{"pair-graceful-stop", "relays that are stopped under load, with calls in flight, send nothing twice", pairGracefulStop},
}

var pairBrokerOutageChecks = []check[pair]{
	{"pair-broker-outage", "while the broker is away the application keeps committing, no attempt is counted, and delivery resumes by itself", pairBrokerOutage},
	{"pair-broker-flapping", "a broker that comes and goes costs no event and no order, and nothing is buried", pairBrokerFlapping},
}

var pairDelayChecks = []check[pair]{
	{"pair-slow-broker", "a slow broker costs time, and nothing else", pairSlowBroker},
}

var pairFreezeChecks = []check[pair]{
	{"pair-broker-silent", "silence is no confirmation: what was in flight when the broker fell silent is sent again, and nothing is buried", pairBrokerSilent},
}

var pairDatabaseOutageChecks = []check[pair]{
	{"pair-database-outage", "while the database is away no attempt is counted, and delivery resumes by itself", pairDatabaseOutage},
}

var pairCutChecks = []check[pair]{
	{"pair-connections-cut", "connections that break, wherever something is under way, cost no event and no order", pairConnectionsCut},
}

var pairRestartChecks = []check[pair]{
	{"pair-database-restart", "a database that is killed and started again has every committed event, and the relay goes on", pairDatabaseRestart},
}

var pairBrokerRestartChecks = []check[pair]{
	{"pair-broker-restart", "a broker that is killed and started again costs no event, no order and no attempt", pairBrokerRestart},
}

// underLoad writes while act does its harm, then a little longer, and holds the result against the promises.
func (s *scenario) underLoad(plan loadPlan, act func() error) error {
	l := s.write(plan)
	defer l.end()
	if err := s.committing(10); err != nil {
		return err
	}
	if err := act(); err != nil {
		return err
	}
	if err := s.committing(10); err != nil {
		return err
	}
	if err := l.stop(); err != nil {
		return err
	}
	return s.kept()
}

func pairUncertainAnswers(ctx context.Context, p pair) error {
	return p.scenarioOf(ctx, func(s *scenario) error {
		s.config.Failures.MaxAttempts = 1000 // a lonely one without an answer may be counted while others succeed
		quiet := func(string, ...any) {}
		s.broker.Broker = Flaky(s.broker.Broker, FlakyConfig{Seed: s.number, Rate: 0.4, MaxDelay: 20 * time.Millisecond, Logf: quiet})
		relay := s.startRelay(nil)
		return s.underLoad(loadPlan{keys: 10}, func() error {
			return s.await("calls that fail", func() bool { return relay.troubles.Load() >= int64(s.times(20)) })
		})
	})
}

func pairSlowBroker(ctx context.Context, p pair) error {
	return p.scenarioOf(ctx, func(s *scenario) error {
		relay := s.startRelay(nil)
		err := s.underLoad(loadPlan{keys: 10}, func() error {
			s.broker.Delay(50 * time.Millisecond)
			defer s.broker.Delay(0)
			return s.progress(relay, s.times(10))
		})
		return errors.Join(err, s.nothingCounted())
	})
}

// pairNothingWaits holds every publish call back until transactions have committed on the keys that are in flight.
func pairNothingWaits(ctx context.Context, p pair) error {
	return p.scenarioOf(ctx, func(s *scenario) error {
		s.config.PublishTimeout = 2 * pairPatience
		entered, gate := make(chan struct{}, 1), make(chan struct{})
		s.startRelay(func(ctx context.Context, inner core.Broker, msgs []core.Message) error {
			select {
			case entered <- struct{}{}:
			default:
			}
			select {
			case <-gate:
			case <-ctx.Done():
			}
			return inner.Publish(ctx, msgs)
		})
		if _, err := s.commitSeries("busy", 1, 1); err != nil { // one, so that nothing is enqueued when the call begins
			return err
		}
		select {
		case <-entered:
		case <-time.After(pairPatience):
			return errors.New("the relay has not begun to publish")
		}
		for seq := 2; seq <= 30; seq++ {
			limited, cancel := context.WithTimeout(ctx, waitLimit)
			err := s.commit(limited, s.message("busy", seq), seq)
			cancel()
			if err != nil {
				return fmt.Errorf("while publish calls are unanswered a transaction of the application fails, or waits: %w", err)
			}
		}
		limited, cancel := context.WithTimeout(ctx, waitLimit)
		defer cancel()
		records, err := s.all(limited)
		if err != nil || len(records) != 30 {
			return fmt.Errorf("while publish calls are unanswered another session sees %d records and %v, want 30", len(records), err)
		}
		close(gate)
		return s.kept()
	})
}

func pairRelayKilled(ctx context.Context, p pair) error {
	return p.scenarioOf(ctx, func(s *scenario) error {
		s.config.LeaseTTL = time.Second
		slow := func(ctx context.Context, inner core.Broker, msgs []core.Message) error {
			pause(ctx, 20*time.Millisecond) // so that a kill finds calls in flight
			if ctx.Err() != nil {
				return ctx.Err()
			}
			return inner.Publish(ctx, msgs)
		}
		s.startRelay(slow)
		s.startRelay(slow)
		return s.underLoad(loadPlan{keys: 10}, func() error {
			for range s.times(2) {
				leader, err := s.publishingLeader(1 + s.random.IntN(5))
				if err != nil {
					return err
				}
				if err := leader.killed(ctx); err != nil {
					return err
				}
				s.startRelay(slow)
			}
			_, err := s.leader()
			return err
		})
	})
}

func pairGracefulStop(ctx context.Context, p pair) error {
	return p.scenarioOf(ctx, func(s *scenario) error {
		slow := func(ctx context.Context, inner core.Broker, msgs []core.Message) error {
			err := inner.Publish(ctx, msgs)
			pause(ctx, 20*time.Millisecond) // so that a stop finds calls in flight
			return err
		}
		// No lease is lost, and no call without an answer, because the machine is slow.
		s.config.LeaseTTL, s.config.PublishTimeout = inTheEnd, inTheEnd
		s.startRelay(slow)
		l := s.write(loadPlan{keys: 20})
		defer l.end()
		for range s.times(4) {
			leader, err := s.leader()
			if err != nil {
				return err
			}
			if err := s.progress(leader, 1+s.random.IntN(3)); err != nil {
				return err
			}
			s.startRelay(slow)
			if err := leader.stopped(ctx); err != nil {
				return err
			}
		}
		if err := l.stop(); err != nil {
			return err
		}
		if err := s.settled(); err != nil {
			return err
		}
		d, err := s.promised()
		if err == nil && d.duplicates > 0 {
			troubles := int64(0)
			for _, p := range s.processes {
				troubles += p.troubles.Load()
			}
			err = fmt.Errorf("%d events were sent twice, by relays that were stopped gracefully; %d publish calls did not store everything", d.duplicates, troubles)
		}
		return err
	})
}

func pairBrokerOutage(ctx context.Context, p pair) error {
	return p.scenarioOf(ctx, func(s *scenario) error {
		relay := s.startRelay(nil)
		err := s.underLoad(loadPlan{keys: 10}, func() error {
			if err := s.progress(relay, 1); err != nil {
				return err
			}
			heal, err := harm("begin the outage", s.broker.Outage)
			if err != nil {
				return err
			}
			defer heal()
			pause(ctx, time.Duration(s.times(500))*time.Millisecond)
			if err := s.committing(s.times(30)); err != nil {
				return fmt.Errorf("during the outage: %w", err)
			}
			heal()
			return s.progress(relay, 1)
		})
		return errors.Join(err, s.nothingCounted())
	})
}

// pairBrokerFlapping is an outage again and again.
func pairBrokerFlapping(ctx context.Context, p pair) error {
	return p.scenarioOf(ctx, func(s *scenario) error {
		s.config.Failures.MaxAttempts = 10 // the default: between two outages a call without a verdict may count
		relay := s.startRelay(nil)
		err := s.underLoad(loadPlan{keys: 10}, func() error {
			for range s.times(5) {
				heal, err := harm("begin the outage", s.broker.Outage)
				if err != nil {
					return err
				}
				pause(ctx, time.Duration(20+s.random.IntN(150))*time.Millisecond)
				heal()
				pause(ctx, time.Duration(20+s.random.IntN(150))*time.Millisecond)
			}
			return nil
		})
		if n := relay.buried.Load(); n > 0 {
			err = errors.Join(err, fmt.Errorf("%d messages were buried that nobody refused", n))
		}
		return err
	})
}

func pairBrokerSilent(ctx context.Context, p pair) error {
	return p.scenarioOf(ctx, func(s *scenario) error {
		s.config.PublishTimeout = 500 * time.Millisecond
		relay := s.startRelay(nil)
		return s.underLoad(loadPlan{keys: 10}, func() error {
			if err := s.progress(relay, 1); err != nil {
				return err
			}
			thaw, err := harm("freeze", s.broker.Freeze)
			if err != nil {
				return err
			}
			defer thaw()
			pause(ctx, 2*s.config.PublishTimeout)
			if err := s.committing(s.times(10)); err != nil {
				return fmt.Errorf("during the silence: %w", err)
			}
			if err := s.nothingCounted(); err != nil {
				return err
			}
			thaw()
			return s.progress(relay, 1)
		})
	})
}

func pairDatabaseOutage(ctx context.Context, p pair) error {
	return p.scenarioOf(ctx, func(s *scenario) error {
		relay := s.startRelay(nil)
		err := s.underLoad(loadPlan{keys: 10, tolerant: true}, func() error {
			if err := s.progress(relay, 1); err != nil {
				return err
			}
			heal, err := harm("begin the outage", s.Outage)
			if err != nil {
				return err
			}
			defer heal()
			pause(ctx, time.Duration(s.times(1000))*time.Millisecond)
			heal()
			return s.progress(relay, 1)
		})
		return errors.Join(err, s.nothingCounted())
	})
}

func pairConnectionsCut(ctx context.Context, p pair) error {
	return p.scenarioOf(ctx, func(s *scenario) error {
		relay := s.startRelay(nil)
		return s.underLoad(loadPlan{keys: 10, tolerant: true}, func() error {
			for n := range s.times(10) {
				pause(ctx, time.Duration(s.random.IntN(50))*time.Millisecond)
				if s.Cut != nil && (n%2 == 0 || s.broker.Cut == nil) {
					s.Cut()
				} else {
					s.broker.Cut()
				}
			}
			return s.progress(relay, 1)
		})
	})
}

func pairDatabaseRestart(ctx context.Context, p pair) error {
	return p.scenarioOf(ctx, func(s *scenario) error {
		var held atomic.Bool
		relay := s.startRelay(func(ctx context.Context, inner core.Broker, msgs []core.Message) error {
			if held.Load() {
				return core.ErrUnavailable
			}
			return inner.Publish(ctx, msgs)
		})
		err := s.underLoad(loadPlan{keys: 10, tolerant: true}, func() error {
			held.Store(true) // so that there is something in the outbox to lose
			if err := s.committing(20); err != nil {
				return err
			}
			if err := s.Restart(); err != nil {
				return fmt.Errorf("restart the database: %w", err)
			}
			held.Store(false)
			return s.progress(relay, 1)
		})
		return errors.Join(err, s.nothingCounted())
	})
}

func pairBrokerRestart(ctx context.Context, p pair) error {
	return p.scenarioOf(ctx, func(s *scenario) error {
		relay := s.startRelay(nil)
		err := s.underLoad(loadPlan{keys: 10}, func() error {
			if err := s.progress(relay, 1); err != nil {
				return err
			}
			if err := s.broker.Restart(); err != nil {
				return fmt.Errorf("restart the broker: %w", err)
			}
			return s.progress(relay, 1)
		})
		return errors.Join(err, s.nothingCounted())
	})
}
