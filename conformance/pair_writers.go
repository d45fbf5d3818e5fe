package conformance

import (
	"context"
	"fmt"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"
)

// series is the events of one key. Its lock stands for the row that all transactions on the key update.
type series struct {
	mu   sync.Mutex
	key  string
	next int
}

// load is writers at work.
type load struct {
	cancel  context.CancelFunc
	writing sync.WaitGroup
	crowded atomic.Bool // too much is undelivered
	mu      sync.Mutex
	err     error
}

// loadPlan says how the application writes.
type loadPlan struct {
	keys int
	// pace is the longest pause of a writer after an event. Half of it is the mean.
	pace time.Duration
	// tolerant writers go on after an error of the database.
	tolerant bool
}

const pairWriters = 3

// write starts writers, which go on until they are stopped.
func (s *scenario) write(plan loadPlan) *load {
	if plan.pace == 0 {
		plan.pace = 10 * time.Millisecond
	}
	for k := range plan.keys {
		s.keys = append(s.keys, &series{key: fmt.Sprint("k", k), next: 1})
	}
	ctx, cancel := context.WithCancel(s.ctx)
	l := &load{cancel: cancel}
	s.latest = l
	l.writing.Go(func() { s.watchBacklog(ctx, l) })
	for w := range pairWriters {
		random := s.randomOf(uint64(1 + w))
		l.writing.Go(func() {
			for ctx.Err() == nil {
				if l.crowded.Load() && s.wanted.Load() == 0 {
					pause(ctx, 20*time.Millisecond)
					continue
				}
				if err := s.writeOne(random, random.IntN(plan.keys)); err != nil && ctx.Err() == nil && !plan.tolerant {
					l.mu.Lock()
					l.err = err
					l.mu.Unlock()
					return
				}
				pause(ctx, time.Duration(random.Int64N(int64(plan.pace))))
			}
		})
	}
	return l
}

// watchBacklog keeps the writers from running away from a relay on a slow machine: what a check waits for is its harm, and
// not a backlog.
func (s *scenario) watchBacklog(ctx context.Context, l *load) {
	for ctx.Err() == nil {
		limited, cancel := context.WithTimeout(ctx, waitLimit)
		stats, err := s.operator.Stats(limited)
		cancel()
		l.crowded.Store(err == nil && stats.Pending.N > int64(s.times(200)))
		pause(ctx, 100*time.Millisecond)
	}
}

// end ends the writers when they have ended what they began.
func (l *load) end() {
	l.cancel()
	l.writing.Wait()
}

// stop ends the writers and returns the first error that they did not tolerate.
func (l *load) stop() error {
	l.end()
	return l.failure()
}

// failure returns the first error with which a writer gave up.
func (l *load) failure() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.err
}

// pause is the pace of a client.
func pause(ctx context.Context, d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
	}
}

// writeOne runs one transaction: most commit, some roll back, some roll back to a savepoint and then commit. Its context
// ends with the check and not with the load: a writer ends what it began. On a slow machine it may wait for long, behind the others.
func (s *scenario) writeOne(random *rand.Rand, k int) error {
	ctx, cancel := context.WithTimeout(s.ctx, pairPatience)
	defer cancel()
	series := s.keys[k]
	series.mu.Lock()
	defer series.mu.Unlock()
	tx, end, err := s.begin(ctx)
	if err != nil {
		return err
	}
	defer end()
	fate := random.IntN(10)
	if fate == 0 {
		ghost := s.message(series.key, series.next)
		s.noteUndone(ghost)
		if err := s.enqueue(ctx, tx, ghost); err != nil {
			return err
		}
		return tx.Rollback()
	}
	if fate == 1 {
		savepoints := savepointer(tx)
		if err := savepoints.Savepoint(ctx); err != nil {
			return err
		}
		ghost := s.message(series.key, series.next)
		s.noteUndone(ghost)
		if err := s.enqueue(ctx, tx, ghost); err != nil {
			return err
		}
		if err := savepoints.RollbackTo(ctx); err != nil {
			return err
		}
	}
	m := s.message(series.key, series.next)
	if err := s.enqueue(ctx, tx, m); err != nil {
		return err
	}
	err = tx.Commit()
	s.note(m, series.next, err)
	if err != nil { // nobody knows what the next number is, so this key ends here
		s.mu.Lock()
		s.retired++
		series.key, series.next = fmt.Sprintf("r%d", s.retired), 1
		s.mu.Unlock()
		return err
	}
	series.next++
	return nil
}

// committing waits until n more events were committed, as long as there is a further one now and then: a disk that is slow is no
// broken promise. The writers write for it, whatever is undelivered.
func (s *scenario) committing(n int) error {
	s.wanted.Add(1)
	defer s.wanted.Add(-1)
	from := s.commits.Load()
	for {
		have := s.commits.Load()
		if have >= from+int64(n) {
			return nil
		}
		err := within(s.ctx, pairPatience, fmt.Sprintf("a commit of the application, after %d of %d", have-from, n), func() (bool, error) {
			if err := s.latest.failure(); err != nil {
				return false, fmt.Errorf("the application: %w", err)
			}
			return s.commits.Load() > have, nil
		})
		if err != nil {
			return err
		}
	}
}
