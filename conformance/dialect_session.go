package conformance

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/lockstep-go/lockstep/core"
)

var sessionChecks = []check[DialectFixture]{
	{"stats", "the counts are exact up to 10 000, and the oldest pending event's age is by the database's clock", checkStats},
	{"retryable", "Retryable reports false where the outcome is unknown, and for what is no error of the database", checkRetryable},
	{"session-holds-nothing", "no method may leave a transaction open when it returns, nor hold a lock", checkSessionHoldsNothing},
	{"sessions-at-once", "sessions may be used at the same time, each by one goroutine", checkSessionsAtOnce},
}

var sessionWritersChecks = []check[DialectFixture]{
	{"session-waits-for-nobody", "no session method waits for an open transaction of the application", checkSessionWaitsForNobody},
}

var keyLockChecks = []check[DialectFixture]{
	{"lock-keys", "LockKeys locks the (topic, key) of each message until the end of the transaction; messages without a key are passed over", checkLockKeys},
	{"lock-keys-order", "LockKeys locks in an order that is the same for every caller", checkLockKeysOrder},
}

func checkStats(ctx context.Context, f DialectFixture) error {
	return f.session(ctx, func(s core.Session) error {
		empty, err := s.Stats(ctx)
		if err == nil && empty != (core.Stats{Pending: exactly(0), Delayed: exactly(0), Dead: exactly(0)}) {
			err = fmt.Errorf("an empty outbox has the stats %+v", empty)
		}
		if err != nil {
			return err
		}
		if _, err := f.buried(ctx, keyed("dead 1", "1"), keyed("dead 2", "2"), keyed("dead 3", "")); err != nil {
			return err
		}
		if err := expectCount("DropDead", 1)(s.DropDead(ctx, core.DeadFilter{ID: "dead 2"}, "x", 1)); err != nil {
			return err
		}
		if err := f.commit(ctx, keyed("behind", "1"), keyed("a", "3"), keyed("b", "4"), delayed("later", time.Hour)); err != nil {
			return err
		}
		return eventually(ctx, "the oldest event does not get older than 50 ms", func() (bool, error) {
			got, err := s.Stats(ctx)
			age := got.OldestAge
			got.OldestAge = 0
			if want := (core.Stats{Pending: exactly(3), Delayed: exactly(1), Dead: exactly(2), BlockedKeys: 1}); err == nil && got != want {
				err = fmt.Errorf("the stats are %+v, want %+v", got, want)
			}
			if err == nil && age > 10*time.Minute {
				err = fmt.Errorf("the oldest event was enqueued now, and its age is %v", age)
			}
			return age > 50*time.Millisecond, err
		})
	})
}

func checkRetryable(_ context.Context, f DialectFixture) error {
	for _, err := range []error{nil, errors.New("an error"), context.DeadlineExceeded, context.Canceled, core.ErrNotInTransaction} {
		if f.Dialect.Retryable(err) {
			return fmt.Errorf("Retryable(%v) is true", err)
		}
	}
	return nil
}

// eachMethod calls every method of a session on an outbox with a record, a dead letter and a delayed event, and after
// each one then.
func (f DialectFixture) eachMethod(ctx context.Context, s core.Session, then func(method string) error) error {
	records, err := f.stored(ctx, letters(3)...)
	if err != nil {
		return err
	}
	epoch, err := own(ctx, s)
	if err != nil {
		return err
	}
	seen, err := s.ReadLease(ctx)
	if err != nil {
		return err
	}
	a, b, c := records[0], records[1], records[2]
	gaps := []core.Gap{gap(a.Position, c.Position)}
	for _, m := range []struct {
		name string
		call func(ctx context.Context) error
	}{
		{"Fetch", func(ctx context.Context) error { _, err := s.Fetch(ctx, everything); return err }},
		{"ResolveGaps", func(ctx context.Context) error { return s.ResolveGaps(ctx, gaps) }},
		{"Acknowledge", func(ctx context.Context) error { return s.Acknowledge(ctx, []core.Ref{a.Ref()}) }},
		{"Fail", func(ctx context.Context) error {
			return s.Fail(ctx, []core.Failure{{Ref: b.Ref(), Attempts: 1, Cause: "x"}})
		}},
		{"Bury", func(ctx context.Context) error { return bury(ctx, s, b, c) }},
		{"Promote", func(ctx context.Context) error { _, err := s.Promote(ctx, epoch, 10); return err }},
		{"ReadLease", func(ctx context.Context) error { _, err := s.ReadLease(ctx); return err }},
		{"RenewLease", func(ctx context.Context) error {
			_, err := s.RenewLease(ctx, "owner", epoch, time.Hour, false)
			return err
		}},
		{"MarkSuspect", func(ctx context.Context) error { _, err := s.MarkSuspect(ctx, "owner", epoch, c.Ref()); return err }},
		{"TakeLease", func(ctx context.Context) error { _, err := s.TakeLease(ctx, seen, "x", time.Hour); return err }},
		{"ReleaseLease", func(ctx context.Context) error { return s.ReleaseLease(ctx, "owner", epoch) }},
		{"ListDead", func(ctx context.Context) error {
			_, err := s.ListDead(ctx, core.DeadFilter{}, core.Ref{}, 10)
			return err
		}},
		{"CountDead", func(ctx context.Context) error { _, err := s.CountDead(ctx, core.DeadFilter{}); return err }},
		{"ListBlocked", func(ctx context.Context) error { _, err := s.ListBlocked(ctx, "", "", 10); return err }},
		{"RetryDead", func(ctx context.Context) error { _, err := s.RetryDead(ctx, core.DeadFilter{ID: "b"}, 1); return err }},
		{"DropDead", func(ctx context.Context) error {
			_, err := s.DropDead(ctx, core.DeadFilter{ID: "c"}, "x", 1)
			return err
		}},
		{"Unblock", func(ctx context.Context) error { _, err := s.Unblock(ctx, "orders", "c"); return err }},
		{"PauseTopic", func(ctx context.Context) error { _, err := s.PauseTopic(ctx, "another"); return err }},
		{"ResumeTopic", func(ctx context.Context) error { _, err := s.ResumeTopic(ctx, "another"); return err }},
		{"Stats", func(ctx context.Context) error { _, err := s.Stats(ctx); return err }},
	} {
		limited, cancel := context.WithTimeout(ctx, waitLimit)
		err := m.call(limited)
		cancel()
		if err != nil {
			return fmt.Errorf("%s: %w", m.name, err)
		}
		if err := then(m.name); err != nil {
			return err
		}
	}
	return nil
}

func checkSessionHoldsNothing(ctx context.Context, f DialectFixture) error {
	if err := f.commit(ctx, delayed("delayed", -time.Hour)); err != nil {
		return err
	}
	return f.session(ctx, func(s core.Session) error {
		return f.eachMethod(ctx, s, func(method string) error {
			limited, cancel := context.WithTimeout(ctx, waitLimit)
			defer cancel()
			if err := f.commit(limited, event("after "+method)); err != nil {
				return fmt.Errorf("after %s, an application cannot enqueue: %w", method, err)
			}
			// Nor is the snapshot of an earlier call looked at again.
			seen, err := s.Fetch(limited, everything)
			if err == nil && !contains(seen.Records, "after "+method) {
				err = fmt.Errorf("after %s, the session does not see what was committed since", method)
			}
			return err
		})
	})
}

func checkSessionWaitsForNobody(ctx context.Context, f DialectFixture) error {
	if err := f.commit(ctx, delayed("delayed", -time.Hour)); err != nil {
		return err
	}
	// Open before each call, with records of the keys that the calls are about, and one in the way of nothing.
	tx, rollback, err := f.begin(ctx)
	if err != nil {
		return err
	}
	defer rollback()
	msgs := append(letters(3), keyed("x", ""), delayed("y", -time.Hour))
	for i := range msgs {
		msgs[i].ID = "open " + msgs[i].ID
	}
	if err := core.NewOutbox(f.Dialect, core.OutboxConfig{}).Enqueue(ctx, tx, msgs...); err != nil {
		return err
	}
	return f.session(ctx, func(s core.Session) error {
		return f.eachMethod(ctx, s, func(string) error { return nil })
	})
}

// Relays that overlap settle the same records, while applications write.
func checkSessionsAtOnce(ctx context.Context, f DialectFixture) error {
	const relays, n = 4, 60
	var msgs []core.Message
	for i := range n {
		msgs = append(msgs, keyed(fmt.Sprint(i), fmt.Sprint(i)))
	}
	records, err := f.stored(ctx, msgs...)
	if err != nil {
		return err
	}
	var group sync.WaitGroup
	errs := make(chan error, relays+1)
	for relay := range relays {
		group.Go(func() {
			errs <- f.session(ctx, func(s core.Session) error { return settleAll(ctx, s, records, relay) })
		})
	}
	group.Go(func() {
		for i := range 20 {
			if err := f.commit(ctx, keyed(fmt.Sprint("new ", i), "")); err != nil {
				errs <- err
				return
			}
		}
	})
	group.Wait()
	close(errs)
	for err := range errs {
		if err != nil {
			return err
		}
	}
	all, err := f.all(ctx)
	if err != nil {
		return err
	}
	if len(all) != n/3+20 {
		return fmt.Errorf("the outbox holds %d records, want %d that failed and 20 that are new", len(all), n/3)
	}
	for _, r := range all[:n/3] {
		if r.Attempts != 1 {
			return fmt.Errorf("a record whose failure %d relays noted once has %d attempts", relays, r.Attempts)
		}
	}
	return f.expectDeadCount(ctx, core.DeadFilter{}, n/3)
}

// settleAll acknowledges, fails and buries a third each, in small calls, from a start of the relay's own.
func settleAll(ctx context.Context, s core.Session, records []core.Record, relay int) error {
	for i := range len(records) / 3 {
		at := (i + relay*7) % (len(records) / 3) * 3
		err := firstError(
			s.Acknowledge(ctx, []core.Ref{records[at].Ref()}),
			s.Fail(ctx, []core.Failure{{Ref: records[at+1].Ref(), Attempts: 1, RetryIn: time.Hour, Cause: "x"}}),
			bury(ctx, s, records[at+2]))
		if err != nil {
			return err
		}
	}
	return nil
}
