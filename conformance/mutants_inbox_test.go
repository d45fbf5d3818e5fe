package conformance

import (
	"context"
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
		[]string{"inbox-once", "inbox-same-transaction", "inbox-atomic", "inbox-waits", "inbox-race", "inbox-answer-lost"}},
	"takes every message for a duplicate": {receiving(func(context.Context, *Memory, *MemoryTx, receipt) (bool, error) { return false, nil }),
		[]string{"inbox-once", "inbox-rollback", "inbox-atomic"}},
	"knows one consumer": {receiving(func(ctx context.Context, m *Memory, tx *MemoryTx, r receipt) (bool, error) {
		return m.Receive(ctx, tx, "", r.id)
	}), []string{"inbox-once"}},
	"forgets the transaction's own": {receiving(func(ctx context.Context, m *Memory, tx *MemoryTx, r receipt) (bool, error) {
		if _, err := m.Receive(ctx, tx, r.consumer, r.id); err != nil {
			return false, err
		}
		before := false
		m.locked(func() { _, before = m.inbox[r] })
		return !before, nil
	}), []string{"inbox-same-transaction"}},
	"notes on its own": {receiving(func(ctx context.Context, m *Memory, _ *MemoryTx, r receipt) (bool, error) {
		own, err := m.Begin(ctx)
		if err != nil {
			return false, err
		}
		first, err := m.Receive(ctx, own, r.consumer, r.id)
		return first, firstError(err, own.Commit())
	}), []string{"inbox-rollback", "inbox-savepoint", "inbox-atomic"}},
	"reads and does not wait": {receiving(func(ctx context.Context, m *Memory, tx *MemoryTx, r receipt) (bool, error) {
		before := false
		m.locked(func() {
			if _, before = m.inbox[r]; !before {
				tx.received = append(tx.received, received{r, m.now()})
			}
		})
		return !before, nil
	}), []string{"inbox-waits"}},
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
	}), []string{"inbox-waits"}},
	"locks the whole inbox": {receiving(func(ctx context.Context, m *Memory, tx *MemoryTx, r receipt) (bool, error) {
		if err := tx.LockRow(ctx, "inbox"); err != nil {
			return false, err
		}
		return m.Receive(ctx, tx, r.consumer, r.id)
	}), []string{"inbox-others-go-on"}},
	"ends the transaction of a duplicate": {receiving(func(ctx context.Context, m *Memory, tx *MemoryTx, r receipt) (bool, error) {
		first, err := m.Receive(ctx, tx, r.consumer, r.id)
		if err == nil && !first {
			m.locked(tx.endLocked)
		}
		return first, err
	}), []string{"inbox-usable"}},
	"folds case":   {renaming(strings.ToLower), []string{"inbox-bytewise"}},
	"trims spaces": {renaming(func(s string) string { return strings.TrimRight(s, " ") }), []string{"inbox-bytewise"}},
	"cuts long names": {renaming(func(s string) string { return s[:min(len(s), core.MaxIDBytes-1)] }),
		[]string{"inbox-bytewise"}},
	"empties the inbox when it migrates": {alteredDialect{migrateInbox: func(_ context.Context, m *Memory) error {
		m.locked(func() { clear(m.inbox) })
		return nil
	}}, []string{"inbox-migrate"}},
	"migrates one at a time": {migratingAlone(), []string{"inbox-migrate"}},
	"forgets whatever its age": {alteredDialect{forget: func(ctx context.Context, m *Memory, _ time.Duration, limit int) (int, error) {
		return m.Forget(ctx, 0, limit)
	}}, []string{"inbox-forget-age"}},
	"forgets nothing": {alteredDialect{forget: func(context.Context, *Memory, time.Duration, int) (int, error) { return 0, nil }},
		[]string{"inbox-forget-age", "inbox-forget-limit"}},
	"forgets without a limit": {alteredDialect{forget: func(ctx context.Context, m *Memory, age time.Duration, _ int) (int, error) {
		return m.Forget(ctx, age, 1000)
	}}, []string{"inbox-forget-limit"}},
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
	}}, []string{"inbox-forget-limit"}},
	"guesses where there is no result": {alteredDialect{receive: func(ctx context.Context, _ *Memory, tx core.Execer, _, _ string) (bool, error) {
		_, _ = tx.ExecContext(ctx, "INSERT")
		return true, nil
	}}, []string{"inbox-no-result"}},
}

// receiving alters how a message is received.
func receiving(receive func(ctx context.Context, m *Memory, tx *MemoryTx, r receipt) (bool, error)) alteredDialect {
	return alteredDialect{receive: func(ctx context.Context, m *Memory, tx core.Execer, consumer, id string) (bool, error) {
		return receive(ctx, m, tx.(*MemoryTx), receipt{consumer, id})
	}}
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
		time.Sleep(time.Millisecond)
		return nil
	}}
}
