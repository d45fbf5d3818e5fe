package kafka_test

import (
	"context"
	"fmt"
	"testing"
	"time"

	kafkago "github.com/segmentio/kafka-go"

	"github.com/lockstep-go/lockstep/broker/kafka"
	"github.com/lockstep-go/lockstep/core"
	"github.com/lockstep-go/lockstep/internal/servers"
)

// BenchmarkPublish measures, in one run and on one topic, what numbering costs: kafka-go's own Client.Produce, and Publish
// outside of a term and in one. The sizes are the messages of a call; all go to one partition, so that a call is a
// request.
//
//	go test ./broker/kafka -run '^$' -bench Publish
func BenchmarkPublish(b *testing.B) {
	address, topic := servers.Kafka(b), servers.KafkaTopic(b, 1)
	broker := openWith(b, kafka.Config{Brokers: []string{address}})
	term, err := broker.ForTerm(b.Context(), core.Term{Outbox: core.NewID(), Epoch: 1})
	if err != nil {
		b.Fatal(err)
	}
	transport := &kafkago.Transport{}
	b.Cleanup(transport.CloseIdleConnections)
	client := &kafkago.Client{Addr: kafkago.TCP(address), Transport: transport, Timeout: 30 * time.Second}
	ways := []struct {
		name    string
		publish func(ctx context.Context, msgs []core.Message) error
	}{
		{"client", func(ctx context.Context, msgs []core.Message) error { return produce(ctx, client, topic, msgs) }},
		{"plain", broker.Publish},
		{"term", term.Publish},
	}
	for _, size := range []int{1, 100, 1000} {
		msgs := make([]core.Message, size)
		for i := range msgs {
			msgs[i] = core.Message{ID: core.NewID(), Topic: topic, Key: fmt.Sprint(i), Payload: make([]byte, 300)}
		}
		for _, way := range ways {
			b.Run(fmt.Sprintf("%d/%s", size, way.name), func(b *testing.B) {
				for b.Loop() {
					if err := way.publish(b.Context(), msgs); err != nil {
						b.Fatal(err)
					}
				}
				b.ReportMetric(float64(size*b.N)/b.Elapsed().Seconds(), "msgs/s")
			})
		}
	}
}

func produce(ctx context.Context, client *kafkago.Client, topic string, msgs []core.Message) error {
	records := make([]kafkago.Record, len(msgs))
	for i, m := range msgs {
		records[i] = kafkago.Record{Key: kafkago.NewBytes([]byte(m.Key)), Value: kafkago.NewBytes(m.Payload),
			Headers: []kafkago.Header{{Key: "lockstep-id", Value: []byte(m.ID)}}}
	}
	answer, err := client.Produce(ctx, &kafkago.ProduceRequest{
		Topic: topic, RequiredAcks: kafkago.RequireAll, Records: kafkago.NewRecordReader(records...),
	})
	if err != nil {
		return err
	}
	return answer.Error
}
