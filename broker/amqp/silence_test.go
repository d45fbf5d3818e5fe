package amqp_test

import (
	"context"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/lockstep-go/lockstep/broker/amqp"
	"github.com/lockstep-go/lockstep/conformance"
	"github.com/lockstep-go/lockstep/core"
	"github.com/lockstep-go/lockstep/internal/servers"
)

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

// The host loses its power and comes back: what was connected stays silent for good, with no heartbeat that would end it soon, and
// calls may last for an hour. That delivery goes on at all is by the pings.
func TestDeliveryGoesOnAfterASilence(t *testing.T) {
	t.Parallel()
	address := servers.RabbitMQ(t)
	to := newTopology(t, address, queue{kind: "classic"})
	proxy, through := throughProxy(t, address)
	memory := conformance.NewMemory(conformance.MemoryConfig{})
	enqueue := func(when string, n int) {
		tx, err := memory.Begin(t.Context())
		must(t, err)
		for i := range n {
			key := fmt.Sprint(when, i)
			must(t, core.NewOutbox(memory, core.OutboxConfig{}).Enqueue(t.Context(), tx, core.Message{ID: key, Topic: to.exchange, Key: key}))
		}
		must(t, tx.Commit())
	}
	log := tellsOfSilence{slog.DiscardHandler, make(chan struct{}, 1)}
	broker := open(t, amqp.Config{URLs: []string{through + "?heartbeat=3600"}})
	relay, err := core.NewRelay(memory, broker, core.RelayConfig{Logger: slog.New(log), PublishTimeout: time.Hour, Hooks: core.Hooks{
		Failed: func(f core.Failure) { t.Errorf("an attempt was counted: %s", f.Cause) },
	}})
	must(t, err)
	ctx, stop := context.WithTimeout(t.Context(), 3*longEnough)
	defer stop()
	ended := make(chan error, 1)
	go func() { ended <- relay.Run(ctx) }()
	delivered := func(what string) {
		for len(memory.Contents().Records) > 0 && ctx.Err() == nil {
			select {
			case <-ctx.Done():
			case <-time.After(10 * time.Millisecond): // between two looks
			}
		}
		if ctx.Err() != nil {
			t.Fatalf("%s is not delivered: %d messages are left", what, len(memory.Contents().Records))
		}
	}

	enqueue("before", 20)
	delivered("what was enqueued before the silence")
	select {
	case <-log.silent: // a machine that stood still before
	default:
	}
	proxy.Freeze()
	enqueue("during", 1)
	select {
	case <-log.silent:
	case <-ctx.Done():
		t.Fatal("the relay has not noticed the silence")
	}
	proxy.Strand()
	proxy.Thaw()
	delivered("what was enqueued in the silence")
	enqueue("after", 20)
	delivered("what was enqueued after the silence")
	stop()
	if err := <-ended; err != nil {
		t.Errorf("Run: %v", err)
	}
}
