package conformance

import (
	"cmp"
	"context"
	"slices"
)

// lockName names a row of the application's, a key lock, or a receipt.
type lockName struct {
	key bool
	topicKey
	row      string
	received receipt
}

// rowLock is a lock that a transaction holds, and those that wait for it, first come first served.
type rowLock struct {
	holder  *MemoryTx
	waiters []*MemoryTx
}

func compareKeys(a, b topicKey) int {
	return cmp.Or(cmp.Compare(a.topic, b.topic), cmp.Compare(a.key, b.key))
}

// lock takes the lock, or waits for it.
func (tx *MemoryTx) lock(ctx context.Context, op string, name lockName) error {
	var wait chan struct{}
	err := tx.statement(ctx, op, func() (err error) {
		wait, err = tx.acquire(name)
		return err
	})
	if err != nil || wait == nil {
		return err
	}
	select {
	case <-wait:
	case <-ctx.Done():
		return tx.fail(op, ctx.Err())
	}
	tx.memory.mu.Lock()
	err = tx.broken
	tx.memory.mu.Unlock()
	if err != nil {
		return tx.fail(op, err)
	}
	return nil
}

// acquire takes the lock, or queues for it and returns what to wait for.
func (tx *MemoryTx) acquire(name lockName) (wait chan struct{}, err error) {
	locks := tx.memory.locks
	lock := locks[name]
	if lock == nil {
		locks[name] = &rowLock{holder: tx}
		tx.held = append(tx.held, name)
		return nil, nil
	}
	if lock.holder == tx {
		return nil, nil
	}
	for l := lock; l != nil; l = l.holder.waitsFor {
		if l.holder == tx {
			return nil, ErrDeadlock
		}
	}
	lock.waiters = append(lock.waiters, tx)
	tx.waitsFor, tx.granted = lock, make(chan struct{})
	return tx.granted, nil
}

// release hands the lock to the transaction that has waited longest.
func (m *Memory) release(name lockName) {
	lock := m.locks[name]
	if len(lock.waiters) == 0 {
		delete(m.locks, name)
		return
	}
	next := lock.waiters[0]
	lock.waiters = lock.waiters[1:]
	lock.holder = next
	next.held = append(next.held, name)
	next.waitsFor = nil
	close(next.granted)
}

// stopWaiting takes the transaction out of the queue it stands in.
func (tx *MemoryTx) stopWaiting() {
	if tx.waitsFor == nil {
		return
	}
	at := slices.Index(tx.waitsFor.waiters, tx)
	tx.waitsFor.waiters = slices.Delete(tx.waitsFor.waiters, at, at+1)
	tx.waitsFor = nil
	close(tx.granted)
}
