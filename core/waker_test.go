package core

import (
	"testing"
	"testing/synctest"
)

func taken(c <-chan struct{}) int {
	n := 0
	for {
		select {
		case <-c:
			n++
		default:
			return n
		}
	}
}

func TestWakerWakesEveryoneOnce(t *testing.T) {
	var w Waker
	w.Wake() // nobody waits: nothing to remember
	a, cancelA := w.subscribe()
	b, cancelB := w.subscribe()
	defer cancelB()
	for range 3 {
		w.Wake()
	}
	if n := taken(a); n != 1 {
		t.Errorf("a was woken %d times, want once for three wake-ups that it did not take", n)
	}
	if n := taken(b); n != 1 {
		t.Errorf("b was woken %d times, want once", n)
	}
	cancelA()
	w.Wake()
	if a, b := taken(a), taken(b); a != 0 || b != 1 {
		t.Errorf("after a left: a was woken %d times and b %d times, want 0 and 1", a, b)
	}
	if len(w.waiting) != 1 {
		t.Errorf("%d subscribers are kept, want 1", len(w.waiting))
	}
}

func TestNoWakerWakesNobody(t *testing.T) {
	var w *Waker
	c, cancel := w.subscribe()
	defer cancel()
	w.Wake()
	NewOutbox(nil, OutboxConfig{}).Wake()
	if n := taken(c); n != 0 {
		t.Errorf("woken %d times", n)
	}
}

// Whoever takes its wake-ups and then looks sees every commit, however the two interleave.
func TestNoWakerIsMissed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := NewWaker()
		const commits = 10_000
		commit := make(chan int, commits)
		c, cancel := w.subscribe()
		defer cancel()
		go func() {
			for i := range commits {
				commit <- i
				w.Wake()
			}
		}()
		for seen := 0; seen < commits; {
			<-c // a missed wake-up is a deadlock, which synctest reports
			for len(commit) > 0 {
				<-commit
				seen++
			}
		}
	})
}
