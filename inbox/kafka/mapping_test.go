package kafka_test

import (
	"context"
	"database/sql"
	"testing"
	"time"

	kafkago "github.com/segmentio/kafka-go"

	brokerkafka "github.com/lockstep-go/lockstep/broker/kafka"
	"github.com/lockstep-go/lockstep/core"
	"github.com/lockstep-go/lockstep/inbox/kafka"
	"github.com/lockstep-go/lockstep/internal/inboxtest"
)

// The id is that of a CloudEvent, or where the configuration says: by another one a duplicate would be new.
func TestTheIDIsWhereItIsSaid(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 1)
	events, err := brokerkafka.Open(brokerkafka.Config{Brokers: []string{w.address}, CloudEventsSource: "/shop"})
	if err != nil {
		t.Fatal(err)
	}
	defer events.Close()
	m := core.Message{ID: "event", Topic: w.topic, Headers: map[string]string{"type": "OrderPlaced", "order": "o1"}, Payload: []byte("{}")}
	if err := events.Publish(t.Context(), []core.Message{m, m}); err != nil {
		t.Fatal(err)
	}
	stop := inboxtest.Running(t, w.loop(t, w.topic+"_default", effect))
	w.Await(t, 1)
	stop()
	w.ExpectOnce(t, "event")

	w.publish(t, core.Message{ID: "m1", Headers: map[string]string{"order": "o1"}}, core.Message{ID: "m2", Headers: map[string]string{"order": "o2"}})
	loop, err := kafka.New(w.Consumer, effect, kafka.Config{
		Brokers: []string{w.address}, Group: w.topic + "_order", Topics: []string{w.topic}, SessionTimeout: 6 * time.Second, IDHeader: "order", Logger: quiet,
	})
	if err != nil {
		t.Fatal(err)
	}
	stop = inboxtest.Running(t, loop)
	w.Await(t, 3)
	stop()
	w.ExpectOnce(t, "event", "o1", "o2")
}

// A topic that gets more partitions is read on: what is in the new ones would otherwise wait for the next restart.
func TestNewPartitionsAreRead(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 1)
	w.publish(t, core.Message{ID: "before"})
	read := make(chan string, 10)
	stop := inboxtest.Running(t, w.loop(t, w.topic+"_group", func(ctx context.Context, tx *sql.Tx, m core.Message) error {
		read <- m.ID
		return effect(ctx, tx, m)
	}))
	<-read
	client := &kafkago.Client{Addr: kafkago.TCP(w.address), Transport: &kafkago.Transport{}}
	defer client.Transport.(*kafkago.Transport).CloseIdleConnections()
	answer, err := client.CreatePartitions(t.Context(), &kafkago.CreatePartitionsRequest{Topics: []kafkago.TopicPartitionsConfig{{Name: w.topic, Count: 2}}})
	if err == nil {
		err = answer.Errors[w.topic]
	}
	if err != nil {
		t.Fatal(err)
	}
	for err := writeTo(t, w, 1, "behind"); err != nil; err = writeTo(t, w, 1, "behind") { // until the new one has a leader
		if t.Context().Err() != nil {
			t.Fatal(err)
		}
	}
	w.Await(t, 2)
	stop()
	w.ExpectOnce(t, "before", "behind")
}

// writeTo writes a message to a partition.
func writeTo(t *testing.T, w *world, partition int, id string) error {
	t.Helper()
	conn, err := kafkago.DialLeader(t.Context(), "tcp", w.address, w.topic, partition)
	if err != nil {
		return err
	}
	defer conn.Close()
	_, err = conn.WriteMessages(kafkago.Message{Headers: []kafkago.Header{{Key: brokerkafka.IDHeader, Value: []byte(id)}}})
	return err
}
