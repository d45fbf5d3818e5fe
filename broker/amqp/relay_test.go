package amqp_test

import (
	"context"
	"fmt"
	"log/slog"
	"testing"

	amqp091 "github.com/rabbitmq/amqp091-go"

	"github.com/lockstep-go/lockstep/broker/amqp"
	"github.com/lockstep-go/lockstep/conformance"
	"github.com/lockstep-go/lockstep/core"
	"github.com/lockstep-go/lockstep/internal/dose"
	"github.com/lockstep-go/lockstep/internal/servers"
)

// A relay whose queue refuses much of what it is sent: each key's messages arrive in order, none before one that was
// refused, and nothing is counted against them (RULES 41).
func TestARelayKeepsTheOrderWhenTheQueueRefuses(t *testing.T) {
	for _, kind := range kinds {
		t.Run(kind, func(t *testing.T) {
			t.Parallel()
			address := servers.RabbitMQ(t)
			to := newTopology(t, address, queue{kind: kind, arguments: amqp091.Table{"x-max-length": 20, "x-overflow": "reject-publish"}})
			const keys = 40
			memory := conformance.NewMemory(conformance.MemoryConfig{})
			tx, err := memory.Begin(t.Context())
			must(t, err)
			var msgs []core.Message
			each := dose.Of(t, 10, 100)
			for n := range each {
				for k := range keys {
					msgs = append(msgs, core.Message{ID: fmt.Sprint(k, "/", n), Topic: to.exchange, Key: fmt.Sprint(k), Payload: fmt.Appendf(nil, "%d", n)})
				}
			}
			must(t, core.NewOutbox(memory, core.OutboxConfig{}).Enqueue(t.Context(), tx, msgs...))
			must(t, tx.Commit())

			refusals := make(chan struct{}, 1)
			broker := open(t, amqp.Config{URLs: []string{address}})
			relay, err := core.NewRelay(memory, broker, core.RelayConfig{Logger: slog.New(slog.DiscardHandler), Hooks: core.Hooks{
				Failed: func(f core.Failure) { t.Errorf("an attempt was counted: %s", f.Cause) },
				Buried: func(b core.Burial) { t.Errorf("a message was buried: %s", b.Cause) },
				Held: func(core.Held, error) {
					select {
					case refusals <- struct{}{}:
					default:
					}
				},
			}})
			must(t, err)
			ctx, stop := context.WithTimeout(t.Context(), 3*longEnough)
			ended := make(chan error, 1)
			go func() { ended <- relay.Run(ctx) }()
			select {
			case <-refusals: // before anything is consumed
			case <-ctx.Done():
				t.Error("the queue has refused nothing")
			}
			p := &producer{topic: to.exchange, next: make([]int, keys)}
			for k := range p.next {
				p.next[k] = each
			}
			p.expectOrder(t, consume(t, address, to.exchange))
			stop()
			if err := <-ended; err != nil {
				t.Errorf("Run: %v", err)
			}
		})
	}
}
