package watermilltest

import (
	"bytes"
	"errors"
	"fmt"
	"maps"
	"slices"
	"testing"

	"github.com/lockstep-go/lockstep/broker/watermill/wmkafka"
	"github.com/lockstep-go/lockstep/core"
	"github.com/lockstep-go/lockstep/internal/servers"
)

// What watermill-kafka's errors mean, on the server that makes it return them.
func TestErrorsOfKafkaHaveTheirClass(t *testing.T) {
	address := servers.Kafka(t)
	topic := servers.KafkaTopic(t, 1)
	broker := open(t, wmkafka.WithClasses(newKafka(t, wmkafka.PublisherConfig([]string{address}))))
	for what, test := range map[string]struct {
		message core.Message
		class   string
	}{
		"a message over the publisher's limit": {core.Message{ID: "1", Topic: topic, Payload: bytes.Repeat([]byte("x"), 2<<20)}, "permanent"},
		"a topic that cannot be":               {core.Message{ID: "1", Topic: "no topic/!"}, "permanent"},
		"a topic that is not there":            {core.Message{ID: "1", Topic: topic + "_missing"}, "unavailable"},
		"nothing wrong":                        {core.Message{ID: "1", Topic: topic}, "stored"},
	} {
		t.Run(what, func(t *testing.T) {
			if err := publish(t, broker, test.message); core.ClassOf(err) != test.class {
				t.Errorf("got %q, want %q: %v", core.ClassOf(err), test.class, err)
			}
		})
	}
}

// While Kafka is away each try is refused by somebody else: nobody listens, sarama knows no server any more, its circuit
// breaker is open. None of that is uncertain, once the connections are known to be gone.
func TestAnAbsentKafkaIsUnavailable(t *testing.T) {
	address := servers.Kafka(t)
	topic := servers.KafkaTopic(t, 1)
	broker := open(t, wmkafka.WithClasses(newKafka(t, wmkafka.PublisherConfig([]string{address}))))
	m := core.Message{ID: "1", Topic: topic}
	if err := publish(t, broker, m); err != nil {
		t.Fatal(err)
	}
	servers.Control(t, "kill", "kafka")
	defer servers.Control(t, "up", "kafka")
	if err := publish(t, broker, m); err == nil {
		t.Fatal("nobody is there, and the message is said to be stored")
	}
	said := map[string]bool{}
	for n := range 8 { // sarama's circuit breaker opens after three
		err := publish(t, broker, m)
		if core.ClassOf(err) != "unavailable" {
			t.Errorf("try %d: got %q, want it to be unavailable: %v", n, core.ClassOf(err), err)
		}
		said[fmt.Sprint(err)] = true
	}
	t.Log(slices.Sorted(maps.Keys(said)))
}

func publish(t *testing.T, broker core.Broker, m core.Message) error {
	t.Helper()
	err := broker.Publish(t.Context(), []core.Message{m})
	var batch *core.BatchError
	if errors.As(err, &batch) {
		return batch.Results[0]
	}
	return err
}
