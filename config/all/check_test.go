package all_test

import (
	"context"
	"log/slog"
	"net/url"
	"testing"
	"time"

	"github.com/lockstep-go/lockstep/config"
	"github.com/lockstep-go/lockstep/config/all"
	"github.com/lockstep-go/lockstep/conformance"
	"github.com/lockstep-go/lockstep/internal/servers"
)

// A client that has connected once knows much by itself: kafka-go the metadata, and Watermill's publisher and a RabbitMQ connection
// say nothing of their servers until something is sent. /readyz asks without topics, and wants to know how it is now.
func TestCheckNoticesThatABrokerWentAway(t *testing.T) {
	t.Parallel()
	kafka := func(t *testing.T) string { return "kafka://" + servers.Kafka(t) }
	for name, address := range map[string]func(t *testing.T) string{
		"kafka":     kafka,
		"watermill": func(t *testing.T) string { return "watermill+" + kafka(t) },
		"rabbitmq":  func(t *testing.T) string { return servers.RabbitMQ(t) },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			u, err := url.Parse(address(t))
			if err != nil {
				t.Fatal("the server's address cannot be parsed")
			}
			proxy, err := conformance.NewProxy(u.Host, conformance.ProxyConfig{})
			if err != nil {
				t.Fatal(err)
			}
			defer proxy.Close()
			u.Host = proxy.Addr()
			broker, err := all.Registry().OpenBroker(config.NewURL(u.String()), slog.New(slog.DiscardHandler))
			if err != nil {
				t.Fatal(err)
			}
			defer broker.(interface{ Close() error }).Close()
			check := broker.(interface {
				Check(ctx context.Context, topics ...string) error
			}).Check
			there := func(when string) {
				t.Helper()
				if err := check(t.Context()); err != nil {
					t.Errorf("%s: %v", when, err)
				}
			}
			there("while it is there")
			proxy.Down()
			if check(t.Context()) == nil {
				t.Error("while it is away: nil")
			}
			proxy.Up()
			there("when it is back")
			proxy.Freeze()
			ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond) // more would find out no more
			defer cancel()
			if check(ctx) == nil {
				t.Error("while it is silent: nil")
			}
			proxy.Thaw()
			there("when it answers again")
		})
	}
}
