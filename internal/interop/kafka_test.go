package interop

import (
	"context"
	"testing"
	"time"

	"github.com/IBM/sarama"
	"github.com/cloudevents/sdk-go/protocol/kafka_sarama/v2"
	"github.com/cloudevents/sdk-go/v2/binding"

	"github.com/lockstep-go/lockstep/broker/kafka"
	"github.com/lockstep-go/lockstep/core"
	"github.com/lockstep-go/lockstep/internal/servers"
)

// The SDK's own way from a record, read by a client that is not ours, to an event.
func TestTheSDKDecodesOurRecords(t *testing.T) {
	address, topic := servers.Kafka(t), servers.KafkaTopic(t, 1)
	broker, err := kafka.Open(kafka.Config{Brokers: []string{address}, CloudEventsSource: "/shop/orders"})
	if err != nil {
		t.Fatal(err)
	}
	defer broker.Close()
	at := time.Date(2026, 11, 20, 9, 0, 0, 123_456_000, time.UTC)
	term, err := broker.ForTerm(t.Context(), core.Term{Outbox: core.NewID(), Epoch: 1})
	if err != nil {
		t.Fatal(err)
	}
	if err := term.Publish(t.Context(), []core.Message{
		{
			ID: "id-1", Topic: topic, Key: "customer 7", Payload: []byte(`{"total":12}`), EnqueuedAt: at,
			Headers: map[string]string{"content-type": "application/json", "event-type": "order.paid", "traceparent": "00-1-2-03"},
		},
		{ID: "id-2", Topic: topic},
	}); err != nil {
		t.Fatal(err)
	}

	records := consume(t, address, topic, 2)
	message := kafka_sarama.NewMessageFromConsumerMessage(records[0])
	if message.ReadEncoding() != binding.EncodingBinary {
		t.Fatalf("the SDK reads a message of the encoding %v, want binary", message.ReadEncoding())
	}
	event, err := binding.ToEvent(t.Context(), message)
	if err != nil {
		t.Fatal(err)
	}
	if err := event.Validate(); err != nil {
		t.Error(err)
	}
	for what, pair := range map[string][2]any{
		"specversion": {event.SpecVersion(), "1.0"}, "id": {event.ID(), "id-1"}, "source": {event.Source(), "/shop/orders"},
		"type": {event.Type(), "order.paid"}, "subject": {event.Subject(), "customer 7"}, "time": {event.Time(), at},
		"datacontenttype": {event.DataContentType(), "application/json"}, "data": {string(event.Data()), `{"total":12}`},
		"partitionkey": {event.Extensions()["partitionkey"], "customer 7"},
		"record key":   {string(records[0].Key), "customer 7"}, "record timestamp": {records[0].Timestamp.UTC(), at.Truncate(time.Millisecond)},
	} {
		if pair[0] != pair[1] {
			t.Errorf("%s: got %v, want %v", what, pair[0], pair[1])
		}
	}

	least, err := binding.ToEvent(t.Context(), kafka_sarama.NewMessageFromConsumerMessage(records[1]))
	if err != nil {
		t.Fatal(err)
	}
	if err := least.Validate(); err != nil {
		t.Error(err)
	}
	if least.ID() != "id-2" || least.Type() != topic || least.Subject() != "" || !least.Time().IsZero() {
		t.Errorf("the least event: got %v", least)
	}
}

// consume returns the first n records of a topic with one partition, as sarama has them.
func consume(t *testing.T, address, topic string, n int) (records []*sarama.ConsumerMessage) {
	t.Helper()
	config := sarama.NewConfig()
	config.Version = sarama.V2_1_0_0
	consumer, err := sarama.NewConsumer([]string{address}, config)
	if err != nil {
		t.Fatal(err)
	}
	defer consumer.Close()
	partition, err := consumer.ConsumePartition(topic, 0, sarama.OffsetOldest)
	if err != nil {
		t.Fatal(err)
	}
	defer partition.Close()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	for len(records) < n {
		select {
		case r := <-partition.Messages():
			records = append(records, r)
		case <-ctx.Done():
			t.Fatalf("read %d records of %d: %v", len(records), n, ctx.Err())
		}
	}
	return records
}
