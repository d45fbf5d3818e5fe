package kafka_test

import (
	"bytes"
	"context"
	"fmt"
	"slices"
	"testing"
	"time"

	kafkago "github.com/segmentio/kafka-go"

	"github.com/lockstep-go/lockstep/core"
	"github.com/lockstep-go/lockstep/internal/servers"
)

// limit is a topic's largest message.
func limit(bytes int) kafkago.ConfigEntry {
	return kafkago.ConfigEntry{ConfigName: "max.message.bytes", ConfigValue: fmt.Sprint(bytes)}
}

// setTopic sets a part of a topic's configuration.
func setTopic(t *testing.T, address, topic, name, value string) {
	t.Helper()
	transport := &kafkago.Transport{}
	defer transport.CloseIdleConnections()
	client := &kafkago.Client{Addr: kafkago.TCP(address), Transport: transport, Timeout: longEnough}
	answer, err := client.IncrementalAlterConfigs(t.Context(), &kafkago.IncrementalAlterConfigsRequest{
		Resources: []kafkago.IncrementalAlterConfigsRequestResource{{
			ResourceType: kafkago.ResourceTypeTopic, ResourceName: topic,
			Configs: []kafkago.IncrementalAlterConfigsRequestConfig{{
				Name: name, Value: value, ConfigOperation: kafkago.ConfigOperationSet,
			}},
		}},
	})
	if err == nil {
		err = answer.Resources[0].Error
	}
	if err != nil {
		t.Fatalf("set %s of %s: %v", name, topic, err)
	}
}

// What a relay finds after an outage: far more for each partition than one record batch may hold.
func TestABacklogIsDelivered(t *testing.T) {
	const partitions = 3
	for _, tt := range []struct {
		name        string
		count, size int
		key         func(i int) string
	}{
		{"keyed", 500, 10_000, func(i int) string { return fmt.Sprint(i % 50) }},
		{"one key", 200, 10_000, func(int) string { return "k" }},
		{"unkeyed", 500, 10_000, func(int) string { return "" }},
		{"two large ones", 2, 600_000, func(int) string { return "" }},
		{"the largest", 6, core.MaxPayloadBytes, func(i int) string { return fmt.Sprint(i % 2) }},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			address, topic := servers.Kafka(t), servers.KafkaTopic(t, partitions)
			var msgs []core.Message
			next := map[string][]string{}
			for i := range tt.count {
				m := core.Message{ID: fmt.Sprint(i), Topic: topic, Key: tt.key(i), Payload: bytes.Repeat([]byte("x"), tt.size)}
				msgs = append(msgs, m)
				next[m.Key] = append(next[m.Key], m.ID)
			}
			ctx, cancel := context.WithTimeout(t.Context(), longEnough)
			defer cancel()
			if err := open(t, address).Publish(ctx, msgs); err != nil {
				t.Fatal(err)
			}
			stored, err := read(ctx, address, topic, partitions, len(msgs))
			if err != nil {
				t.Fatal(err)
			}
			for _, m := range stored {
				at := slices.Index(next[m.Key], m.ID)
				if at < 0 || m.Key != "" && at > 0 {
					t.Fatalf("key %q: message %s stands where %s belongs", m.Key, m.ID, next[m.Key][0])
				}
				next[m.Key] = slices.Delete(next[m.Key], at, at+1)
			}
		})
	}
}

// Rule 34: one oversize among 500, as the adapter reports it.
func TestOneOversizedAmongMany(t *testing.T) {
	const count = 500
	address, topic := servers.Kafka(t), servers.KafkaTopic(t, 1, limit(3000))
	var msgs []core.Message
	var want []string
	for i := range count {
		m := core.Message{ID: fmt.Sprint(i), Topic: topic, Key: fmt.Sprint("k", i%20), Payload: []byte("{}")}
		if i == guilty {
			m.Payload = make([]byte, 5000)
		} else if i%20 != guilty%20 || i < guilty {
			want = append(want, m.ID)
		}
		msgs = append(msgs, m)
	}
	ctx, cancel := context.WithTimeout(t.Context(), longEnough)
	defer cancel()
	broker := open(t, address)
	results := resultsOf(t, broker.Publish(ctx, msgs), count)
	var again []core.Message
	for i, err := range results {
		switch {
		case i == guilty:
			expectClass(t, "the guilty one", err, core.ErrPermanent)
		case i%20 == guilty%20 && i > guilty:
			expectClass(t, msgs[i].ID, err, core.ErrNotAttempted)
			again = append(again, msgs[i])
			want = append(want, msgs[i].ID)
		default:
			expectClass(t, msgs[i].ID, err, nil)
		}
	}
	if err := broker.Publish(ctx, again); err != nil { // as the relay does after it has buried the guilty one
		t.Fatal(err)
	}
	stored, err := read(ctx, address, topic, 1, count-1)
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, m := range stored {
		got = append(got, m.ID)
	}
	if !slices.Equal(got, want) {
		t.Errorf("stored: got %v, want %v", got, want)
	}
}

// Consumers of a compacted topic take a record without a value for the end of its key.
func TestNoPayloadIsNoTombstone(t *testing.T) {
	address, topic := servers.Kafka(t), servers.KafkaTopic(t, 1)
	err := open(t, address).Publish(t.Context(), []core.Message{{ID: "a", Topic: topic, Key: "k"}})
	if err != nil {
		t.Fatal(err)
	}
	transport := &kafkago.Transport{}
	defer transport.CloseIdleConnections()
	client := &kafkago.Client{Addr: kafkago.TCP(address), Transport: transport, Timeout: longEnough}
	answer, err := client.Fetch(t.Context(), &kafkago.FetchRequest{Topic: topic, MinBytes: 1, MaxBytes: 1 << 20, MaxWait: 5 * time.Second})
	if err != nil {
		t.Fatal(err)
	}
	record, err := answer.Records.ReadRecord()
	if err != nil {
		t.Fatal(err)
	}
	if record.Value == nil {
		t.Error("the record's value is null, want empty")
	}
}

func TestMessagesWithoutAKeyAreSpread(t *testing.T) {
	const partitions = 3
	address, topic := servers.Kafka(t), servers.KafkaTopic(t, partitions)
	broker := open(t, address)
	for i := range 2 * partitions {
		if err := broker.Publish(t.Context(), []core.Message{{ID: fmt.Sprint(i), Topic: topic}}); err != nil {
			t.Fatal(err)
		}
	}
	ctx, cancel := context.WithTimeout(t.Context(), longEnough)
	defer cancel()
	for p := range partitions {
		reader := kafkago.NewReader(kafkago.ReaderConfig{Brokers: []string{address}, Topic: topic, Partition: p, MaxWait: 100 * time.Millisecond})
		if _, err := reader.ReadMessage(ctx); err != nil {
			t.Errorf("partition %d got none of %d messages: %v", p, 2*partitions, err)
		}
		reader.Close()
	}
}
