package conformance

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/lockstep-go/lockstep/core"
)

var pairLateChecks = []check[pair]{
	{"pair-late-commit", "an event whose transaction took its position first and commits last is delivered, and until then it holds back nobody; where the database has one writer, the next one waits for it, or is refused", pairLateCommit},
}

// pairLateCommit looks for what the database permits: that a transaction which enqueued later commits earlier, or that it does not.
func pairLateCommit(ctx context.Context, p pair) error {
	if p.ConcurrentWriters {
		return pairOvertaken(ctx, p)
	}
	return pairOneWriter(ctx, p)
}

// pairOvertaken holds transactions open while others, which took later positions, commit and are delivered.
func pairOvertaken(ctx context.Context, p pair) error {
	return p.scenarioOf(ctx, func(s *scenario) error {
		s.startRelay(nil)
		for n := range s.times(3) {
			late := s.message(fmt.Sprint("late", n), 1)
			tx, end, err := s.begin(ctx)
			if err != nil {
				return err
			}
			defer end() //nolint:gocritic // few, and the check ends with them
			if err := s.enqueue(ctx, tx, late); err != nil {
				return err
			}
			if _, err := s.commitSeries(fmt.Sprint("early", n), 1, 5); err != nil {
				return err
			}
			err = s.awaitStats("events delivered while an earlier transaction is open", func(st stats) bool { return st.Pending.N == 0 })
			if err != nil {
				return err
			}
			if n == 0 { // long enough for a reader that gives gaps up to have done so
				pause(ctx, time.Second)
			}
			err = tx.Commit()
			s.note(late, 1, err)
			if err != nil {
				return err
			}
		}
		return s.kept()
	})
}

// pairOneWriter holds a transaction open while another one on the same key wants to commit. The relay's calls wait meanwhile, so
// that there is something in the outbox to be read.
func pairOneWriter(ctx context.Context, p pair) error {
	return p.scenarioOf(ctx, func(s *scenario) error {
		s.config.PublishTimeout = 2 * pairPatience
		s.config.LeaseTTL = inTheEnd // a relay cannot renew it while another writes
		gate := make(chan struct{}, 1)
		s.startRelay(func(ctx context.Context, inner core.Broker, msgs []core.Message) error {
			select {
			case gate <- struct{}{}:
				defer func() { <-gate }()
				return inner.Publish(ctx, msgs)
			case <-ctx.Done():
				return core.ErrUnavailable
			}
		})
		for n := range s.times(2) {
			select {
			case gate <- struct{}{}:
			case <-ctx.Done():
				return context.Cause(ctx)
			}
			err := s.oneWriter(fmt.Sprint("early", n), fmt.Sprint("late", n))
			<-gate
			if err != nil {
				return err
			}
			if err := s.awaitStats("an empty outbox", func(st stats) bool { return st.Pending.N == 0 }); err != nil {
				return err
			}
		}
		return s.kept()
	})
}

// oneWriter enqueues the first event of key late, and lets another transaction enqueue the second one before it commits. That
// one waits when it takes several times longer than transactions did before: a BEGIN that is slow is no BEGIN that waits.
func (s *scenario) oneWriter(early, late string) error {
	waiting, longest, err := s.timedSeries(early, 5)
	if err != nil {
		return err
	}
	var writing sync.WaitGroup
	defer writing.Wait()
	first := s.message(late, 1)
	tx, end, err := s.begin(s.ctx)
	if err != nil {
		return err
	}
	defer end()
	if err := s.enqueue(s.ctx, tx, first); err != nil {
		return err
	}
	second, begun := make(chan error, 1), make(chan struct{})
	writing.Go(func() {
		close(begun)
		second <- s.commit(s.ctx, s.message(late, 2), 2)
	})
	limited, cancel := context.WithTimeout(s.ctx, pairPatience)
	records, err := s.all(limited)
	cancel()
	if err != nil {
		return fmt.Errorf("while a transaction is open another session's fetch fails, or waits: %w", err)
	}
	want := make([]string, 0, len(waiting))
	for _, m := range waiting {
		want = append(want, m.ID)
	}
	if err := same("while a transaction is open the outbox holds", ids(records), want); err != nil {
		return err
	}
	var refused error
	<-begun
	select {
	case refused = <-second:
		if refused == nil {
			return errors.New("while a transaction is open that has enqueued, another one commits: the database has ConcurrentWriters, and the fixture does not say so")
		}
		second = nil
	case <-time.After(200*time.Millisecond + 3*longest): // it waits, as far as can be known
	}
	err = tx.Commit()
	s.note(first, 1, err)
	if err != nil {
		return err
	}
	if second != nil {
		refused = <-second
	}
	if refused != nil {
		return s.commit(s.ctx, s.message(late, 2), 2)
	}
	return nil
}

// timedSeries commits n events of key, and tells how long the slowest took while nobody else wrote.
func (s *scenario) timedSeries(key string, n int) (msgs []core.Message, longest time.Duration, err error) {
	for seq := range n {
		began := time.Now()
		committed, err := s.commitSeries(key, 1+seq, 1)
		if err != nil {
			return nil, 0, err
		}
		msgs, longest = append(msgs, committed...), max(longest, time.Since(began))
	}
	return msgs, longest, nil
}
