package amqp_test

import (
	"fmt"
	"testing"

	amqp091 "github.com/rabbitmq/amqp091-go"

	"github.com/lockstep-go/lockstep/broker/amqp"
	"github.com/lockstep-go/lockstep/core"
	"github.com/lockstep-go/lockstep/internal/servers"
)

// A poison holds back the later messages of its key in the call, and nobody else's.
func TestPoisonInAPipelinedKey(t *testing.T) {
	t.Parallel()
	address := servers.RabbitMQ(t)
	to := newTopology(t, address, queue{kind: "classic"})
	const guilty = 40
	msgs := numbered(to.exchange, 100)
	for i := range msgs {
		msgs[i].Key = fmt.Sprint("k", i%4)
	}
	msgs[guilty].Headers = map[string]string{"CC": "no list"}
	broker := open(t, amqp.Config{URLs: []string{address}}).Pipelined()
	for i, err := range publish(t, broker, msgs) {
		switch {
		case i == guilty:
			expectClass(t, "the poison", err, core.ErrPermanent)
		case i > guilty && i%4 == guilty%4:
			expectClass(t, fmt.Sprint(i, " behind the poison"), err, core.ErrNotAttempted)
		default:
			expectClass(t, msgs[i].ID, err, nil)
		}
	}
	expectClass(t, "another one", publish(t, broker, []core.Message{{ID: "end", Topic: to.exchange}})[0], nil)
	c := consume(t, address, to.exchange)
	expectStored(t, c, map[string]bool{"end": true})
	for _, d := range c.taken {
		var i int
		if fmt.Sscan(d.MessageId, &i); i > guilty && i%4 == guilty%4 { //nolint:errcheck // one is not a number
			t.Errorf("%d is stored, behind the poison", i)
		}
	}
}

// A message that was returned is overtaken by the next one of its key. That one is sent again.
func TestWhatOvertookIsNotClaimed(t *testing.T) {
	t.Parallel()
	address := servers.RabbitMQ(t)
	to := newTopology(t, address, queue{kind: "classic", bindingKey: "bound"})
	bound := map[string]string{amqp.RoutingKeyHeader: "bound"}
	results := publish(t, open(t, amqp.Config{URLs: []string{address}}).Pipelined(), []core.Message{
		{ID: "1", Topic: to.exchange, Key: "k", Headers: bound}, {ID: "2", Topic: to.exchange, Key: "k"},
		{ID: "3", Topic: to.exchange, Key: "k", Headers: bound}, {ID: "4", Topic: to.exchange, Key: "l", Headers: bound},
		{ID: "5", Topic: to.exchange, Headers: bound},
	})
	for i, want := range []error{nil, core.ErrUncertain, core.ErrNotAttempted, nil, nil} {
		expectClass(t, fmt.Sprint("message ", i+1), results[i], want)
	}
}

// Several messages of a key in flight cost the order when the queue refuses one; what overtook is sent again.
func TestAPipelinedKeyEndsInOrder(t *testing.T) {
	t.Parallel()
	address := servers.RabbitMQ(t)
	to := newTopology(t, address, queue{kind: "classic", arguments: amqp091.Table{"x-max-length": 3, "x-overflow": "reject-publish"}})
	broker := open(t, amqp.Config{URLs: []string{address}}).Pipelined()
	consumer := consume(t, address, to.exchange)
	const count = 500
	waiting := numbered(to.exchange, count)
	for i := range waiting {
		waiting[i].Key = "k"
	}
	stored := map[string]bool{}
	for len(waiting) > 0 {
		results := publish(t, broker, waiting[:min(50, len(waiting))])
		n := 0
		for n < len(results) && results[n] == nil {
			stored[waiting[n].ID] = true
			n++
		}
		for i, err := range results[n:] {
			if err == nil {
				t.Fatalf("message %s is stored, and %s before it was not", waiting[n+i].ID, waiting[n].ID)
			}
		}
		waiting = waiting[n:]
		expectStored(t, consumer, stored)
	}
	last := map[string]int{}
	for place, d := range consumer.taken {
		last[d.MessageId] = place
	}
	for i := 1; i < count; i++ {
		if last[fmt.Sprint(i)] < last[fmt.Sprint(i-1)] {
			t.Fatalf("the last copy of %d stands before that of %d", i, i-1)
		}
	}
}
