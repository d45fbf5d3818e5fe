package core_test

import (
	"context"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/lockstep-go/lockstep/conformance"
	"github.com/lockstep-go/lockstep/core"
)

// The engine looked at the clock once to see what is due, and again to see what will be: what became due in between was
// neither, and the relay slept for an hour. A clock that stands still, as the simulation's does, does not show it.
func TestARelayThatPollsNeverFallsAsleep(t *testing.T) {
	t.Parallel()
	memory := conformance.NewMemory(conformance.MemoryConfig{})
	delivered := make(chan struct{})
	relay, err := core.NewRelay(memory, &conformance.Recorder{}, core.RelayConfig{
		PollInterval: time.Microsecond, // so that the next poll often is due in between
		Hooks:        core.Hooks{Acknowledged: func([]core.Ref) { delivered <- struct{}{} }},
	})
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	stopped := make(chan error)
	go func() { stopped <- relay.Run(ctx) }()
	outbox := core.NewOutbox(memory, core.OutboxConfig{})
	for n := range 200 {
		tx, err := memory.Begin(ctx)
		if err != nil {
			t.Fatal(err)
		}
		if err := outbox.Enqueue(ctx, tx, core.Message{Topic: "orders"}); err != nil {
			t.Fatal(err)
		}
		if err := tx.Commit(); err != nil {
			t.Fatal(err)
		}
		select {
		case <-delivered:
		case <-time.After(10 * time.Second):
			t.Fatalf("message %d was not delivered within 10 s", n)
		}
	}
	stop()
	if err := <-stopped; err != nil {
		t.Errorf("Run: got %v, want nil", err)
	}
}

// What an idle relay asks of a database for, it asks of every outbox of everybody: at most twelve calls a second.
func TestAnIdleRelayAsksAtMostTwelveTimesASecond(t *testing.T) {
	onBench(t, func(b *bench) {
		b.config.Logger = quiet
		const seconds = 60
		calls := map[string]int{}
		var mu sync.Mutex
		relay := b.relay()
		b.runWith(relay, func() {
			time.Sleep(10 * time.Second) // the bubble's clock
			b.memory.Inject(func(c conformance.Call) conformance.Fault {
				mu.Lock()
				defer mu.Unlock()
				calls[c.Op]++
				return conformance.Fault{}
			})
			time.Sleep(seconds * time.Second) // the bubble's clock
			b.memory.Inject(nil)
		})
		total := 0
		for _, n := range calls {
			total += n
		}
		if total > 12*seconds || calls["Fetch"] == 0 || calls["Promote"] == 0 || calls["RenewLease"] == 0 {
			b.Errorf("%d calls in %d s: %v; want at most 12 a second, and some of each", total, seconds, calls)
		}
	})
}

// At a thousand events a second that come one by one, a database is asked once for each of them, and writes down what was
// delivered some two hundred times: what every event costs it is what the application's own transactions do not get.
func TestEventsOneByOneShareCalls(t *testing.T) {
	onBench(t, func(b *bench) {
		b.config.Logger, b.config.Waker = quiet, core.NewWaker()
		const events = 1000
		calls := map[string]int{}
		var mu sync.Mutex
		b.during(func() {
			time.Sleep(10 * time.Second) // the bubble's clock
			b.memory.Inject(func(c conformance.Call) conformance.Fault {
				mu.Lock()
				defer mu.Unlock()
				calls[c.Op]++
				if c.Op == "Fetch" || c.Op == "Acknowledge" {
					return conformance.Fault{After: 300 * time.Microsecond}
				}
				return conformance.Fault{}
			})
			for n := range events {
				b.enqueue(fmt.Sprintf("k%d", n))
				b.config.Waker.Wake()
				time.Sleep(time.Millisecond) // the bubble's clock
			}
			time.Sleep(time.Second) // the bubble's clock
			b.memory.Inject(nil)
		})
		if got := len(b.recorder.Stored()); got != events {
			b.Errorf("%d of %d events were delivered", got, events)
		}
		if calls["Fetch"] > events*11/10 || calls["Acknowledge"] > events/4 {
			b.Errorf("for %d events: %v; want at most a fetch each, and an acknowledgement for every four", events, calls)
		}
	})
}
