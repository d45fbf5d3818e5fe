package watermill_test

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	wmill "github.com/ThreeDotsLabs/watermill"
	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/ThreeDotsLabs/watermill/pubsub/gochannel"
	"go.uber.org/goleak"

	"github.com/lockstep-go/lockstep/broker/watermill"
	"github.com/lockstep-go/lockstep/conformance"
	"github.com/lockstep-go/lockstep/core"
)

// publisherFunc is a fake Watermill publisher.
type publisherFunc func(topic string, m *message.Message) error

func (f publisherFunc) Publish(topic string, msgs ...*message.Message) error {
	for _, m := range msgs {
		if err := f(topic, m); err != nil {
			return err
		}
	}
	return nil
}

func (publisherFunc) Close() error { return nil }

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// gochannel stores nothing. Its subscriber does here, and Publish waits until it has.
func TestConformance(t *testing.T) {
	conformance.TestBroker(t, func(t *testing.T) conformance.BrokerFixture {
		channel := gochannel.NewGoChannel(gochannel.Config{BlockPublishUntilSubscriberAck: true}, wmill.NopLogger{})
		t.Cleanup(func() { channel.Close() })
		received, err := channel.Subscribe(context.Background(), "orders")
		if err != nil {
			t.Fatal(err)
		}
		stored := make(chan core.Message, 10_000) // room for all that a check publishes
		go func() {
			for m := range received {
				stored <- fromWatermill(m)
				m.Ack()
			}
		}()
		return conformance.BrokerFixture{
			Broker: watermill.New(channel),
			Topic:  "orders",
			Read: func(ctx context.Context, n int) ([]core.Message, error) {
				var msgs []core.Message
				for len(msgs) < n {
					select {
					case m := <-stored:
						msgs = append(msgs, m)
					case <-ctx.Done():
						return nil, ctx.Err()
					}
				}
				return msgs, nil
			},
		}
	})
}

func fromWatermill(m *message.Message) core.Message {
	headers := maps.Clone(m.Metadata)
	delete(headers, watermill.KeyMetadata)
	return core.Message{ID: m.UUID, Key: m.Metadata.Get(watermill.KeyMetadata), Headers: headers, Payload: m.Payload}
}

func TestPublishCarriesEveryPartOfTheMessage(t *testing.T) {
	channel := gochannel.NewGoChannel(gochannel.Config{BlockPublishUntilSubscriberAck: true}, wmill.NopLogger{})
	defer channel.Close()
	received, err := channel.Subscribe(t.Context(), "orders")
	if err != nil {
		t.Fatal(err)
	}
	published := make(chan error, 1)
	go func() {
		published <- watermill.New(channel).Publish(t.Context(), []core.Message{{
			ID: "id-1", Topic: "orders", Key: "42", Headers: map[string]string{"h": "v"}, Payload: []byte("{}"),
		}})
	}()

	got := <-received
	got.Ack()

	if err := <-published; err != nil {
		t.Fatalf("Publish: got %v, want nil", err)
	}
	if got.UUID != "id-1" || string(got.Payload) != "{}" {
		t.Errorf("got id %q and payload %q, want id-1 and {}", got.UUID, got.Payload)
	}
	if want := (message.Metadata{"h": "v", watermill.KeyMetadata: "42"}); !maps.Equal(got.Metadata, want) {
		t.Errorf("metadata: got %v, want %v", got.Metadata, want)
	}
}

func TestPublishGivesEachMessageItsResult(t *testing.T) {
	refused := errors.New("refused")
	broker := watermill.New(publisherFunc(func(_ string, m *message.Message) error {
		switch m.UUID {
		case "refused":
			return refused
		case "panics":
			panic("boom")
		}
		return nil
	}))

	err := broker.Publish(t.Context(), []core.Message{{ID: "ok"}, {ID: "refused"}, {ID: "panics"}, {ID: "ok too"}})

	var batch *core.BatchError
	if !errors.As(err, &batch) || len(batch.Results) != 4 {
		t.Fatalf("Publish: got %v, want a *BatchError with 4 results", err)
	}
	r := batch.Results
	if r[0] != nil || r[3] != nil || !errors.Is(r[1], refused) || r[2] == nil {
		t.Errorf("results: got %v, want [nil, refused, an error, nil]", r)
	}
}

func TestPublishReturnsWhenItsTimeIsOver(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		release := make(chan struct{})
		broker := watermill.New(publisherFunc(func(_ string, m *message.Message) error {
			if m.UUID == "hangs" {
				<-release
			}
			return nil
		}))
		ctx, cancel := context.WithTimeout(t.Context(), 3*time.Second)
		defer cancel()

		err := broker.Publish(ctx, []core.Message{{ID: "ok"}, {ID: "hangs"}})

		var batch *core.BatchError
		if !errors.As(err, &batch) {
			t.Fatalf("Publish: got %v, want a *BatchError", err)
		}
		if batch.Results[0] != nil || !errors.Is(batch.Results[1], context.DeadlineExceeded) {
			t.Errorf("results: got %v, want nil and the deadline's error", batch.Results)
		}
		close(release) // synctest fails the test if the abandoned call's goroutines don't end
	})
}

func TestPublishBoundsTheCallsInFlight(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var mu sync.Mutex
		running, most := 0, 0
		broker := watermill.New(publisherFunc(func(string, *message.Message) error {
			mu.Lock()
			running++
			most = max(most, running)
			mu.Unlock()
			time.Sleep(time.Millisecond) // synctest's clock
			mu.Lock()
			running--
			mu.Unlock()
			return nil
		}))
		msgs := make([]core.Message, 100)
		for i := range msgs {
			msgs[i].ID = fmt.Sprint(i)
		}
		if err := broker.Publish(t.Context(), msgs); err != nil {
			t.Fatal(err)
		}
		if most != 32 {
			t.Errorf("most calls in flight: got %d, want 32", most)
		}
	})
}
