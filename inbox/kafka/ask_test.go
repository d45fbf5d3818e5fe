package kafka_test

import (
	"context"
	"net"
	"testing"
	"time"

	kafkago "github.com/segmentio/kafka-go"

	"github.com/lockstep-go/lockstep/core"
	"github.com/lockstep-go/lockstep/internal/inboxtest"
)

// A bootstrap broker that is silent holds up none that answers.
func TestASilentBootstrapBroker(t *testing.T) {
	t.Parallel()
	const silent = "silent.invalid:9092"
	for name, dial := range map[string]func(ctx context.Context, network, accepts string) (net.Conn, error){
		"that does not let anybody connect": func(ctx context.Context, _, _ string) (net.Conn, error) {
			<-ctx.Done()
			return nil, ctx.Err()
		},
		"that accepts connections": (&net.Dialer{}).DialContext,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			backlog, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0") // nobody calls Accept
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { backlog.Close() })
			w, _ := newFakeWorld(t, "orders")
			w.publish(t, core.Message{ID: "a"})
			config := w.config("billing")
			config.Brokers = []string{silent, w.address}
			config.Dialer = &kafkago.Dialer{Timeout: 10 * time.Second, DialFunc: func(ctx context.Context, network, address string) (net.Conn, error) {
				if address == silent {
					return dial(ctx, network, backlog.Addr().String())
				}
				return (&net.Dialer{}).DialContext(ctx, network, address)
			}}
			stop := inboxtest.Running(t, w.loopWith(t, config, effect))
			w.Await(t, 1)
			stop()
			w.ExpectOnce(t, "a")
		})
	}
}
