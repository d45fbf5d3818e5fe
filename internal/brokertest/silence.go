// Package brokertest has what the tests of several brokers share and an adapter of somebody else needs no part of.
package brokertest

import (
	"context"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/lockstep-go/lockstep/conformance"
	"github.com/lockstep-go/lockstep/core"
)

// DeliversAfterASilence takes the broker's host its power and gives it back: what was connected through proxy stays silent for
// good, and calls may last for an hour. That delivery goes on at all is by the pings. broker is connected through proxy alone,
// and has the topic; all of it takes no longer than within.
func DeliversAfterASilence(t *testing.T, broker core.Broker, proxy *conformance.Proxy, topic string, within time.Duration) {
	t.Helper()
	memory := conformance.NewMemory(conformance.MemoryConfig{})
	log := tellsOfSilence{slog.DiscardHandler, make(chan struct{}, 1)}
	relay, err := core.NewRelay(memory, broker, core.RelayConfig{Logger: slog.New(log), PublishTimeout: time.Hour, Hooks: core.Hooks{
		Failed: func(f core.Failure) { t.Errorf("an attempt was counted: %s", f.Cause) },
	}})
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithTimeout(t.Context(), within)
	defer stop()
	ended := make(chan error, 1)
	go func() { ended <- relay.Run(ctx) }()

	enqueue(t, memory, topic, "before", 20)
	awaitDelivery(ctx, t, memory, "what was enqueued before the silence")
	select {
	case <-log.silent: // a machine that stood still before
	default:
	}
	proxy.Freeze()
	enqueue(t, memory, topic, "during", 1)
	select {
	case <-log.silent:
	case <-ctx.Done():
		t.Fatal("the relay has not noticed the silence")
	}
	proxy.Strand()
	proxy.Thaw()
	awaitDelivery(ctx, t, memory, "what was enqueued in the silence")
	enqueue(t, memory, topic, "after", 20)
	awaitDelivery(ctx, t, memory, "what was enqueued after the silence")
	stop()
	if err := <-ended; err != nil {
		t.Errorf("Run: %v", err)
	}
}

// tellsOfSilence is a log handler that tells when the relay has found that the broker answers nothing.
type tellsOfSilence struct {
	slog.Handler
	silent chan struct{}
}

func (h tellsOfSilence) Enabled(context.Context, slog.Level) bool { return true }

func (h tellsOfSilence) Handle(_ context.Context, r slog.Record) error {
	if strings.Contains(r.Message, "answers nothing") {
		select {
		case h.silent <- struct{}{}:
		default:
		}
	}
	return nil
}

// enqueue enqueues n messages, each with a key of its own.
func enqueue(t *testing.T, memory *conformance.Memory, topic, when string, n int) {
	t.Helper()
	tx, err := memory.Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for i := range n {
		key := fmt.Sprint(when, i)
		if err := core.NewOutbox(memory, core.OutboxConfig{}).Enqueue(t.Context(), tx, core.Message{ID: key, Topic: topic, Key: key}); err != nil {
			t.Fatal(err)
		}
	}
	if err := tx.Commit(); err != nil {
		t.Fatal(err)
	}
}

func awaitDelivery(ctx context.Context, t *testing.T, memory *conformance.Memory, what string) {
	t.Helper()
	for len(memory.Contents().Records) > 0 {
		select {
		case <-ctx.Done():
			t.Fatalf("%s is not delivered: %d messages are left", what, len(memory.Contents().Records))
		case <-time.After(10 * time.Millisecond): // between two looks
		}
	}
}
