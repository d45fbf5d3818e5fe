package conformance

import (
	"context"
	"maps"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/lockstep-go/lockstep/core"
)

// The checks of the inbox find faults, too.
func TestInboxMutantsAreCaught(t *testing.T) { catch(t, inboxGroups, inboxMutants) }

func TestMemoryInbox(t *testing.T) {
	TestInbox(t, func(t *testing.T) DialectFixture {
		t.Parallel()
		return MemoryFixture(NewMemory(MemoryConfig{}))
	})
}

var inboxMutants = map[string]mutant{
	"remembers nothing": {receiving(func(context.Context, *Memory, *MemoryTx, receipt) (bool, error) { return true, nil }),
		caught{
			"inbox-once":             `consumer "billing" receives "a": first = true, want false`,
			"inbox-same-transaction": "in one transaction: first = true, want false",
			"inbox-atomic":           `the outbox holds ["a" "a" "a"], want ["a"]`,
			"inbox-waits":            "a second transaction is told first = true while the first is open",
			"inbox-race":             "had its effect 4 times, want once",
			"inbox-answer-lost":      `the outbox holds ["a" "a" "b" "b" "c" "c"], want ["a" "b" "c"]`},
	},
	"takes every message for a duplicate": {receiving(func(context.Context, *Memory, *MemoryTx, receipt) (bool, error) { return false, nil }),
		caught{
			"inbox-once":     `consumer "billing" receives "a": first = false, want true`,
			"inbox-rollback": "a message whose transactions were rolled back is not new",
			"inbox-atomic":   `the outbox holds [], want ["a"]`},
	},
	"knows one consumer": {receiving(func(ctx context.Context, m *Memory, tx *MemoryTx, r receipt) (bool, error) {
		return m.Receive(ctx, tx, "", r.id)
	}), caught{"inbox-once": `consumer "shipping" receives "a": first = false, want true`}},
	"makes one name of consumer and id": {receiving(func(ctx context.Context, m *Memory, tx *MemoryTx, r receipt) (bool, error) {
		return m.Receive(ctx, tx, "", r.consumer+r.id)
	}), caught{"inbox-bytewise": `consumer "ab" receives "c": first = false, want true`}},
	"makes one name of them with a colon": {receiving(func(ctx context.Context, m *Memory, tx *MemoryTx, r receipt) (bool, error) {
		return m.Receive(ctx, tx, "", r.consumer+":"+r.id)
	}), caught{"inbox-bytewise": `consumer "a:b" receives "c": first = false, want true`}},
	"forgets the transaction's own": {receiving(func(ctx context.Context, m *Memory, tx *MemoryTx, r receipt) (bool, error) {
		if _, err := m.Receive(ctx, tx, r.consumer, r.id); err != nil {
			return false, err
		}
		before := false
		m.locked(func() { _, before = m.inbox[r] })
		return !before, nil
	}), caught{"inbox-same-transaction": "in one transaction: first = true, want false"}},
	"notes on its own": {receiving(func(ctx context.Context, m *Memory, _ *MemoryTx, r receipt) (bool, error) {
		own, err := m.Begin(ctx)
		if err != nil {
			return false, err
		}
		first, err := m.Receive(ctx, own, r.consumer, r.id)
		return first, firstError(err, own.Commit())
	}),
		caught{
			"inbox-rollback":  "a message whose transactions were rolled back is not new",
			"inbox-savepoint": `consumer "billing" receives "after": first = false, want true`,
			"inbox-atomic":    `the outbox holds [], want ["a"]`},
	},
	"reads and does not wait": {receiving(func(ctx context.Context, m *Memory, tx *MemoryTx, r receipt) (bool, error) {
		before := false
		m.locked(func() {
			if _, before = m.inbox[r]; !before {
				tx.received = append(tx.received, received{r, m.now()})
			}
		})
		return !before, nil
	}), caught{"inbox-waits": "a second transaction is told first = true while the first is open"}},
	"says so at once": {receiving(func(ctx context.Context, m *Memory, tx *MemoryTx, r receipt) (bool, error) {
		waits := false
		m.locked(func() {
			lock := m.locks[lockName{received: r}]
			waits = lock != nil && lock.holder != tx
		})
		if waits {
			return false, nil // and the message is lost when the other rolls back
		}
		return m.Receive(ctx, tx, r.consumer, r.id)
	}), caught{"inbox-waits": "a second transaction is told first = false while the first is open"}},
	"locks the whole inbox": {receiving(func(ctx context.Context, m *Memory, tx *MemoryTx, r receipt) (bool, error) {
		if err := tx.LockRow(ctx, "inbox"); err != nil {
			return false, err
		}
		return m.Receive(ctx, tx, r.consumer, r.id)
	}), caught{"inbox-others-go-on": "beside a transaction that received other messages: inbox: memory: LockRow: context deadline exceeded"}},
	"ends the transaction of a duplicate": {receiving(func(ctx context.Context, m *Memory, tx *MemoryTx, r receipt) (bool, error) {
		first, err := m.Receive(ctx, tx, r.consumer, r.id)
		if err == nil && !first {
			m.locked(tx.endLocked)
		}
		return first, err
	}), caught{"inbox-usable": "after false, the transaction fails: enqueue: sql: transaction has already been committed or rolled"}},
	"folds case": {renaming(strings.ToLower), caught{"inbox-bytewise": `consumer "billing" receives "A": first = false, want true`}},
	"trims spaces": {renaming(func(s string) string { return strings.TrimRight(s, " ") }),
		caught{"inbox-bytewise": `consumer "billing" receives "a ": first = false, want true`}},
	"cuts long names": {renaming(func(s string) string { return s[:min(len(s), core.MaxIDBytes-1)] }),
		caught{"inbox-bytewise": `consumer "billing" receives`}},
	"empties the inbox when it migrates": {alteredDialect{migrateInbox: func(_ context.Context, m *Memory) error {
		m.locked(func() { clear(m.inbox) })
		return nil
	}}, caught{"inbox-migrate": `consumer "billing" receives "a": first = true, want false`}},
	"migrates one at a time": {migratingAlone(), caught{"inbox-migrate": "several migrate at once: deadlock: the transaction was rolled back"}},
	"forgets whatever its age": {alteredDialect{forget: func(ctx context.Context, m *Memory, _ time.Duration, limit int) (int, error) {
		return m.Forget(ctx, 0, limit)
	}}, caught{"inbox-forget-age": "1 are forgotten that were received an hour ago, want none"}},
	"forgets nothing": {alteredDialect{forget: func(context.Context, *Memory, time.Duration, int) (int, error) { return 0, nil }},
		caught{
			"inbox-forget-age":   "what was received is older than 10 ms and forgotten: not within 20s",
			"inbox-forget-limit": "Forget with the limit 2 removes 0, want 2"},
	},
	"forgets without a limit": {alteredDialect{forget: func(ctx context.Context, m *Memory, age time.Duration, _ int) (int, error) {
		return m.Forget(ctx, age, 1000)
	}}, caught{"inbox-forget-limit": "Forget with the limit 2 removes 5, want 2"}},
	"forgets the latest first": {alteredDialect{forget: func(_ context.Context, m *Memory, _ time.Duration, limit int) (n int, _ error) {
		m.locked(func() {
			for ; n < limit && len(m.inbox) > 0; n++ {
				var latest receipt
				for r, at := range m.inbox {
					if latest == (receipt{}) || at.After(m.inbox[latest]) {
						latest = r
					}
				}
				delete(m.inbox, latest)
			}
		})
		return n, nil
	}}, caught{"inbox-forget-limit": `the latest was forgotten before older ones: consumer "billing" receives "a": first = true, want`}},
	"forgets every consumer's note of a message": {alteredDialect{forget: func(ctx context.Context, m *Memory, age time.Duration, limit int) (int, error) {
		var before map[receipt]time.Time
		m.locked(func() { before = maps.Clone(m.inbox) })
		n, err := m.Forget(ctx, age, limit)
		m.locked(func() {
			for old := range before {
				if _, left := m.inbox[old]; !left {
					maps.DeleteFunc(m.inbox, func(r receipt, _ time.Time) bool { return r.id == old.id })
				}
			}
		})
		return n, err
	}}, caught{"inbox-forget-limit": `one consumer's note was forgotten with another's: consumer "shipping" receives "a": first = true, want`}},
	"renews what comes again": {dating(func(m *Memory) time.Time { return m.now() }),
		caught{"inbox-forget-limit": `the latest was forgotten before older ones: consumer "billing" receives "a": first = true, want`}},
	"ages what comes again": {dating(func(*Memory) time.Time { return time.Time{} }),
		caught{"inbox-forget-limit": `the latest was forgotten before older ones: consumer "billing" receives "a": first = true, want`}},
	"guesses where there is no result": {alteredDialect{receive: func(ctx context.Context, _ *Memory, tx core.Execer, _, _ string) (bool, error) {
		_, _ = tx.ExecContext(ctx, "INSERT")
		return true, nil
	}}, caught{"inbox-no-result": "delivery 2: first = true, want false or an error"}},
}

// receiving alters how a message is received.
func receiving(receive func(ctx context.Context, m *Memory, tx *MemoryTx, r receipt) (bool, error)) alteredDialect {
	return alteredDialect{receive: func(ctx context.Context, m *Memory, tx core.Execer, consumer, id string) (bool, error) {
		return receive(ctx, m, tx.(*MemoryTx), receipt{consumer, id})
	}}
}

// dating gives a note another time when its message comes again.
func dating(at func(m *Memory) time.Time) alteredDialect {
	return receiving(func(ctx context.Context, m *Memory, tx *MemoryTx, r receipt) (bool, error) {
		first, err := m.Receive(ctx, tx, r.consumer, r.id)
		m.locked(func() {
			if _, before := m.inbox[r]; before && err == nil {
				m.inbox[r] = at(m)
			}
		})
		return first, err
	})
}

// renaming alters names before they are compared.
func renaming(rename func(string) string) alteredDialect {
	return receiving(func(ctx context.Context, m *Memory, tx *MemoryTx, r receipt) (bool, error) {
		return m.Receive(ctx, tx, rename(r.consumer), rename(r.id))
	})
}

// migratingAlone fails where somebody else is at it.
func migratingAlone() alteredDialect {
	var busy sync.Mutex
	return alteredDialect{migrateInbox: func(context.Context, *Memory) error {
		if !busy.TryLock() {
			return ErrDeadlock
		}
		defer busy.Unlock()
		time.Sleep(time.Millisecond) // the bubble's clock: the others come meanwhile
		return nil
	}}
}
