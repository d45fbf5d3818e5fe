package conformance

import (
	"context"
	"slices"
	"time"

	"github.com/lockstep-go/lockstep/core"
)

var _ core.InboxStore = (*Memory)(nil)

// receipt names what a consumer has received.
type receipt struct{ consumer, id string }

// received is a receipt and its time.
type received struct {
	receipt
	at time.Time
}

// Receive notes through tx, which must be a *[MemoryTx] of m, that consumer has received the message. It waits for the
// transaction that has noted the same.
func (m *Memory) Receive(ctx context.Context, tx core.Execer, consumer, id string) (first bool, err error) {
	own, err := m.own(tx)
	if err != nil {
		return false, err
	}
	name := receipt{consumer, id}
	if err := own.lock(ctx, "Receive", lockName{received: name}); err != nil {
		return false, err
	}
	err = own.statement(ctx, "Receive", func() error {
		_, before := m.inbox[name]
		if first = !before && !slices.ContainsFunc(own.received, func(r received) bool { return r.receipt == name }); first {
			own.received = append(own.received, received{name, m.now()})
		}
		return nil
	})
	return first, err
}

// Forget removes the oldest receipts, over a connection of its own.
func (m *Memory) Forget(ctx context.Context, olderThan time.Duration, limit int) (n int, err error) {
	s, err := m.Open(ctx)
	if err != nil {
		return 0, err
	}
	defer s.Close()
	err = s.(*memorySession).run(ctx, "Forget", func() error {
		var old []received
		for name, at := range m.inbox {
			if at.Compare(m.now().Add(-olderThan)) <= 0 {
				old = append(old, received{name, at})
			}
		}
		slices.SortFunc(old, func(a, b received) int { return a.at.Compare(b.at) })
		old = old[:min(limit, len(old))]
		for _, r := range old {
			delete(m.inbox, r.receipt)
			log := m.current()
			log.received = append(log.received, receivedChange{r, false})
		}
		n = len(old)
		m.commit()
		return nil
	}, nil)
	return n, err
}

// MigrateInbox has nothing to do.
func (m *Memory) MigrateInbox(context.Context) error { return nil }

// receivedChange put a receipt in, or took it out.
type receivedChange struct {
	received
	in bool
}

// receive makes what a transaction has received the database's.
func (m *Memory) receive(all []received) {
	log := m.current()
	for _, r := range all {
		m.inbox[r.receipt] = r.at
		log.received = append(log.received, receivedChange{r, true})
	}
}

// unreceive takes changes back.
func (m *Memory) unreceive(changes []receivedChange) {
	for _, c := range slices.Backward(changes) {
		if c.in {
			delete(m.inbox, c.receipt)
		} else {
			m.inbox[c.receipt] = c.at
		}
	}
}
