package core

import "sync"

// Waker tells the relays of a process at once that an event was committed there, instead of at their next poll. Give
// the same one to [OutboxConfig] and to the relay's configuration.
//
// A wake-up carries nothing and may be lost or repeated: polling is the guarantee, and a wake-up only makes it fast.
// The zero value is ready to use; safe for concurrent use.
type Waker struct {
	mu      sync.Mutex
	waiting map[chan struct{}]struct{}
}

// NewWaker returns a Waker.
func NewWaker() *Waker { return &Waker{} }

// Wake wakes whoever waits, and does not wait itself. Wake-ups that come faster than they are taken become one. A nil
// Waker wakes nobody.
func (w *Waker) Wake() {
	if w == nil {
		return
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	for c := range w.waiting {
		select {
		case c <- struct{}{}:
		default: // one is waiting to be taken, and whoever takes it looks after this commit too
		}
	}
}

// subscribe returns a channel on which each Wake after this call is received, several of them as one, until cancel is
// called. On a nil Waker the channel never delivers. Read the outbox after receiving, never before: the wake-up that
// stands in the channel may be for a commit that the read before did not see.
func (w *Waker) subscribe() (wakeups <-chan struct{}, cancel func()) {
	if w == nil {
		return nil, func() {}
	}
	c := make(chan struct{}, 1)
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.waiting == nil {
		w.waiting = map[chan struct{}]struct{}{}
	}
	w.waiting[c] = struct{}{}
	return c, func() {
		w.mu.Lock()
		defer w.mu.Unlock()
		delete(w.waiting, c)
	}
}
