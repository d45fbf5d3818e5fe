package core_test

import (
	"context"
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
