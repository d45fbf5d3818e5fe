package conformance

import (
	"context"
	"fmt"
	"time"

	"github.com/lockstep-go/lockstep/core"
)

// publish is one call: it waits, stores, waits, and answers, as the fault says.
func (c *client) publish(ctx context.Context, r *Recorder, msgs []core.Message) error {
	call, fault := r.begin(c, PublishCall{Term: c.term, Messages: msgs})
	r.watch(ctx, c, call, msgs)
	defer r.unwatch(c, call, msgs)
	var given []core.Message
	if fault.waits() {
		given = copyMessages(msgs) // now, because the caller may give the call up before it returns
	}

	err := fault.pass(ctx, fault.Before)
	if err == nil && fault.Hang {
		<-ctx.Done()
		err = ctx.Err()
	}
	var results []error
	reached := err == nil
	if reached {
		results = r.storeAll(c, call, msgs, &fault)
		err = fault.pass(ctx, fault.After)
	}
	if err == nil {
		err = fault.answer(results, len(msgs))
	}
	copies := fault.lateCopies(len(msgs))
	if c.config.KeyOrdered {
		withholdFollowers(copies, msgs, func(i int) bool {
			return reached && (len(results) == 0 || results[i] == nil || fault.fate(i).Store)
		})
	}
	r.end(c, call, msgs, given, copies, err != nil || fault.Panic != nil)
	if fault.Panic != nil {
		panic(fault.Panic)
	}
	return err
}

// storeAll is the call's storing instant. It returns the results, or nil where all are nil.
func (r *Recorder) storeAll(c *client, call int, msgs []core.Message, fault *PublishFault) (results []error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.settle(time.Now())
	var holes map[topicKey]bool
	for i := range msgs {
		m, fate := &msgs[i], fault.fate(i)
		err := fate.Err
		if c.config.KeyOrdered && m.Key != "" && holes[keyOf(m)] {
			err = core.ErrNotAttempted
		} else if err == nil || fate.Store {
			if fenced := r.storeInTerm(c, call, m); fenced != nil {
				err, fate.Store = fenced, false
			}
		}
		if err == nil {
			continue
		}
		if results == nil {
			results = make([]error, len(msgs))
		}
		results[i] = err
		if c.config.KeyOrdered && !fate.Store {
			if holes == nil {
				holes = map[topicKey]bool{}
			}
			holes[keyOf(m)] = true
		}
	}
	return results
}

// storeInTerm stores a message of a call, and raises the topic's fence if that is when it is raised.
func (r *Recorder) storeInTerm(c *client, call int, m *core.Message) error {
	if err := r.store(call, c.term, m); err != nil {
		return err
	}
	if place := (destination{c.term.Outbox, m.Topic}); c.config.FenceByPublish && c.term.Epoch > r.fences[place] {
		r.fences[place] = c.term.Epoch
	}
	return nil
}

// answer makes the call's error of its results.
func (f *PublishFault) answer(results []error, messages int) error {
	if f.Err != nil {
		return f.Err
	}
	if results == nil && f.Resize == 0 {
		return nil
	}
	resized := make([]error, max(0, messages+f.Resize))
	copy(resized, results)
	return &core.BatchError{Results: resized}
}

// pass lets d pass, or ctx end. An end of ctx at the very instant at which d is over counts as earlier.
func (f *PublishFault) pass(ctx context.Context, d time.Duration) error {
	if f.Deaf {
		time.Sleep(d)
		return nil
	}
	if err := ctx.Err(); err != nil || d <= 0 {
		return err
	}
	var over <-chan time.Time
	if deadline, ok := ctx.Deadline(); !ok || deadline.After(time.Now().Add(d)) {
		timer := time.NewTimer(d)
		defer timer.Stop()
		over = timer.C
	}
	select {
	case <-over:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// lateCopies returns after which time a copy of each message is stored; 0 means none.
func (f *PublishFault) lateCopies(messages int) []time.Duration {
	copies := make([]time.Duration, messages)
	for i := range copies {
		copies[i] = f.fate(i).LateCopy
	}
	return copies
}

// withholdFollowers takes away the late copy of each message behind one of its key that is not stored. A key-ordered
// client does not go on behind that, in the background neither.
func withholdFollowers(copies []time.Duration, msgs []core.Message, stored func(i int) bool) {
	holes := map[topicKey]bool{}
	for i := range msgs {
		key := keyOf(&msgs[i])
		if msgs[i].Key == "" {
			continue
		}
		if holes[key] {
			copies[i] = 0
		}
		holes[key] = holes[key] || !stored(i)
	}
}

// end queues the call's late copies, and remembers the memory of one that failed.
func (r *Recorder) end(c *client, call int, msgs, given []core.Message, copies []time.Duration, failed bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for i, after := range copies {
		if after <= 0 {
			continue
		}
		message := &msgs[i]
		if !failed { // the caller may use the memory again
			own := copyMessage(message)
			message = &own
		}
		r.addLate(lateCopy{time.Now().Add(after), call, c.term, message})
	}
	if failed {
		if given == nil {
			given = copyMessages(msgs)
		}
		r.failed = append(r.failed, failedCall{call, msgs, given})
	}
}

// watch looks for what a caller may not do, and notes the call's keys.
func (r *Recorder) watch(ctx context.Context, c *client, call int, msgs []core.Message) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(msgs) == 0 {
		r.misuse = append(r.misuse, fmt.Errorf("call %d has no messages", call))
	}
	if c.running == nil {
		c.running = map[topicKey]running{}
	}
	for i := range msgs {
		if msgs[i].Key == "" {
			continue
		}
		key := keyOf(&msgs[i])
		if other, ok := c.running[key]; ok {
			if other.call == call && !c.config.KeyOrdered {
				r.misuse = append(r.misuse, fmt.Errorf("call %d holds two messages of the key %q", call, key))
			}
			if other.call != call && other.ctx.Err() == nil {
				r.misuse = append(r.misuse, fmt.Errorf("call %d holds the key %q at the same time as call %d", call, key, other.call))
			}
		}
		c.running[key] = running{call, ctx}
	}
}

// unwatch forgets the keys of a call, unless a later one holds them now.
func (r *Recorder) unwatch(c *client, call int, msgs []core.Message) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for i := range msgs {
		if key := keyOf(&msgs[i]); c.running[key].call == call {
			delete(c.running, key)
		}
	}
}
