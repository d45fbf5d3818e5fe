package kafka_test

import (
	"context"
	"crypto/tls"
	"strings"
	"testing"
	"time"

	kafkago "github.com/segmentio/kafka-go"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/lockstep-go/lockstep/broker/kafka"
	"github.com/lockstep-go/lockstep/core"
	"github.com/lockstep-go/lockstep/internal/servers"
)

func TestCheck(t *testing.T) {
	t.Parallel()
	address, good, small := servers.Kafka(t), servers.KafkaTopic(t, 2), servers.KafkaTopic(t, 1, limit(100_000))
	b := open(t, address)
	if err := b.Check(t.Context()); err != nil {
		t.Errorf("Check of nothing: %v", err)
	}
	if err := b.Check(t.Context(), good, small); err != nil { // that it takes small messages is in no small message's way
		t.Errorf("Check of good topics: %v", err)
	}
	err := b.Check(t.Context(), "lockstep.missing", good, small, "not a name")
	if err == nil {
		t.Fatal("Check finds nothing")
	}
	for _, want := range []string{"lockstep.missing", "create it", `"not a name"`} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("Check does not say %q: %v", want, err)
		}
	}
	if strings.Contains(err.Error(), good) || strings.Contains(err.Error(), small) {
		t.Errorf("Check finds fault with a good topic: %v", err)
	}
}

func TestCheckFindsAPartitionWithoutALeader(t *testing.T) {
	t.Parallel()
	f := newFake(t, 2, kfake.NumBrokers(1))
	f.orphan(t)
	if err := f.broker.Check(t.Context(), f.topic); err == nil || !strings.Contains(err.Error(), "orders/1 has no leader") {
		t.Errorf("Check: got %v, want a partition without a leader", err)
	}
}

func TestCheckWithoutACluster(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithTimeout(t.Context(), time.Second)
	defer cancel()
	expectClass(t, "Check", open(t, "127.0.0.1:1").Check(ctx, "orders"), core.ErrUnavailable)
	ctx, cancel = context.WithTimeout(t.Context(), time.Second)
	defer cancel()
	expectClass(t, "Check of nothing", open(t, "127.0.0.1:1").Check(ctx), core.ErrUnavailable)
}

// A cluster makes topics when a client's request for metadata allows it to. kafka-go has such a field, which its Writer
// can be told to set; nothing here does.
func TestNoTopicIsMade(t *testing.T) {
	t.Parallel()
	const metadataKey, createTopicsKey = 3, 19
	f := newFake(t, 1, kfake.AllowAutoTopicCreation())
	f.ControlKey(createTopicsKey, func(kmsg.Request) (kmsg.Response, error, bool) {
		f.KeepControl()
		t.Error("a topic was to be made")
		return nil, nil, false
	})
	f.ControlKey(metadataKey, func(r kmsg.Request) (kmsg.Response, error, bool) {
		f.KeepControl()
		if r.(*kmsg.MetadataRequest).AllowAutoTopicCreation {
			t.Error("a request for metadata allows to make topics")
		}
		return nil, nil, false
	})
	f.inTerm(t)
	got := resultsOf(t, f.publisher.Publish(t.Context(), []core.Message{{ID: "a", Topic: "new"}}), 1)[0]
	expectClass(t, "a new topic", got, core.ErrUnavailable)
	if err := f.broker.Check(t.Context(), "new"); err == nil {
		t.Error("Check of a new topic: got nil")
	}
	if f.TopicInfo("new") != nil {
		t.Error("the topic was made")
	}
}

// The same cluster, asked by kafka-go's Writer as applications often set it: had it not made the topic, the test above
// would prove nothing.
func TestAWriterMakesTopics(t *testing.T) {
	t.Parallel()
	f := newFake(t, 1, kfake.AllowAutoTopicCreation())
	transport := &kafkago.Transport{}
	t.Cleanup(transport.CloseIdleConnections)
	w := &kafkago.Writer{Addr: kafkago.TCP(f.ListenAddrs()...), Transport: transport, Topic: "new", AllowAutoTopicCreation: true,
		RequiredAcks: kafkago.RequireAll, BatchTimeout: time.Millisecond}
	defer w.Close()
	if err := w.WriteMessages(t.Context(), kafkago.Message{Value: []byte("a")}); err != nil {
		t.Fatal(err)
	}
	if f.TopicInfo("new") == nil {
		t.Error("the cluster makes no topics")
	}
}

func TestAGrownTopicIsNoticed(t *testing.T) {
	t.Parallel()
	warnings := &log{}
	address, topic := servers.Kafka(t), servers.KafkaTopic(t, 1)
	b := openWith(t, kafka.Config{Brokers: []string{address}, Logger: warnings.logger()})
	publish := func() {
		t.Helper()
		if err := b.Publish(t.Context(), []core.Message{{ID: "a", Topic: topic, Key: "k"}}); err != nil {
			t.Fatal(err)
		}
	}
	publish()
	transport := &kafkago.Transport{}
	defer transport.CloseIdleConnections()
	client := &kafkago.Client{Addr: kafkago.TCP(address), Transport: transport, Timeout: longEnough}
	answer, err := client.CreatePartitions(t.Context(), &kafkago.CreatePartitionsRequest{
		Topics: []kafkago.TopicPartitionsConfig{{Name: topic, Count: 3}},
	})
	if err != nil || answer.Errors[topic] != nil {
		t.Fatal(err, answer.Errors)
	}
	deadline := time.Now().Add(longEnough)
	for !strings.Contains(warnings.String(), "more partitions") {
		if time.Now().After(deadline) {
			t.Fatalf("nothing is said of the new partitions; logged: %s", warnings)
		}
		publish()
	}
	publish()
	if n := strings.Count(warnings.String(), "more partitions"); n != 1 || !strings.Contains(warnings.String(), "before=1 now=3") {
		t.Errorf("logged %d times: %s", n, warnings)
	}
}

func TestConfigNamesTheField(t *testing.T) {
	for field, config := range map[string]kafka.Config{
		"Brokers is empty":       {},
		`the entry ""`:           {Brokers: []string{""}},
		`the entry "localhost"`:  {Brokers: []string{"a:1", "localhost"}},
		"TLS.InsecureSkipVerify": {Brokers: []string{"a:1"}, TLS: &tls.Config{InsecureSkipVerify: true}}, //nolint:gosec // it is refused
		"Compression":            {Brokers: []string{"a:1"}, Compression: 9},
		"CloudEventsSource":      {Brokers: []string{"a:1"}, CloudEventsSource: "a b"},
	} {
		if _, err := kafka.Open(config); err == nil || !strings.Contains(err.Error(), field) {
			t.Errorf("Open(%+v): got %v, want an error that names %s", config, err, field)
		}
	}
	_, err := kafka.Open(kafka.Config{Compression: 9, CloudEventsSource: " "})
	for _, want := range []string{"Brokers", "Compression", "CloudEventsSource"} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("Open: got %v, want all problems, %s too", err, want)
		}
	}
}
