package all_test

import (
	"context"
	"log/slog"
	"testing"

	"github.com/lockstep-go/lockstep/config"
	"github.com/lockstep-go/lockstep/config/all"
	"github.com/lockstep-go/lockstep/conformance"
	"github.com/lockstep-go/lockstep/internal/servers"
)

// A publisher of Watermill's that has connected once says nothing of its servers until something is sent.
func TestWatermillNoticesThatKafkaWentAway(t *testing.T) {
	t.Parallel()
	proxy, err := conformance.NewProxy(servers.Kafka(t), conformance.ProxyConfig{})
	if err != nil {
		t.Fatal(err)
	}
	defer proxy.Close()
	broker, err := all.Registry().OpenBroker(config.NewURL("watermill+kafka://"+proxy.Addr()), slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	defer broker.(interface{ Close() error }).Close()
	check := broker.(interface {
		Check(ctx context.Context, topics ...string) error
	}).Check
	if err := check(t.Context()); err != nil {
		t.Errorf("while Kafka is there: %v", err)
	}
	proxy.Down()
	if check(t.Context()) == nil {
		t.Error("while Kafka is away: nil")
	}
	proxy.Up()
	if err := check(t.Context()); err != nil {
		t.Errorf("when Kafka is back: %v", err)
	}
}
