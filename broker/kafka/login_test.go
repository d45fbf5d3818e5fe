package kafka_test

import (
	"context"
	"errors"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/lockstep-go/lockstep/broker/kafka"
	"github.com/lockstep-go/lockstep/core"
)

// A connection that ends, or falls silent, before it can be used sent no batch. It looks like a lost answer, which is
// uncertain: an EOF, or the time that is over.
func TestWhatFailsBeforeTheBatchIsSentIsNotUncertain(t *testing.T) {
	t.Parallel()
	const apiVersions, saslHandshake, saslAuthenticate = 18, 17, 36
	for name, key := range map[string]int16{
		"the versions": apiVersions, "the handshake": saslHandshake, "the password": saslAuthenticate,
	} {
		for _, silent := range []bool{false, true} {
			how := map[bool]string{false: "cut off at ", true: "silent at "}[silent]
			t.Run(how+name, func(t *testing.T) {
				t.Parallel()
				testNothingSent(t, key, silent)
			})
		}
	}
}

func testNothingSent(t *testing.T, key int16, silent bool) {
	cluster, err := kfake.NewCluster(kfake.NumBrokers(1), kfake.EnableSASL(), kfake.Superuser("PLAIN", "lockstep", "lockstep"),
		kfake.SeedTopics(1, "orders"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(cluster.Close)
	var armed atomic.Bool
	cut := errors.New("cut the connection")
	asked := make(chan struct{}, 100) // whenever there was silence
	cluster.ControlKey(key, func(kmsg.Request) (kmsg.Response, error, bool) {
		if !armed.Load() {
			return nil, nil, false
		}
		cluster.KeepControl()
		if silent {
			asked <- struct{}{}
			return nil, nil, true
		}
		return nil, cut, true
	})
	sent := make(chan struct{}, 10)
	cluster.ControlKey(produceKey, func(kmsg.Request) (kmsg.Response, error, bool) {
		cluster.KeepControl()
		if !armed.Load() {
			return nil, nil, false
		}
		sent <- struct{}{}
		return nil, cut, true
	})
	b := openWith(t, kafka.Config{Brokers: cluster.ListenAddrs(), SASL: kafka.Plain("lockstep", "lockstep")})
	publish := func(id string, enough <-chan struct{}) error {
		ctx, cancel := context.WithTimeout(t.Context(), longEnough)
		defer cancel()
		go func() {
			select {
			case <-enough:
				cancel()
			case <-ctx.Done():
			}
		}()
		return resultsOf(t, b.Publish(ctx, []core.Message{{ID: id, Topic: "orders"}}), 1)[0]
	}
	expectClass(t, "the first", publish("a", nil), nil) // the cluster is known
	armed.Store(true)
	got := publish("b", asked)
	for errors.Is(got, core.ErrUncertain) { // over a connection that has logged in before, of which each is gone after one batch
		select {
		case <-sent:
		case <-time.After(longEnough):
			t.Fatalf("no batch was sent, and got %v", got)
		}
		got = publish("b", asked)
	}
	expectClass(t, "not sent", got, core.ErrUnavailable)
	if !strings.Contains(got.Error(), "produce to orders/0") || !silent && !strings.Contains(got.Error(), "wants TLS or a login") {
		t.Errorf("got %q: want that of a produce request, and what may be wrong", got)
	}
	if n := len(sent); n > 0 {
		t.Errorf("%d batches were sent", n)
	}
	armed.Store(false)
	expectClass(t, "afterwards", publish("d", nil), nil)
}
