package conformance

import (
	"context"
	"errors"
	"maps"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/lockstep-go/lockstep/core"
)

// comparison is a dialect whose one fault is seen by one comparison of a check, and what that says. Another comparison of the
// same check has its mutants elsewhere.
type comparison struct {
	caught, says string
	alter        alteredDialect
	dialect      func(m *Memory) core.Dialect // instead of alter
}

var errDuplicate = errors.New("duplicate key")

var comparisons = map[string]comparison{
	"numbers what it returns as it comes": {caught: "fetch-requested", says: "do not ascend",
		alter: alteredDialect{session: altered{fetch: func(ctx context.Context, s *memorySession, r core.FetchRequest) (core.FetchResult, error) {
			result, err := s.Fetch(ctx, r)
			if all := result.Records; len(r.Gaps) > 0 && len(all) > 1 {
				all[0].Position, all[1].Position = all[1].Position, all[0].Position
			}
			return result, err
		}}}},
	"counts an attempt when it fetches": {caught: "fetch-not-due", says: "never failed has 1 attempts",
		alter: telling(func(_ *Memory, r *core.FetchResult) { each(r, func(r *core.Record) { r.Attempts++ }) })},
	"gives what is new a retry time": {caught: "fetch-not-due", says: "0 attempts and is due in 1s",
		alter: telling(func(_ *Memory, r *core.FetchResult) {
			each(r, func(r *core.Record) {
				if r.Attempts == 0 {
					r.RetryIn = time.Second
				}
			})
		})},
	"counts an attempt when it promotes": {caught: "promote-complete", says: "has 1 attempts",
		alter: promoting(nil, func(m *Memory, _ int64, _ *core.Promotion) { m.outbox.rows[0].attempts = 1 })},
	"keeps the due time as a retry time": {caught: "promote-complete", says: "0 attempts and is due in",
		alter: promoting(nil, func(m *Memory, _ int64, _ *core.Promotion) { m.outbox.rows[0].retryAt = m.now().Add(time.Hour) })},
	"counts a failure for all": {caught: "fail-noted", says: "did not fail has 1 attempts",
		alter: alteredDialect{session: altered{fail: func(ctx context.Context, s *memorySession, failures []core.Failure) error {
			err := s.Fail(ctx, failures)
			s.memory.locked(func() {
				for _, row := range s.memory.outbox.rows {
					row.attempts = max(row.attempts, 1)
				}
			})
			return err
		}}}},
	"renews a lease in its own memory": {caught: "database-outage", says: "a new session renewed a lease",
		dialect: func(m *Memory) core.Dialect { return &openingLater{Memory: m} }},
	"hands out the session that broke": {caught: "database-cut", says: "another session, after a connection broke",
		dialect: func(m *Memory) core.Dialect { return &oneSession{Memory: m} }},
	"fills in what the caller left empty": {caught: "enqueue-keeps-nothing", says: "was changed to",
		alter: changing(func(m *core.Message) {
			if m.Headers == nil {
				m.Headers = map[string]string{"content-type": "text/plain"}
			}
		})},
	"takes local time for UTC": {caught: "round-trip", says: "its EnqueuedAt is",
		alter: telling(func(_ *Memory, r *core.FetchResult) {
			each(r, func(r *core.Record) { r.Message.EnqueuedAt = r.Message.EnqueuedAt.Add(time.Hour) })
		})},
	"takes milliseconds for seconds": {caught: "round-trip", says: "its EnqueuedAt is",
		alter: telling(func(_ *Memory, r *core.FetchResult) {
			each(r, func(r *core.Record) { r.Message.EnqueuedAt = time.Unix(r.Message.EnqueuedAt.UnixMilli(), 0) })
		})},
	"says that the latest burial blocks": {caught: "blocked-pages", says: "is blocked by position",
		alter: blocking(func(k *core.BlockedKey) { k.Position++ })},
	"tells in local time since when": {caught: "blocked-pages", says: "its Since is", alter: blocking(func(k *core.BlockedKey) { k.Since = k.Since.Add(time.Hour) })},
	"does not say when it buried":    {caught: "bury-moves", says: "its BuriedAt is", alter: lettered(func(l *core.DeadLetter) { l.BuriedAt = time.Time{} })},
	"forgets when a letter was enqueued": {caught: "bury-moves", says: "want position and time",
		alter: lettered(func(l *core.DeadLetter) { l.Message.EnqueuedAt = l.BuriedAt.Add(time.Second) })},

	"notes in the transaction, and enqueues outside of it": {caught: "inbox-atomic", says: "after a rollback",
		alter: alteredDialect{enqueue: func(ctx context.Context, m *Memory, _ core.Execer, msgs []core.Message) error {
			own, err := m.Begin(ctx)
			if err != nil {
				return err
			}
			return firstError(m.Enqueue(ctx, own, msgs), own.Commit())
		}}},
	"breaks the transaction by a duplicate": {caught: "inbox-usable", says: "after false, the transaction fails: enqueue: duplicate key",
		alter: afterDuplicate(func(*Memory, *MemoryTx) error { return errDuplicate })},
	"breaks the COMMIT by a duplicate": {caught: "inbox-usable", says: "after false, COMMIT fails",
		alter: afterDuplicate(func(m *Memory, tx *MemoryTx) error {
			m.locked(tx.endLocked)
			return nil
		})},
	"keeps the latest for good": {caught: "inbox-forget-limit", says: "want the one that is left",
		alter: alteredDialect{forget: func(ctx context.Context, m *Memory, age time.Duration, limit int) (int, error) {
			there := 0
			m.locked(func() { there = len(m.inbox) })
			if there < 2 {
				return 0, nil
			}
			return m.Forget(ctx, age, min(limit, there-1))
		}}},
	"waits for whoever received anything": {caught: "inbox-others-go-on", says: "beside a transaction that received other messages",
		alter: receiving(func(ctx context.Context, m *Memory, tx *MemoryTx, r receipt) (bool, error) {
			return m.Receive(ctx, tx, r.consumer, "any")
		})},
}

func each(result *core.FetchResult, change func(r *core.Record)) {
	for i := range result.Records {
		change(&result.Records[i])
	}
}

// blocking alters the blocked keys that are listed.
func blocking(change func(k *core.BlockedKey)) alteredDialect {
	return alteredDialect{session: altered{listBlocked: func(ctx context.Context, s *memorySession, topic, key string, limit int) ([]core.BlockedKey, error) {
		page, err := s.ListBlocked(ctx, topic, key, limit)
		for i := range page {
			change(&page[i])
		}
		return page, err
	}}}
}

// lettered alters the dead letters that are listed.
func lettered(change func(l *core.DeadLetter)) alteredDialect {
	return alteredDialect{session: altered{listDead: func(ctx context.Context, s *memorySession, f core.DeadFilter, after core.Ref, limit int) ([]core.DeadLetter, error) {
		letters, err := s.ListDead(ctx, f, after, limit)
		for i := range letters {
			change(&letters[i])
		}
		return letters, err
	}}}
}

// afterDuplicate does something else than enqueue, in a transaction that was told of a duplicate.
func afterDuplicate(enqueue func(m *Memory, tx *MemoryTx) error) alteredDialect {
	var told sync.Map
	alter := receiving(func(ctx context.Context, m *Memory, tx *MemoryTx, r receipt) (bool, error) {
		first, err := m.Receive(ctx, tx, r.consumer, r.id)
		if err == nil && !first {
			told.Store(tx, true)
		}
		return first, err
	})
	alter.enqueue = func(ctx context.Context, m *Memory, tx core.Execer, msgs []core.Message) error {
		if _, ok := told.Load(tx); ok {
			return enqueue(m, tx.(*MemoryTx))
		}
		return m.Enqueue(ctx, tx, msgs)
	}
	return alter
}

// openingLater has a session also while the database is away, as a pool has; that one believes to have the lease.
type openingLater struct{ *Memory }

func (d *openingLater) Open(ctx context.Context) (core.Session, error) {
	s, err := d.Memory.Open(ctx)
	if err != nil {
		return believing{}, nil
	}
	return s, nil
}

type believing struct{ core.Session }

func (believing) Close() error { return nil }

func (believing) RenewLease(context.Context, string, int64, time.Duration, bool) (bool, error) {
	return true, nil
}

// oneSession opens one session, and hands out that one for ever.
type oneSession struct {
	*Memory
	session core.Session
}

func (d *oneSession) Open(ctx context.Context) (core.Session, error) {
	if d.session == nil {
		s, err := d.Memory.Open(ctx)
		if err != nil {
			return nil, err
		}
		d.session = s
	}
	return kept{d.session}, nil
}

type kept struct{ core.Session }

func (kept) Close() error { return nil }

func TestComparisonsFindTheirMutants(t *testing.T) {
	byID := map[string]check[DialectFixture]{}
	for _, g := range slices.Concat(dialectGroups, inboxGroups) {
		for _, c := range g.checks {
			byID[c.id] = c
		}
	}
	for _, name := range slices.Sorted(maps.Keys(comparisons)) {
		mutant := comparisons[name]
		c, ok := byID[mutant.caught]
		if !ok {
			t.Fatalf("there is no check %s", mutant.caught)
		}
		t.Run(strings.ReplaceAll(name, " ", "-")+"/"+c.id, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				m := NewMemory(MemoryConfig{})
				fixture := MemoryFixture(m)
				mutant.alter.Memory = m
				fixture.Dialect = mutant.alter
				if mutant.dialect != nil {
					fixture.Dialect = mutant.dialect(m)
				}
				got := c.verdict(t.Context(), fixture, checkTimeout)
				if got.Status != Failed || !strings.Contains(got.Error, mutant.says) {
					t.Errorf("of a dialect that %s, the check %s says %q; want %q", name, c.id, got.Error, mutant.says)
				}
				if got.TimedOut {
					t.Errorf("a dialect that %s is caught by a time-out and nothing better: %s", name, got.Error)
				}
				time.Sleep(20 * checkTimeout) // for calls that it did not end
			})
		})
	}
}
