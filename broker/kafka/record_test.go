package kafka_test

import (
	"bytes"
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	kafkago "github.com/segmentio/kafka-go"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/lockstep-go/lockstep/broker/kafka"
	"github.com/lockstep-go/lockstep/core"
	"github.com/lockstep-go/lockstep/internal/servers"
)

// consume returns the first n records of a topic with one partition, as kafka-go's Reader has them.
func consume(t *testing.T, address, topic string, n int) []kafkago.Message {
	t.Helper()
	reader := kafkago.NewReader(kafkago.ReaderConfig{Brokers: []string{address}, Topic: topic, MaxWait: 100 * time.Millisecond})
	defer reader.Close()
	ctx, cancel := context.WithTimeout(t.Context(), longEnough)
	defer cancel()
	var all []kafkago.Message
	for range n {
		m, err := reader.ReadMessage(ctx)
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, m)
	}
	return all
}

func headersOf(m kafkago.Message) map[string]string {
	all := map[string]string{}
	for _, h := range m.Headers {
		all[h.Key] = string(h.Value)
	}
	return all
}

var (
	enqueuedAt = time.Date(2026, 11, 20, 9, 0, 0, 123_456_000, time.UTC)
	sample     = core.Message{
		ID: "id-1", Key: "Kunde ß", Payload: []byte(`{"a":1}`), EnqueuedAt: enqueuedAt,
		Headers: map[string]string{"content-type": "application/json", "event-type": "order.paid", "empty": ""},
	}
)

// Every fact of docs/messages.md, compressed in each way, by both of a term's broker and without a term.
func TestFactsArriveNatively(t *testing.T) {
	t.Parallel()
	for _, compression := range []kafkago.Compression{0, kafkago.Gzip, kafkago.Snappy, kafkago.Lz4, kafkago.Zstd} {
		t.Run(compression.String(), func(t *testing.T) {
			t.Parallel()
			address, topic := servers.Kafka(t), servers.KafkaTopic(t, 1)
			b := openWith(t, kafka.Config{Brokers: []string{address}, Compression: compression})
			term, err := b.ForTerm(t.Context(), core.Term{Outbox: core.NewID(), Epoch: 1})
			if err != nil {
				t.Fatal(err)
			}
			for _, broker := range []core.Broker{b, term} {
				first, second, third := sample, sample, core.Message{ID: "id-3"}
				second.EnqueuedAt, second.Payload = enqueuedAt.Add(-time.Hour), bytes.Repeat([]byte("x"), 100_000)
				msgs := []core.Message{first, second, third}
				for i := range msgs {
					msgs[i].Topic = topic
				}
				if err := broker.Publish(t.Context(), msgs); err != nil {
					t.Fatal(err)
				}
			}
			all := consume(t, address, topic, 6)
			for _, m := range []kafkago.Message{all[0], all[3]} {
				want := map[string]string{"lockstep-id": "id-1", "content-type": "application/json", "event-type": "order.paid", "empty": ""}
				if got := headersOf(m); !maps.Equal(got, want) {
					t.Errorf("headers: got %v, want %v", got, want)
				}
				if string(m.Key) != sample.Key || string(m.Value) != `{"a":1}` || !m.Time.Equal(enqueuedAt.Truncate(time.Millisecond)) {
					t.Errorf("got key %q, value %q at %v", m.Key, m.Value, m.Time)
				}
			}
			if m := all[1]; len(m.Value) != 100_000 || !m.Time.Equal(enqueuedAt.Add(-time.Hour).Truncate(time.Millisecond)) {
				t.Errorf("got %d bytes at %v", len(m.Value), m.Time)
			}
			if m := all[2]; m.Key != nil || time.Since(m.Time).Abs() > time.Hour {
				t.Errorf("got key %q at %v, want none, and about now", m.Key, m.Time)
			}
		})
	}
}

// A compressed batch is smaller on the way.
func TestCompressionCompresses(t *testing.T) {
	t.Parallel()
	f := newFake(t, 1)
	f.publisher = openWith(t, kafka.Config{Brokers: f.ListenAddrs(), Compression: kafkago.Zstd})
	f.publish(t.Context(), t, core.Message{ID: "a", Payload: make([]byte, 100_000)})
	if _, records := f.batches(t); len(records[0]) > 1000 {
		t.Errorf("100 000 zeros take %d bytes", len(records[0]))
	}
}

func TestFactsArriveAsACloudEvent(t *testing.T) {
	t.Parallel()
	address, topic := servers.Kafka(t), servers.KafkaTopic(t, 1)
	b := openWith(t, kafka.Config{Brokers: []string{address}, CloudEventsSource: "/shop/orders"})
	m := sample
	m.Topic = topic
	if err := b.Publish(t.Context(), []core.Message{m}); err != nil {
		t.Fatal(err)
	}
	got := consume(t, address, topic, 1)[0]
	want := map[string]string{
		"ce_specversion": "1.0", "ce_id": "id-1", "ce_source": "/shop/orders", "ce_type": "order.paid", "ce_subject": "Kunde ß",
		"ce_partitionkey": "Kunde ß", "ce_time": "2026-11-20T09:00:00.123456Z",
		"content-type": "application/json", "event-type": "order.paid", "empty": "",
	}
	if headers := headersOf(got); !maps.Equal(headers, want) {
		t.Errorf("headers: got %v, want %v", headers, want)
	}
	if string(got.Key) != sample.Key || !got.Time.Equal(enqueuedAt.Truncate(time.Millisecond)) {
		t.Errorf("got key %q at %v", got.Key, got.Time)
	}
}

// A header that the attributes would hide is refused, and what follows of its key waits.
func TestAHeaderInAnAttributesPlace(t *testing.T) {
	t.Parallel()
	f := newFake(t, 1)
	f.publisher = openWith(t, kafka.Config{Brokers: f.ListenAddrs(), CloudEventsSource: "/shop"})
	bad := map[string]string{"ce_type": "mine"}
	got := f.publish(t.Context(), t, core.Message{ID: "a", Key: "k"}, core.Message{ID: "b", Key: "k", Headers: bad},
		core.Message{ID: "c", Key: "k"}, core.Message{ID: "d", Key: "other"})
	for i, want := range []error{nil, core.ErrPermanent, core.ErrNotAttempted, nil} {
		expectClass(t, fmt.Sprint(i), got[i], want)
	}
	if !strings.Contains(got[1].Error(), "ce_type") {
		t.Errorf("%q does not name the header", got[1])
	}
	f.publisher = f.broker
	expectClass(t, "natively", f.publish(t.Context(), t, core.Message{ID: "e", Headers: bad})[0], nil)
}

// A topic that takes no record of the past, after a long outage, takes it with the present's time.
func TestATopicThatRefusesTheEnqueueTime(t *testing.T) {
	t.Parallel()
	address := servers.Kafka(t)
	topic := servers.KafkaTopic(t, 1, kafkago.ConfigEntry{ConfigName: "message.timestamp.before.max.ms", ConfigValue: "3600000"})
	b := open(t, address)
	term, err := b.ForTerm(t.Context(), core.Term{Outbox: core.NewID(), Epoch: 1})
	if err != nil {
		t.Fatal(err)
	}
	for i := range 2 {
		m := core.Message{ID: fmt.Sprint(i), Topic: topic, EnqueuedAt: time.Now().Add(-48 * time.Hour)}
		if err := term.Publish(t.Context(), []core.Message{m}); err != nil {
			t.Fatal(err)
		}
	}
	for _, m := range consume(t, address, topic, 2) {
		if time.Since(m.Time).Abs() > time.Hour {
			t.Errorf("got %v, want about now", m.Time)
		}
	}
}

// Where every time is refused, it is the cluster's or our clock, and no message's fault.
func TestATopicThatRefusesEveryTime(t *testing.T) {
	t.Parallel()
	f := newFake(t, 1)
	f.inTerm(t)
	f.Fault(kfake.Fault{Keys: []kmsg.Key{produceKey}, Err: kerr.InvalidTimestamp, Count: -1})
	expectClass(t, "a", f.publish(t.Context(), t, sample)[0], core.ErrUnavailable)
	if n := len(f.seen()); n != 2 {
		t.Errorf("%d requests, want one with the enqueue time and one without", n)
	}
}

// Rule 34: what a topic has refused for its size is not sent to it again and again, to be halved each time.
func TestATopicWithSmallBatchesIsLearnt(t *testing.T) {
	t.Parallel()
	f := newFake(t, 1)
	setTopic(t, f.ListenAddrs()[0], f.topic, "max.message.bytes", "50000")
	f.inTerm(t)
	var msgs []core.Message
	for i := range 100 {
		msgs = append(msgs, core.Message{ID: fmt.Sprint(i), Payload: make([]byte, 5000)})
	}
	for n, most := range []int{60, 20} { // the second time nothing is refused
		before := len(f.seen())
		for i, err := range f.publish(t.Context(), t, msgs...) {
			expectClass(t, fmt.Sprint(i), err, nil)
		}
		if requests := len(f.seen()) - before; requests > most {
			t.Errorf("time %d: %d requests, want at most %d", n+1, requests, most)
		}
	}
	var want []string
	for range 2 {
		for _, m := range msgs {
			want = append(want, m.ID)
		}
	}
	if got := f.stored(t); !slices.Equal(got, want) {
		t.Errorf("stored: got %v", got)
	}
}
