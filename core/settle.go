package core

import (
	"context"
	"errors"
	"time"
)

const (
	// maxSettle bounds one call that settles records, so that its statement stays short.
	maxSettle = 2000
	// gatherAcks is the least time between two acknowledgements of fewer than maxSettle messages. Nothing waits for an
	// acknowledgement, and each costs the database a commit, however few messages it has.
	gatherAcks = 5 * time.Millisecond
)

// settlement is what became of records, on its way to the database.
type settlement struct {
	acks     []*item
	failures []Failure
	burials  []Burial
	// failed and buried are the items of failures and burials.
	failed, buried []*item
	// late are confirmations of calls that were given up: they may be acknowledged, and concern nobody else.
	late []Ref
	// mark is the suspect to mark in the lease; nil: leave it.
	mark *Ref
}

func (s *settlement) empty() bool {
	return len(s.acks) == 0 && len(s.failures) == 0 && len(s.burials) == 0 && len(s.late) == 0 && s.mark == nil
}

// take cuts off what one call may hold.
func (s *settlement) take() settlement {
	var part settlement
	part.acks, s.acks = cut(s.acks)
	part.late, s.late = cut(s.late)
	part.failures, s.failures = cut(s.failures)
	part.failed, s.failed = cut(s.failed)
	part.burials, s.burials = cut(s.burials)
	part.buried, s.buried = cut(s.buried)
	part.mark, s.mark = s.mark, nil
	return part
}

// removed are the records that s acknowledges.
func (s *settlement) removed() []Ref {
	refs := make([]Ref, 0, len(s.acks)+len(s.late))
	for _, it := range s.acks {
		refs = append(refs, it.record.Ref())
	}
	return append(refs, s.late...)
}

func cut[T any](all []T) (part, rest []T) {
	n := min(len(all), maxSettle)
	return all[:n:n], all[n:]
}

// startSettling writes what has gathered since the last time.
func (e *engine) startSettling(now time.Time) {
	if e.settling || e.settle.empty() || e.gathers() && now.Before(e.nextSettle) {
		return
	}
	e.settling, e.nextSettle = true, now.Add(gatherAcks)
	part := e.settle.take()
	e.underWay = part
	e.workers.Go(func() {
		err := e.writer.settle(e.work, part)
		e.post(func() {
			if err != nil && (!errors.Is(err, errLeaseLost) || e.work.Err() != nil) { // which a dialect may return as work's cause
				return // work has ended, and run ends with it: part stays under way, for finish
			}
			if err != nil { // the mark, which is written last
				part.mark, e.failure = nil, err
			}
			e.settling, e.underWay = false, settlement{}
			e.settled(part)
		})
	})
}

// gathers reports whether what is to be settled can wait for more of it.
func (e *engine) gathers() bool {
	s := &e.settle
	return len(s.acks)+len(s.late) < maxSettle && len(s.failures)+len(s.burials) == 0 && s.mark == nil &&
		e.room() && !e.once && !e.draining && !e.resetting
}

// settled takes in that s is written.
func (e *engine) settled(s settlement) {
	now := time.Now()
	for _, it := range s.acks {
		e.leave(it)
	}
	if len(s.acks)+len(s.late) > 0 {
		e.progress.Store(true)
		if e.config.Hooks.Acknowledged != nil {
			e.config.Hooks.Acknowledged(s.removed())
		}
	}
	if s.mark != nil {
		e.caution.marked, e.caution.writing = *s.mark, false
		e.config.Hooks.suspected(*s.mark)
	}
	for i, it := range s.failed {
		e.release(it)
		if h := e.keys[it.key]; h != nil {
			h.settling = false
			if h.ended() {
				e.waitUntil(h, now.Add(s.failures[i].RetryIn))
			}
		}
		e.config.Hooks.failed(s.failures[i])
	}
	// A blocked key's other messages are read again too, and fetches leave them out: whether the key was blocked is the
	// database's to say. A late confirmation may have removed the message before it could be buried.
	for i, it := range s.buried {
		e.leave(it)
		if h := e.keys[it.key]; h != nil {
			h.settling = false
			if e.reader.fetching {
				h.after = e.reader.fetched + 1 // the outstanding fetch may have seen the key before it was blocked
			}
			if h.ended() {
				e.waitUntil(h, now)
			}
		}
		e.config.Hooks.buried(s.burials[i])
	}
}

// settler writes settlements over a session of its own, so that no fetch waits for it.
type settler struct {
	dialect Dialect
	session Session
	holder  string // of the lease, and its epoch, for marks
	epoch   int64
	failed  func(error) // is told of each failed try
}

// settle writes s, and tries again, over new sessions, until it has, or ctx is done, or all but the suspect's mark is written and
// the lease is lost. Each part is idempotent.
func (w *settler) settle(ctx context.Context, s settlement) error {
	for tries := 0; ; tries++ {
		err := w.try(ctx, s)
		if err == nil {
			return nil
		}
		w.close()
		if ctx.Err() != nil || errors.Is(err, errLeaseLost) {
			return err
		}
		w.failed(err)
		sleep(ctx, probeDelay(tries))
	}
}

func (w *settler) try(ctx context.Context, s settlement) error {
	ctx, cancel := context.WithTimeout(ctx, databaseTimeout)
	defer cancel()
	if w.session == nil {
		session, err := w.dialect.Open(ctx)
		if err != nil {
			return err
		}
		w.session = session
	}
	if len(s.acks)+len(s.late) > 0 {
		if err := w.session.Acknowledge(ctx, s.removed()); err != nil {
			return err
		}
	}
	if len(s.failures) > 0 {
		if err := w.session.Fail(ctx, s.failures); err != nil {
			return err
		}
	}
	if len(s.burials) > 0 {
		if err := w.session.Bury(ctx, s.burials); err != nil {
			return err
		}
	}
	if s.mark != nil {
		return markSuspect(ctx, w.session, w.holder, w.epoch, *s.mark)
	}
	return nil
}

func (w *settler) close() {
	if w.session != nil {
		_ = w.session.Close() // it is given up in any case
		w.session = nil
	}
}

// sleep returns after d, or when ctx is done.
func sleep(ctx context.Context, d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
	case <-timer.C:
	}
}
