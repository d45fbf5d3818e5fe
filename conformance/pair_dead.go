package conformance

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync/atomic"

	"github.com/lockstep-go/lockstep/core"
)

var pairDeadChecks = []check[pair]{
	{"pair-one-bad-key", "an event that fails again and again holds back its own key, and no other", pairOneBadKey},
	{"pair-dead-letter", "an event that can never be delivered becomes a dead letter, whole and with its cause, and stays; its key waits, the others go on", pairDeadLetter},
	{"pair-dead-retry", "a dead letter that an operator retries is delivered in its place, before the events that waited behind it", pairDeadRetry},
	{"pair-dead-drop", "a dead letter that an operator drops is kept with the reason and never sent; its key goes on", pairDeadDrop},
}

var pairPoisonChecks = []check[pair]{
	{"pair-poison", "an event that the message system itself refuses for good becomes a dead letter; its key waits for an operator, and the events beside it are delivered", pairPoison},
}

var errRefused = errors.New("refused by the suite")

// refusing is a broker that refuses what refuse has an error for.
func refusing(refuse func(m *core.Message) error) publishFunc {
	return func(ctx context.Context, inner core.Broker, msgs []core.Message) error {
		return publishSome(ctx, inner, msgs, func(i int) error { return refuse(&msgs[i]) })
	}
}

// pairOneBadKey refuses one key's first event until everything else is delivered.
func pairOneBadKey(ctx context.Context, p pair) error {
	return p.scenarioOf(ctx, func(s *scenario) error {
		s.config.Failures.MaxAttempts = 1_000_000
		var mended atomic.Bool
		relay := s.startRelay(refusing(func(m *core.Message) error {
			if m.Key == "bad" && !mended.Load() {
				return errRefused
			}
			return nil
		}))
		const bad = 3
		if _, err := s.commitSeries("bad", 1, bad); err != nil {
			return err
		}
		l := s.write(loadPlan{keys: 20})
		defer l.end()
		if err := s.committing(s.times(50)); err != nil {
			return err
		}
		if err := l.stop(); err != nil {
			return err
		}
		if err := s.awaitStats("every event of other keys delivered", func(st stats) bool { return st.Pending.N == bad }); err != nil {
			return err
		}
		if err := s.await("attempts that are counted", func() bool { return relay.failed.Load() >= 2 }); err != nil {
			return err
		}
		mended.Store(true)
		return s.kept()
	})
}

// bad is a scenario with a key whose second event was refused for good, and a load on other keys.
func (s *scenario) bad(refuse func(m *core.Message) error) (dead core.Message, behind []core.Message, err error) {
	s.startRelay(refusing(refuse))
	msgs, err := s.commitSeries("bad", 1, 5)
	if err != nil {
		return dead, nil, err
	}
	if _, err := s.commitSeries("good", 1, 5); err != nil {
		return dead, nil, err
	}
	err = s.awaitStats("a dead letter, and the other keys delivered", func(st stats) bool {
		return st.Dead.N == 1 && st.Pending.N == 3 && st.BlockedKeys == 1
	})
	return msgs[1], msgs[2:], err
}

// secondBad refuses the second event of the key bad until it is mended.
func secondBad(mended *atomic.Bool) func(m *core.Message) error {
	return func(m *core.Message) error {
		if m.Key == "bad" && strings.Contains(m.ID, "/2/") && !mended.Load() {
			return fmt.Errorf("%w: %w", core.ErrPermanent, errRefused)
		}
		return nil
	}
}

// letter expects m as the one dead letter, whole.
func (s *scenario) letter(m core.Message, cause string, filter core.DeadFilter) error {
	letters, err := s.operator.List(s.ctx, filter, core.Ref{}, 10)
	if err != nil {
		return err
	}
	if len(letters) != 1 {
		return fmt.Errorf("there are %d dead letters, want 1", len(letters))
	}
	got := letters[0].Message
	if got.ID != m.ID || got.Key != m.Key || string(got.Payload) != string(m.Payload) || got.Headers["seq"] != m.Headers["seq"] {
		return fmt.Errorf("the dead letter is %s, want %s", brief(got), brief(m))
	}
	if !strings.Contains(letters[0].Cause, cause) {
		return fmt.Errorf("the dead letter's cause is %q, want one with %q", letters[0].Cause, cause)
	}
	return nil
}

func pairDeadLetter(ctx context.Context, p pair) error {
	return p.scenarioOf(ctx, func(s *scenario) error {
		var mended atomic.Bool
		dead, behind, err := s.bad(secondBad(&mended))
		if err != nil {
			return err
		}
		if err := s.stopRelays(); err != nil { // it outlives the relay
			return err
		}
		mended.Store(true)
		s.startRelay(nil)
		if _, err := s.commitSeries("good", 6, 5); err != nil {
			return err
		}
		err = s.awaitStats("the other keys delivered by another relay, and nothing else", func(st stats) bool {
			return st.Dead.N == 1 && st.Pending.N == int64(len(behind)) && st.BlockedKeys == 1
		})
		if err != nil {
			return err
		}
		if err := errors.Join(s.stopRelays(), s.letter(dead, errRefused.Error(), core.DeadFilter{})); err != nil {
			return err
		}
		except := []string{dead.ID}
		for _, m := range behind {
			except = append(except, m.ID)
		}
		_, err = s.promised(except...)
		return err
	})
}

func pairDeadRetry(ctx context.Context, p pair) error {
	return p.scenarioOf(ctx, func(s *scenario) error {
		var mended atomic.Bool
		dead, _, err := s.bad(secondBad(&mended))
		if err != nil {
			return err
		}
		mended.Store(true)
		if err := expectCount("Retry", 1)(s.operator.Retry(ctx, core.DeadFilter{ID: dead.ID})); err != nil {
			return err
		}
		return s.kept()
	})
}

func pairDeadDrop(ctx context.Context, p pair) error {
	return p.scenarioOf(ctx, func(s *scenario) error {
		var mended atomic.Bool
		dead, _, err := s.bad(secondBad(&mended))
		if err != nil {
			return err
		}
		mended.Store(true)
		if err := expectCount("Drop", 1)(s.operator.Drop(ctx, core.DeadFilter{ID: dead.ID}, "nobody needs it")); err != nil {
			return err
		}
		if err := errors.Join(s.settled(), s.letter(dead, errRefused.Error(), core.DeadFilter{Dropped: true})); err != nil {
			return err
		}
		_, err = s.promised(dead.ID)
		return err
	})
}

// pairPoison has other events delivered all along: they prove that the broker is alive, where its refusal does not.
func pairPoison(ctx context.Context, p pair) error {
	return p.scenarioOf(ctx, func(s *scenario) error {
		poison := s.broker.Poison(s.message("poison", 1))
		if err := s.commit(ctx, poison, 1); err != nil {
			return err
		}
		held := []string{poison.ID}
		if poison.Topic == s.broker.Topic && poison.Key != "" { // where its topic is what is refused, nothing of its key can be delivered
			behind, err := s.commitSeries(poison.Key, 2, 2)
			if err != nil {
				return err
			}
			held = append(held, behind[0].ID, behind[1].ID)
		}
		for k := range 20 { // for the same call
			if _, err := s.commitSeries(fmt.Sprint("beside", k), 1, 1); err != nil {
				return err
			}
		}
		s.startRelay(nil)
		l := s.write(loadPlan{keys: 10})
		defer l.end()
		if err := s.awaitStats("a dead letter", func(st stats) bool { return st.Dead.N == 1 }); err != nil {
			return err
		}
		if err := l.stop(); err != nil {
			return err
		}
		// Where none waits, those behind it did not, and what became of them is seen in the topic.
		err := s.awaitStats("every event beside it delivered", func(st stats) bool { return st.Pending.N == int64(len(held)-1) || st.Pending.N == 0 })
		if err := errors.Join(err, s.letter(poison, "", core.DeadFilter{})); err != nil {
			return err
		}
		if _, err := s.promised(held...); err != nil {
			return fmt.Errorf("while its key is blocked: %w", err)
		}
		if err := expectCount("Drop", 1)(s.operator.Drop(ctx, core.DeadFilter{ID: poison.ID}, "nobody can take it")); err != nil {
			return err
		}
		if err := s.settled(); err != nil {
			return fmt.Errorf("after an operator dropped it: %w", err)
		}
		_, err = s.promised(poison.ID)
		return err
	})
}
