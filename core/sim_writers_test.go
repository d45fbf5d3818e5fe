package core_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/lockstep-go/lockstep/conformance"
	"github.com/lockstep-go/lockstep/core"
)

// write runs one writer's transactions.
func (w *world) write(ctx context.Context, n int) {
	r := w.random(uint64(10 + n))
	outbox := core.NewOutbox(w.memory, core.OutboxConfig{Logger: quiet})
	if w.plan.wakeUps {
		ctx, stop := context.WithCancel(ctx)
		var running group
		running.Go(func() { outbox.Run(ctx) })
		defer running.Wait()
		defer stop()
	}
	for range w.plan.transactions {
		time.Sleep(latency(r, 500*time.Millisecond)) // the bubble's clock
		w.transaction(ctx, r, outbox)
	}
}

// transaction enqueues for one to three keys, whose rows it locks first.
func (w *world) transaction(ctx context.Context, r *rand.Rand, outbox *core.Outbox) {
	tx, err := w.memory.Begin(ctx)
	if err != nil {
		return
	}
	defer tx.Rollback()
	msgs, written, err := w.compose(ctx, r, tx)
	if err != nil {
		return
	}
	if err := outbox.Enqueue(ctx, tx, msgs...); err != nil {
		return
	}
	if r.IntN(3) == 0 {
		time.Sleep(latency(r, 3*time.Second)) // stays open
	}
	if r.Float64() < w.plan.rollbacks {
		return
	}
	w.mu.Lock()
	for _, e := range written {
		w.events[e.id] = e
		e.enqueuedIn(tx)
	}
	w.mu.Unlock()
	err = tx.Commit()
	outbox.Wake()
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, e := range written {
		e.certain = err == nil
		e.committed()
	}
}

// compose locks rows and makes the transaction's messages.
func (w *world) compose(ctx context.Context, r *rand.Rand, tx *conformance.MemoryTx) ([]core.Message, []*event, error) {
	var msgs []core.Message
	var written []*event
	first := r.IntN(w.plan.keys)
	for k := first; k < min(w.plan.keys, first+1+r.IntN(3)); k++ { // ascending: no deadlocks
		topic := fmt.Sprintf("t%d", k%w.plan.topics)
		key := fmt.Sprintf("%s/k%d", topic, k)
		if err := tx.LockRow(ctx, key); err != nil {
			return nil, nil, err
		}
		for range 1 + r.IntN(3) {
			m, e := w.message(r, topic, fmt.Sprintf("k%d", k))
			msgs, written = append(msgs, m), append(written, e)
		}
	}
	if r.IntN(4) == 0 {
		m, e := w.message(r, "t0", "")
		msgs, written = append(msgs, m), append(written, e)
	}
	return msgs, written, nil
}

func (w *world) message(r *rand.Rand, topic, key string) (core.Message, *event) {
	w.mu.Lock()
	defer w.mu.Unlock()
	e := &event{key: topic + "/" + key}
	if key == "" {
		e.key = ""
	}
	w.next[e.key]++
	e.order = w.next[e.key]
	e.id = fmt.Sprintf("%s/%s#%d", topic, key, e.order)
	m := core.Message{ID: e.id, Topic: topic, Key: key, Payload: []byte(e.id)}
	if w.plan.padding > 0 && r.IntN(3) == 0 {
		m.Payload = append(m.Payload, make([]byte, w.plan.padding)...)
	}
	e.pause = w.paused[topic]
	if r.Float64() < w.plan.poison {
		w.refusals[e.id] = r.IntN(5) - 1
	}
	if r.Float64() < w.plan.hangs {
		w.hanging[e.id] = true
	}
	if len(w.killers) < w.plan.killers && r.IntN(5) == 0 {
		w.killers[e.id] = true
	}
	if r.Float64() < w.plan.delayed {
		m.NotBefore = time.Now().Add(time.Duration(r.Int64N(int64(5 * time.Second))))
		if w.plan.clocks > 0 {
			m.NotBefore = m.NotBefore.Add(jump(r))
		}
		e.delay(m.NotBefore)
	}
	return m, e
}
