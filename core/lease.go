package core

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"
)

const (
	// standbyPoll is how often a relay without the lease looks at it. It bounds the takeover after a graceful stop.
	standbyPoll = 100 * time.Millisecond
	// promotePoll is how often delayed events are looked for while some come due: at most four times a second, and not while
	// the reader is on its way back, because each promotion makes it begin anew. promoteIdle is how often while none do: an
	// event may come due that much before it takes its place.
	promotePoll = 250 * time.Millisecond
	promoteIdle = time.Second
	promoteMax  = 500
	// openLimit is how long a standby's try to open its session may take, also where the lease lasts less long: see openTimeout.
	openLimit = 5 * time.Second
	// releaseTimeout bounds what a stop waits for the database at its end.
	releaseTimeout = time.Second
)

// errLeaseLost ends a term whose lease another relay has taken.
var errLeaseLost = errors.New("the lease was lost: another relay has it")

// term is the time during which a relay may publish. It is counted from before the request that granted it was sent,
// ends early by a margin, and is judged by the monotonic clock and by the wall clock: one of them may have stood still
// while the process or the machine slept.
type term struct {
	epoch  int64
	outbox string
	// unclean counts the owners before this one that ended uncleanly, and suspect is the mark that the last one left.
	unclean int
	suspect Ref

	clock func(time.Time) time.Time // the wall clock

	mu    sync.Mutex
	until time.Time // has a monotonic reading
	wall  time.Time // has none

	renewAt time.Time // the keeper's
}

// wallClock is what the wall clock showed at an instant.
func wallClock(at time.Time) time.Time { return at.Round(0) }

// extend makes the term last until ttl after sent, less the margin.
func (t *term) extend(sent time.Time, ttl time.Duration) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.until = sent.Add(ttl - ttl/leaseMargin)
	t.wall = t.clock(sent).Add(ttl - ttl/leaseMargin)
	t.renewAt = sent.Add(ttl / 3)
}

func (t *term) over(now time.Time) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return !now.Before(t.until) || !t.clock(now).Before(t.wall)
}

func (t *term) remaining(now time.Time) time.Duration {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.until.Sub(now)
}

// end is when the term is over by the monotonic clock.
func (t *term) end() time.Time {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.until
}

// keeper owns the session over which a relay takes, keeps and gives up its lease.
type keeper struct {
	dialect Dialect
	session Session
	holder  string
	ttl     time.Duration
	wall    func(time.Time) time.Time
	warn    func(doing string, err error)
	// doubted says that the lease may have been taken without an answer.
	doubted bool
}

// do runs f over the session, within the database's time limit. After an error the session is closed.
func (k *keeper) do(ctx context.Context, f func(context.Context, Session) error) error {
	ctx, cancel := context.WithTimeout(ctx, min(databaseTimeout, k.ttl))
	defer cancel()
	if err := k.open(ctx); err != nil {
		return err
	}
	if err := f(ctx, k.session); err != nil {
		k.close()
		return err
	}
	return nil
}

// open opens the session where there is none.
func (k *keeper) open(ctx context.Context) error {
	if k.session != nil {
		return nil
	}
	session, err := k.dialect.Open(ctx)
	if err != nil {
		return fmt.Errorf("open session: %w", err)
	}
	k.session = session
	return nil
}

// openTimeout bounds a standby's try to open its session. Opening is ten exchanges with the server or so, and a call is one: a
// database that answers each in time may need longer for it than a short lease lasts, and would never be used. The first tries end
// with the TTL all the same, because the server may have been silent for that one.
func (k *keeper) openTimeout(tries int) time.Duration {
	return min(databaseTimeout, max(k.ttl, min(openLimit, k.ttl<<min(tries, 10))))
}

// readLease reads the lease, after tries that failed.
func (k *keeper) readLease(ctx context.Context, tries int) (now Lease, err error) {
	opening, cancel := context.WithTimeout(ctx, k.openTimeout(tries))
	defer cancel()
	if err := k.open(opening); err != nil {
		return Lease{}, err
	}
	err = k.do(ctx, func(ctx context.Context, s Session) (err error) {
		now, err = s.ReadLease(ctx)
		return err
	})
	return now, err
}

func (k *keeper) close() {
	if k.session != nil {
		_ = k.session.Close() // it is given up in any case
		k.session = nil
	}
}

// acquire waits until the lease is this relay's, or ctx is done. The lease is free when it was given up, when it has
// expired by the database's clock, or when it stood still for a whole time to live on this process's clock. When it returns
// without a term, the lease isn't this relay's, as far as the database can be asked.
func (k *keeper) acquire(ctx context.Context) (*term, error) {
	defer k.releaseDoubted()
	var seen Lease
	var since time.Time
	for tries := 0; ctx.Err() == nil; {
		now, err := k.readLease(ctx, tries)
		if ctx.Err() != nil {
			break
		}
		if err != nil {
			k.warn("read the lease", err)
			sleep(ctx, probeDelay(tries))
			tries++
			continue
		}
		tries = 0
		if since.IsZero() || now.Epoch != seen.Epoch || now.Renewals != seen.Renewals || now.Holder != seen.Holder {
			seen, since = now, time.Now()
		}
		if now.Expired || now.Holder == k.holder || time.Since(since) >= k.ttl {
			if t := k.take(ctx, now); t != nil {
				return t, nil
			}
		}
		sleep(ctx, standbyPoll)
	}
	return nil, ctx.Err()
}

// take tries to make the lease that was seen this relay's own. A lost answer may leave it so without this relay's
// knowledge; it is found to be the holder then, and takes the lease again.
func (k *keeper) take(ctx context.Context, seen Lease) *term {
	sent := time.Now()
	taken := false
	err := k.do(ctx, func(ctx context.Context, s Session) (err error) {
		taken, err = s.TakeLease(ctx, seen, k.holder, k.ttl)
		return err
	})
	if err != nil {
		k.doubted = true
		k.warn("take the lease", err)
		return nil
	}
	if !taken {
		return nil
	}
	k.doubted = false // an earlier try that is still on its way finds another epoch
	t := &term{clock: k.wall, epoch: seen.Epoch + 1, outbox: seen.Outbox, unclean: seen.Unclean, suspect: seen.Suspect}
	if seen.Holder != "" {
		t.unclean++
	}
	t.extend(sent, k.ttl)
	return t
}

// insist does f within t, again and again over new sessions, until it has succeeded or the lease is lost.
func (k *keeper) insist(ctx context.Context, t *term, doing string, f func(context.Context, Session) error) error {
	for tries := 0; ; tries++ {
		err := k.do(ctx, f)
		switch {
		case err == nil, errors.Is(err, errLeaseLost):
			return err
		case ctx.Err() != nil:
			return ctx.Err()
		case t.over(time.Now()):
			return errTermOver
		}
		k.warn(doing, err)
		sleep(ctx, min(t.remaining(time.Now()), probeDelay(tries)))
	}
}

// keep renews the lease, with e's progress, and promotes delayed events until ctx is done, and returns early, with an error,
// when the lease is lost or its term over. It promotes once at the start, so that what is due already is read with the rest,
// tells e how many events each promotion moved, and promotes nothing while e's reader is behind for an earlier promotion.
func (k *keeper) keep(ctx context.Context, t *term, e *engine) error {
	nextPromotion := time.Now()
	tries := 0
	for {
		now := time.Now()
		wait := min(nextPromotion.Sub(now), t.remaining(now), t.renewAt.Sub(now))
		if tries > 0 {
			wait = min(t.remaining(now), probeDelay(tries))
		}
		sleep(ctx, max(0, wait))
		now = time.Now()
		if ctx.Err() != nil {
			return nil
		}
		if t.over(now) {
			return errTermOver
		}
		var err error
		doing := "renew the lease"
		if !now.Before(t.renewAt) { // at once, where what comes before a term's first fetch took its time
			err = k.renew(ctx, t, e.progress.Load())
		} else if e.behind.Load() {
			nextPromotion = now.Add(promotePoll)
		} else if !now.Before(nextPromotion) {
			doing = "promote delayed events"
			err = k.promote(ctx, t, func(n int) {
				nextPromotion = now.Add(promoteIdle)
				if n > 0 {
					nextPromotion = now.Add(promotePoll)
				}
				if n > 0 || e.once { // a relay that stays is not woken for nothing
					e.post(func() { e.promoted(n) })
				}
			})
		}
		switch {
		case errors.Is(err, errLeaseLost):
			return err
		case err != nil && ctx.Err() == nil:
			k.warn(doing, err)
			tries++
		default:
			tries = 0
		}
	}
}

func (k *keeper) renew(ctx context.Context, t *term, progress bool) error {
	sent := time.Now()
	ours := false
	err := k.do(ctx, func(ctx context.Context, s Session) (err error) {
		ours, err = s.RenewLease(ctx, k.holder, t.epoch, k.ttl, progress)
		return err
	})
	if err != nil {
		return err
	}
	if !ours {
		return errLeaseLost
	}
	t.extend(sent, k.ttl)
	return nil
}

func (k *keeper) promote(ctx context.Context, t *term, promoted func(int)) error {
	var done Promotion
	err := k.do(ctx, func(ctx context.Context, s Session) (err error) {
		done, err = s.Promote(ctx, t.epoch, promoteMax)
		return err
	})
	if err != nil {
		return err
	}
	if done.Fenced {
		return errLeaseLost
	}
	promoted(done.Moved)
	return nil
}

// releaseDoubted gives the lease up where a try to take it was stopped before its answer, and had succeeded.
func (k *keeper) releaseDoubted() {
	if !k.doubted {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), releaseTimeout)
	defer cancel()
	err := k.do(ctx, func(ctx context.Context, s Session) error {
		now, err := s.ReadLease(ctx)
		if err != nil || now.Holder != k.holder {
			return err
		}
		return s.ReleaseLease(ctx, k.holder, now.Epoch)
	})
	if err != nil {
		k.warn("release the lease", err)
	}
}

// release gives the lease up, so that another relay need not wait for its end.
func (k *keeper) release(t *term) {
	ctx, cancel := context.WithTimeout(context.Background(), releaseTimeout)
	defer cancel()
	err := k.do(ctx, func(ctx context.Context, s Session) error { return s.ReleaseLease(ctx, k.holder, t.epoch) })
	if err != nil {
		k.warn("release the lease", err)
	}
}
