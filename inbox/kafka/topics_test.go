package kafka_test

import (
	"testing"

	kafkago "github.com/segmentio/kafka-go"

	brokerkafka "github.com/lockstep-go/lockstep/broker/kafka"
	"github.com/lockstep-go/lockstep/core"
	"github.com/lockstep-go/lockstep/internal/inboxtest"
)

const notThere = "a topic does not exist"

// A topic that does not exist is told, once, and the others are read.
func TestATopicThatDoesNotExistIsLeftOut(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 1)
	log, config := inboxtest.NewLog(), w.config(w.topic+"_group")
	config.Topics, config.Logger = []string{w.topic + "_absent", w.topic}, log.Logger()
	w.publishNumbered(t, 0, 3)
	stop := inboxtest.Running(t, w.loopWith(t, config, effect))
	w.Await(t, 3)
	w.awaitCommitted(t, config.Group, 1, 3)
	stop()
	w.ExpectOnce(t, "m0", "m1", "m2")
	if told := log.With(notThere); len(told) != 1 || len(log.With("topic="+w.topic+"_absent")) != 1 {
		t.Errorf("told %q, want it of the one, once", told)
	}
}

// Topics come, and are read, and go, and take no other with them. The cluster is a fake, whose topics are there at once.
func TestTopicsComeAndGo(t *testing.T) {
	t.Parallel()
	const late, absent = "returns", "refunds"
	lateIsTold, absentIsTold := `Config.Topics" group=billing topic=`+late, `Config.Topics" group=billing topic=`+absent
	w, _ := newFakeWorld(t, "orders")
	log, config := inboxtest.NewLog(), w.config("billing")
	config.Topics, config.Logger = []string{late, absent, "orders"}, log.Logger()
	stop := inboxtest.Running(t, w.loopWith(t, config, effect))
	log.Await(t, lateIsTold)
	w.publish(t, core.Message{ID: "a"})
	w.Await(t, 1)
	w.createWith(t, late, "b")
	w.Await(t, 2)
	there := *w
	there.topic = late
	there.awaitCommitted(t, config.Group, 1, 1) // or the offset is committed when the topic is gone, and is that of the next one
	w.deleteTopic(t, late)
	for len(log.With(lateIsTold)) == 1 {
		log.AwaitMore(t)
	}
	w.publish(t, core.Message{ID: "c"})
	w.Await(t, 3)
	w.createWith(t, late, "d")
	w.Await(t, 4)
	w.publish(t, core.Message{ID: "e"})
	w.Await(t, 5)
	stop()
	w.ExpectOnce(t, "a", "b", "c", "d", "e")
	if told := log.With(absentIsTold); len(told) != 1 {
		t.Errorf("told %q, want once of what was never there", told)
	}
}

// One that is deleted takes no other with it where all were there, and nobody looked for any.
func TestADeletedTopicTakesNoOtherWithIt(t *testing.T) {
	t.Parallel()
	const gone = "returns"
	w, _ := newFakeWorld(t, "orders", gone)
	log, config := inboxtest.NewLog(), w.config("billing")
	config.Topics, config.Logger = []string{gone, "orders"}, log.Logger()
	stop := inboxtest.Running(t, w.loopWith(t, config, effect))
	w.publish(t, core.Message{ID: "a"})
	w.Await(t, 1)
	w.awaitCommitted(t, config.Group, 1, 1)
	w.deleteTopic(t, gone)
	log.Await(t, notThere)
	w.publish(t, core.Message{ID: "b"})
	w.Await(t, 2)
	stop()
	w.ExpectOnce(t, "a", "b")
	if told := log.With(notThere); len(told) != 1 || len(log.With("topic="+gone)) == 0 {
		t.Errorf("told %q, want it of the one, once", told)
	}
}

// createWith makes a topic of one partition with a message in it.
func (w *world) createWith(t *testing.T, topic, id string) {
	t.Helper()
	client := &kafkago.Client{Addr: kafkago.TCP(w.address), Transport: &kafkago.Transport{}}
	defer client.Transport.(*kafkago.Transport).CloseIdleConnections()
	created, err := client.CreateTopics(t.Context(), &kafkago.CreateTopicsRequest{
		Topics: []kafkago.TopicConfig{{Topic: topic, NumPartitions: 1, ReplicationFactor: 1}},
	})
	if err == nil {
		err = created.Errors[topic]
	}
	if err != nil {
		t.Fatal(err)
	}
	fresh, err := brokerkafka.Open(brokerkafka.Config{Brokers: []string{w.address}}) // which has heard of no other topic
	if err != nil {
		t.Fatal(err)
	}
	defer fresh.Close()
	if err := fresh.Publish(t.Context(), []core.Message{{ID: id, Topic: topic}}); err != nil {
		t.Fatal(err)
	}
}

func (w *world) deleteTopic(t *testing.T, topic string) {
	t.Helper()
	client := &kafkago.Client{Addr: kafkago.TCP(w.address), Transport: &kafkago.Transport{}}
	defer client.Transport.(*kafkago.Transport).CloseIdleConnections()
	deleted, err := client.DeleteTopics(t.Context(), &kafkago.DeleteTopicsRequest{Topics: []string{topic}})
	if err == nil {
		err = deleted.Errors[topic]
	}
	if err != nil {
		t.Fatal(err)
	}
}
