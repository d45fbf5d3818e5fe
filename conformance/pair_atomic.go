package conformance

import (
	"context"
	"errors"
	"fmt"
	"time"
)

var pairAtomicChecks = []check[pair]{
	{"pair-atomic", "an event is delivered if and only if the transaction that enqueued it committed, savepoints included", pairAtomic},
	{"pair-delayed", "a delayed event is delivered when it is due, if its transaction committed, and in its key's order of coming due", pairDelayed},
}

var pairCrashChecks = []check[pair]{
	{"pair-crash-before-commit", "an application that dies before COMMIT leaves neither its rows nor its events", pairCrashBeforeCommit},
}

var pairLostAnswerChecks = []check[pair]{
	{"pair-lost-commit-answer", "where the answer to COMMIT is lost, the rows and the events exist, or neither do", pairLostCommitAnswer},
}

func pairAtomic(ctx context.Context, p pair) error {
	return p.scenarioOf(ctx, func(s *scenario) error {
		s.startRelay(nil)
		l := s.write(loadPlan{keys: 5, pace: 2 * time.Millisecond})
		defer l.end()
		if err := s.committing(s.times(100)); err != nil {
			return err
		}
		if err := l.stop(); err != nil {
			return err
		}
		if len(s.undone) == 0 {
			return errors.New("nothing was rolled back, so half of it was not tested")
		}
		return s.kept()
	})
}

func pairDelayed(ctx context.Context, p pair) error {
	return p.scenarioOf(ctx, func(s *scenario) error {
		now := time.Now()
		enqueue := func(seq int, after time.Duration, end func(Tx) error) error {
			m := s.message("delayed", seq)
			m.NotBefore = now.Add(after)
			tx, rollback, err := s.begin(ctx)
			if err != nil {
				return err
			}
			defer rollback()
			if err := s.enqueue(ctx, tx, m); err != nil {
				return err
			}
			if err := end(tx); err != nil {
				return err
			}
			if seq > 0 {
				s.note(m, seq, nil)
			}
			return nil
		}
		const n = 10
		for seq := n; seq >= 1; seq-- { // the last one that comes due is enqueued first
			if err := enqueue(seq, time.Duration(100+50*seq)*time.Millisecond, Tx.Commit); err != nil {
				return err
			}
		}
		if err := enqueue(0, 100*time.Millisecond, Tx.Rollback); err != nil {
			return err
		}
		if err := enqueue(0, time.Hour, Tx.Commit); err != nil { // stays
			return err
		}
		s.startRelay(nil)
		err := s.awaitStats("delayed events that came due are delivered", func(st stats) bool { return st.Pending.N == 0 && st.Delayed.N == 1 })
		if err != nil {
			return err
		}
		if err := s.stopRelays(); err != nil {
			return err
		}
		_, err = s.promised()
		return err
	})
}

func pairCrashBeforeCommit(ctx context.Context, p pair) error {
	return p.scenarioOf(ctx, func(s *scenario) error {
		s.startRelay(nil)
		l := s.write(loadPlan{keys: 5, tolerant: true})
		defer l.end()
		for n := range s.times(3) {
			if err := s.committing(5); err != nil {
				return err
			}
			doomed := s.message("doomed", n+1)
			s.noteUndone(doomed)
			tx, end, err := s.begin(ctx)
			if err != nil {
				return err
			}
			defer end() //nolint:gocritic // few, and the check ends with them
			if err := s.enqueue(ctx, tx, doomed); err != nil {
				return fmt.Errorf("enqueue: %w", err)
			}
			s.Cut() // what the database sees of a client that dies
			if err := tx.Commit(); err == nil {
				return errors.New("its connection is broken, and a transaction was committed")
			}
		}
		if err := s.committing(5); err != nil {
			return err
		}
		if err := l.stop(); err != nil {
			return err
		}
		return s.kept()
	})
}

func pairLostCommitAnswer(ctx context.Context, p pair) error {
	return p.scenarioOf(ctx, func(s *scenario) error {
		s.startRelay(nil)
		l := s.write(loadPlan{keys: 5, tolerant: true})
		defer l.end()
		for n := range s.times(3) {
			if err := s.committing(5); err != nil {
				return err
			}
			if err := s.loseAnswer(fmt.Sprint("lost", n)); err != nil {
				return err
			}
		}
		if err := s.committing(5); err != nil {
			return err
		}
		if err := l.stop(); err != nil {
			return err
		}
		if len(s.unknown) == 0 {
			return errors.New("the answer to every COMMIT arrived, so nothing was tested")
		}
		return s.kept()
	})
}

// loseAnswer commits an event of key, and loses the answer.
func (s *scenario) loseAnswer(key string) error {
	m := s.message(key, 1)
	tx, end, err := s.begin(s.ctx)
	if err != nil {
		return err
	}
	defer end()
	if err := s.enqueue(s.ctx, tx, m); err != nil {
		return fmt.Errorf("enqueue: %w", err)
	}
	heal, err := harm("lose answers", s.LoseAnswers)
	if err != nil {
		return err
	}
	defer heal()
	ended := make(chan error, 1)
	go func() { ended <- tx.Commit() }()
	select { // long enough for COMMIT to arrive in most cases; in the others the event must not
	case err = <-ended:
	case <-time.After(100 * time.Millisecond):
		heal()
		err = <-ended
	}
	s.note(m, 1, err)
	return nil
}
