package conformance

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/lockstep-go/lockstep/core"
)

var _ core.Broker = (*Recorder)(nil)

// Delivery is a message that a [Recorder] stored.
type Delivery struct {
	// Message is the recorder's own copy.
	Message core.Message
	// At is when it was stored.
	At time.Time
	// Call is the number of the call that sent it, from 1.
	Call int
	// Late says that it was stored after its call had returned.
	Late bool
}

// Recorder is a broker in memory, for tests of the engine: it records what it stored, in order, and goes wrong on
// demand. It also watches its caller: see [Recorder.Misuse].
//
// Like [Memory] it starts no goroutine and has no randomness. Its zero value works. As a core.Broker it has the minimum
// of abilities; [Recorder.Client] gives more.
type Recorder struct {
	injecting sync.Mutex
	inject    func(PublishCall) PublishFault

	mu      sync.Mutex
	calls   int
	clients int
	stored  []Delivery
	late    []lateCopy
	failed  []failedCall
	misuse  []error
	fences  map[destination]int64 // the lowest epoch that may still store there
	terms   map[core.Term]bool
	first   client // r as a broker
}

// destination is where an outbox's relays publish to: a topic, or with an empty one every topic.
type destination struct{ outbox, topic string }

// lateCopy is a message that a call has left behind, somewhere between the client and the broker.
type lateCopy struct {
	due     time.Time
	call    int
	term    core.Term
	message *core.Message // in the memory that the call was given, if that call failed
}

// failedCall is the memory of a call that returned an error, and what was in it.
type failedCall struct {
	call        int
	given, copy []core.Message
}

// Inject makes f decide what goes wrong with each call from now on; nil ends it. It is called by one goroutine at a
// time, when a call begins.
func (r *Recorder) Inject(f func(PublishCall) PublishFault) {
	r.injecting.Lock()
	defer r.injecting.Unlock()
	r.inject = f
}

// Publish stores msgs, unless a fault is injected.
func (r *Recorder) Publish(ctx context.Context, msgs []core.Message) error {
	return r.first.publish(ctx, r, msgs)
}

// another returns a client with r's abilities.
func (r *Recorder) another() core.Broker { return r.Client(ClientConfig{}) }

// Stored returns what was stored so far, in order. The result is not to be changed.
func (r *Recorder) Stored() []Delivery {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.settle(time.Now())
	return slices.Clip(r.stored)
}

// Calls returns how many calls have begun.
func (r *Recorder) Calls() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.calls
}

// Misuse returns what the callers did that [core.Broker] promises an adapter not to happen: a call without messages,
// two messages of a key in a call or in two calls at the same time, a changed memory of a call that had failed, a term
// that was begun twice. It is nil while there is none.
func (r *Recorder) Misuse() []error {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.settle(time.Now())
	for _, f := range r.failed {
		for i := range f.given {
			if !sameMessage(&f.given[i], &f.copy[i]) {
				r.misuse = append(r.misuse, fmt.Errorf("call %d failed, and then the memory of its message %q was used again: it holds %.200v",
					f.call, f.copy[i].ID, f.given[i]))
			}
		}
	}
	r.failed = nil
	return slices.Clip(r.misuse)
}

// store stores a message, unless its sender was shut out.
func (r *Recorder) store(call int, term core.Term, m *core.Message) error {
	if term.Epoch < r.fences[destination{outbox: term.Outbox}] || term.Epoch < r.fences[destination{term.Outbox, m.Topic}] {
		return core.ErrFenced
	}
	r.stored = append(r.stored, Delivery{Message: copyMessage(m), At: time.Now(), Call: call})
	return nil
}

// settle stores the late copies that are due. Every look at what is stored, and every change of a fence, comes after it.
func (r *Recorder) settle(now time.Time) {
	for len(r.late) > 0 && !r.late[0].due.After(now) {
		late := r.late[0]
		r.late = r.late[1:]
		if r.store(late.call, late.term, late.message) == nil {
			last := &r.stored[len(r.stored)-1]
			last.At, last.Late = late.due, true
		}
	}
}

// addLate queues a late copy behind those of the same time.
func (r *Recorder) addLate(late lateCopy) {
	at, _ := slices.BinarySearchFunc(r.late, late, func(have, late lateCopy) int {
		if have.due.After(late.due) {
			return 1
		}
		return -1
	})
	r.late = slices.Insert(r.late, at, late)
}

func copyMessage(m *core.Message) core.Message {
	c := *m
	c.Payload = slices.Clone(m.Payload)
	c.Headers = maps.Clone(m.Headers)
	return c
}

func copyMessages(msgs []core.Message) []core.Message {
	copies := make([]core.Message, len(msgs))
	for i := range msgs {
		copies[i] = copyMessage(&msgs[i])
	}
	return copies
}

func sameMessage(a, b *core.Message) bool {
	return a.ID == b.ID && a.Topic == b.Topic && a.Key == b.Key && a.NotBefore.Equal(b.NotBefore) &&
		slices.Equal(a.Payload, b.Payload) && maps.Equal(a.Headers, b.Headers)
}
