package config_test

import (
	"context"
	"errors"
	"log/slog"
	"net/url"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/lockstep-go/lockstep/core"
)

// askable is a fake broker that can be asked.
type askable struct {
	*fakeBroker
	ping func(ctx context.Context) error
}

func (b *askable) Ping(ctx context.Context) error { return b.ping(ctx) }

// routed opens a broker that routes to the brokers a, b, and c, which are asked through ping. What else a configuration names can't be asked.
func routed(t *testing.T, ping func(ctx context.Context, name string) error) core.Pinger {
	t.Helper()
	b := newBench()
	b.registry.Broker(func(u *url.URL, _ *slog.Logger) (core.Broker, error) {
		return &askable{&fakeBroker{name: u.Host, closed: &b.closed}, func(ctx context.Context) error { return ping(ctx, u.Host) }}, nil
	}, "askable")
	opened, err := b.open(t, "database: fake:x\nbroker: b\nroutes: [{topics: a.one, broker: a}, {topics: p, broker: plain}, {topics: a.two, broker: a},"+
		" {topics: c, broker: c}]\nbrokers: {a: 'askable://a', b: 'askable://b', c: 'askable://c', plain: 'plain://p'}\n")
	if err != nil {
		t.Fatal(err)
	}
	pinger, ok := core.Ability[core.Pinger](opened.Outboxes[0].Broker)
	if !ok {
		t.Fatal("what routes can't be asked")
	}
	return pinger
}

// One broker that is away has lost calls, whatever the others say. So all must answer, and what one says is not lost.
func TestEveryRoutedBrokerMustAnswer(t *testing.T) {
	t.Parallel()
	gone := errors.New("is gone")
	for name, answer := range map[string]func() error{
		"":  nil,
		"a": func() error { return gone },
		"b": func() error { return gone },
		"c": func() error { panic(gone) },
	} {
		t.Run("without "+name, func(t *testing.T) {
			t.Parallel()
			var mu sync.Mutex
			var asked []string
			err := routed(t, func(_ context.Context, broker string) error {
				mu.Lock()
				defer mu.Unlock()
				asked = append(asked, broker)
				if broker == name {
					return answer()
				}
				return nil
			}).Ping(t.Context())
			if slices.Sort(asked); !slices.Equal(asked, []string{"a", "b", "c"}) {
				t.Errorf("asked %v, want each of a, b and c once", asked)
			}
			if name == "" && err != nil || name != "" && (err == nil || !strings.Contains(err.Error(), gone.Error())) {
				t.Errorf("got %v", err)
			}
		})
	}
}

// A broker that says nothing does not keep the others from being asked, and is given up with the ping's time.
func TestRoutedBrokersAreAskedAtTheSameTime(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	var all sync.WaitGroup
	all.Add(3)
	go func() {
		all.Wait() // where one waited for another, for ever
		cancel()
	}()
	err := routed(t, func(ctx context.Context, _ string) error {
		all.Done()
		<-ctx.Done()
		return ctx.Err()
	}).Ping(ctx)
	if !errors.Is(err, context.Canceled) {
		t.Errorf("got %v, want %v", err, context.Canceled)
	}
}
