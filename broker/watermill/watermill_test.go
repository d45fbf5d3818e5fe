package watermill_test

import (
	"context"
	"maps"
	"sync"
	"testing"
	"time"

	wmill "github.com/ThreeDotsLabs/watermill"
	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/ThreeDotsLabs/watermill/pubsub/gochannel"
	"go.uber.org/goleak"

	"github.com/lockstep-go/lockstep/broker/watermill"
	"github.com/lockstep-go/lockstep/conformance"
	"github.com/lockstep-go/lockstep/core"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// open returns the broker over publisher, which is safe.
func open(t *testing.T, publisher message.Publisher) *watermill.Broker {
	t.Helper()
	broker, err := watermill.New(publisher)
	if err != nil {
		t.Fatal(err)
	}
	return broker
}

// gochannel stores nothing. Its subscriber does here, and Publish waits until it has.
func TestConformance(t *testing.T) {
	conformance.TestBroker(t, func(t *testing.T) conformance.BrokerFixture {
		channel := gochannel.NewGoChannel(gochannel.Config{BlockPublishUntilSubscriberAck: true}, wmill.NopLogger{})
		t.Cleanup(func() { channel.Close() })
		var silence sync.Mutex
		return conformance.BrokerFixture{
			Broker:     open(t, channel),
			Topic:      "orders",
			Read:       subscribed(t, channel, "orders", &silence),
			OtherTopic: "payments",
			ReadOther:  subscribed(t, channel, "payments", &silence),
			Freeze: func() (thaw func(), err error) {
				silence.Lock()
				return silence.Unlock, nil
			},
		}
	})
}

// subscribed stores what a topic receives, unless there is silence, and returns what reads it.
func subscribed(t *testing.T, channel *gochannel.GoChannel, topic string, silence *sync.Mutex) func(ctx context.Context, n int) ([]core.Message, error) {
	t.Helper()
	received, err := channel.Subscribe(context.Background(), topic)
	if err != nil {
		t.Fatal(err)
	}
	stored := make(chan core.Message, 10_000) // room for all that a check publishes
	go func() {
		for m := range received {
			silence.Lock()
			stored <- fromWatermill(m)
			m.Ack()
			silence.Unlock()
		}
	}()
	var msgs []core.Message
	return func(ctx context.Context, n int) ([]core.Message, error) {
		for len(msgs) < n {
			select {
			case m := <-stored:
				msgs = append(msgs, m)
			case <-ctx.Done():
				return nil, ctx.Err()
			}
		}
		return msgs[:n], nil
	}
}

func fromWatermill(m *message.Message) core.Message {
	headers := maps.Clone(m.Metadata)
	delete(headers, watermill.KeyMetadata)
	delete(headers, watermill.EnqueuedAtMetadata)
	return core.Message{ID: m.UUID, Key: m.Metadata.Get(watermill.KeyMetadata), Headers: headers, Payload: m.Payload}
}

// taken returns the one message that publish publishes to topic through a channel.
func taken(t *testing.T, topic string, publish func(channel message.Publisher) error) *message.Message {
	t.Helper()
	channel := gochannel.NewGoChannel(gochannel.Config{BlockPublishUntilSubscriberAck: true}, wmill.NopLogger{})
	defer channel.Close()
	received, err := channel.Subscribe(t.Context(), topic)
	if err != nil {
		t.Fatal(err)
	}
	published := make(chan error, 1)
	go func() { published <- publish(channel) }()
	select {
	case m := <-received:
		m.Ack()
		if err := <-published; err != nil {
			t.Fatalf("publish: %v", err)
		}
		return m
	case err := <-published:
		t.Fatalf("publish: got %v, and no message", err)
		return nil
	}
}

// The table of docs/messages.md.
func TestPublishCarriesEveryPartOfTheMessage(t *testing.T) {
	enqueued := time.Date(2026, 2, 3, 5, 6, 7, 120_000_000, time.FixedZone("", 3600))
	got := taken(t, "orders", func(channel message.Publisher) error {
		return open(t, channel).Publish(t.Context(), []core.Message{{
			ID: "id-1", Topic: "orders", Key: "42", Payload: []byte("{}"), EnqueuedAt: enqueued,
			Headers: map[string]string{"h": "v", "content-type": "application/json"},
		}})
	})
	if got.UUID != "id-1" || string(got.Payload) != "{}" {
		t.Errorf("got id %q and payload %q, want id-1 and {}", got.UUID, got.Payload)
	}
	want := message.Metadata{"h": "v", "content-type": "application/json",
		"lockstep-key": "42", "lockstep-enqueued-at": "2026-02-03T04:06:07.120000Z"}
	if !maps.Equal(got.Metadata, want) {
		t.Errorf("metadata: got %v, want %v", got.Metadata, want)
	}
}

func TestWhatAMessageDoesNotHaveIsNotInItsMetadata(t *testing.T) {
	got := taken(t, "orders", func(channel message.Publisher) error {
		return open(t, channel).Publish(t.Context(), []core.Message{{ID: "id-1", Topic: "orders"}})
	})
	if len(got.Metadata) != 0 || len(got.Payload) != 0 {
		t.Errorf("got metadata %v and payload %q, want neither", got.Metadata, got.Payload)
	}
}

func TestPartitionKey(t *testing.T) {
	m := message.NewMessage("id-1", nil)
	if key, err := watermill.PartitionKey("orders", m); key != "id-1" || err != nil {
		t.Errorf("without a key: got %q and %v, want the UUID, so that such messages are spread", key, err)
	}
	m.Metadata.Set(watermill.KeyMetadata, "42")
	if key, err := watermill.PartitionKey("orders", m); key != "42" || err != nil {
		t.Errorf("with a key: got %q and %v, want 42", key, err)
	}
}
