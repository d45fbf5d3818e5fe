package core_test

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/lockstep-go/lockstep/conformance"
	"github.com/lockstep-go/lockstep/core"
)

// relayTo returns a relay to a fake broker.
func (b *bench) relayTo(f brokerFunc) *core.Relay {
	b.Helper()
	r, err := core.NewRelay(b.memory, f, b.config)
	if err != nil {
		b.Fatal(err)
	}
	return r
}

// runWith runs relay while f runs.
func (b *bench) runWith(relay *core.Relay, f func()) {
	b.Helper()
	ctx, stop := context.WithCancel(b.Context())
	done := make(chan error, 1)
	go func() { done <- relay.Run(ctx) }()
	defer func() { // also where f ends the test
		stop()
		if err := <-done; err != nil {
			b.Errorf("Run: got %v, want nil", err)
		}
	}()
	f()
}

// put commits msgs.
func (b *bench) put(msgs ...core.Message) {
	b.Helper()
	tx, err := b.memory.Begin(b.Context())
	if err != nil {
		b.Fatal(err)
	}
	if err := core.NewOutbox(b.memory, core.OutboxConfig{}).Enqueue(b.Context(), tx, msgs...); err != nil {
		b.Fatal(err)
	}
	if err := tx.Commit(); err != nil {
		b.Fatal(err)
	}
}

// A call that is cut off because the reading session ended would have succeeded in its time: it is no evidence against its
// message, not even where the topic was alive in between.
func TestADatabaseOutageCountsNoAttempt(t *testing.T) {
	for name, cut := range map[string]func(context.Context) error{
		"returns when it is cut off": func(ctx context.Context) error {
			select {
			case <-time.After(10 * time.Second): // the bubble's clock
				return nil
			case <-ctx.Done():
				return ctx.Err()
			}
		},
		"has to be given up": func(context.Context) error {
			time.Sleep(10 * time.Second) // the bubble's clock
			return errors.New("late")
		},
	} {
		t.Run(name, func(t *testing.T) {
			onBench(t, func(b *bench) {
				b.config.Logger = quiet
				b.config.Hooks.Failed = func(f core.Failure) { b.Errorf("an attempt was counted: %+v", f) }
				b.enqueue("a1")
				calls := 0 // with a1
				relay := b.relayTo(func(ctx context.Context, msgs []core.Message) error {
					time.Sleep(time.Millisecond) // the bubble's clock
					if msgs[0].ID == "a1" {
						calls++
						switch calls {
						case 1:
							return errors.New("connection reset")
						case 2:
							b.memory.Restart(conformance.Restart{})
							return cut(ctx)
						}
					}
					return b.recorder.Publish(ctx, msgs)
				})
				b.runWith(relay, func() {
					for i := range 4 { // the topic is alive between the two failures
						// The bubble's clock. What a commit sets off comes whole milliseconds after it, the restart too: no other
						// commit meets it.
						time.Sleep(5*time.Millisecond + 10*time.Microsecond)
						b.enqueue(fmt.Sprintf("o%d", i+1))
					}
					time.Sleep(20 * time.Second) // the bubble's clock
				})
				if calls < 3 {
					b.Errorf("a1 was in %d calls, want one after the outage", calls)
				}
				b.wantLeft("")
			})
		})
	}
}
