package amqp_test

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"strings"
	"sync"
	"testing"

	amqp091 "github.com/rabbitmq/amqp091-go"

	"github.com/lockstep-go/lockstep/broker/amqp"
	"github.com/lockstep-go/lockstep/core"
	"github.com/lockstep-go/lockstep/internal/dose"
	"github.com/lockstep-go/lockstep/internal/servers"
)

// numbered are n messages with keys of their own.
func numbered(topic string, n int) []core.Message {
	msgs := make([]core.Message, n)
	for i := range msgs {
		msgs[i] = core.Message{ID: fmt.Sprint(i), Topic: topic, Key: fmt.Sprint("k", i), Payload: []byte("{}")}
	}
	return msgs
}

// publish returns the result of each message.
func publish(t *testing.T, broker core.Broker, msgs []core.Message) []error {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), longEnough)
	defer cancel()
	return resultsOf(t, broker.Publish(ctx, msgs), len(msgs))
}

func resultsOf(t *testing.T, err error, n int) []error {
	t.Helper()
	if err == nil {
		return make([]error, n)
	}
	var batch *core.BatchError
	if !errors.As(err, &batch) || len(batch.Results) != n {
		t.Fatalf("Publish: got %v, want a *BatchError with %d results", err, n)
	}
	return batch.Results
}

var classes = []error{core.ErrPermanent, core.ErrUnavailable, core.ErrUncertain, core.ErrNotAttempted, context.DeadlineExceeded, context.Canceled}

// expectClass wants err to be of class and of no other; nil for class means stored.
func expectClass(t *testing.T, what string, err, class error) {
	t.Helper()
	if class == nil && err != nil {
		t.Errorf("%s: got %v, want it stored", what, err)
		return
	}
	for _, c := range classes {
		timeOver := c == context.DeadlineExceeded || c == context.Canceled //nolint:errorlint // the very ones
		if timeOver && errors.Is(class, core.ErrUncertain) {
			continue // what an uncertain result may say as well
		}
		if errors.Is(err, c) != errors.Is(class, c) {
			t.Errorf("%s: got %v, want %v", what, err, class)
			return
		}
	}
}

// expectStored wants the queue to hold each message, perhaps more than once.
func expectStored(t *testing.T, c *consumer, ids map[string]bool) {
	t.Helper()
	missing := len(ids)
	seen := map[string]bool{}
	for n := 1; missing > 0; n++ {
		ctx, cancel := context.WithTimeout(t.Context(), longEnough) // since the last one came
		err := c.take(ctx, n)
		cancel()
		if err != nil {
			t.Fatalf("%d of %d messages that were said to be stored are missing: %v", missing, len(ids), err)
		}
		if id := c.taken[n-1].MessageId; ids[id] && !seen[id] {
			seen[id] = true
			missing--
		}
	}
}

// A queue that is unbound while messages are being published: each is stored, or known not to be (RULES 40).
func TestQueueUnboundMidRun(t *testing.T) {
	for _, kind := range kinds {
		t.Run(kind, func(t *testing.T) {
			t.Parallel()
			address := servers.RabbitMQ(t)
			to := newTopology(t, address, queue{kind: kind})
			broker := open(t, amqp.Config{URLs: []string{address}})
			msgs := numbered(to.exchange, dose.Of(t, 5_000, 50_000))
			begun := make(chan struct{})
			var unbinding sync.WaitGroup
			unbinding.Go(func() {
				<-begun
				if err := to.channel.QueueUnbind(to.exchange, "#", to.exchange, nil); err != nil {
					t.Error(err)
				}
			})
			stored := map[string]bool{}
			var returned []core.Message
			for i := 0; i < len(msgs); i += 500 {
				if i == len(msgs)/2 {
					close(begun)
				}
				for n, err := range publish(t, broker, msgs[i:i+500]) {
					if m := msgs[i+n]; err == nil {
						stored[m.ID] = true
					} else {
						expectClass(t, m.ID, err, core.ErrUncertain)
						returned = append(returned, m)
					}
				}
			}
			unbinding.Wait()
			t.Logf("%d messages stored, %d returned", len(stored), len(returned))
			late := core.Message{ID: "late", Topic: to.exchange}
			err := publish(t, broker, []core.Message{late})[0]
			expectClass(t, "without a binding", err, core.ErrUncertain)
			returned = append(returned, late)
			must(t, to.channel.QueueBind(to.exchange, "#", to.exchange, false, nil))
			for i, err := range publish(t, broker, returned) { // more at once than a window holds
				expectClass(t, returned[i].ID, err, nil)
				stored[returned[i].ID] = true
			}
			expectStored(t, consume(t, address, to.exchange), stored)
		})
	}
}

// More returns than a window holds: none may be dropped, because its message is confirmed like any other.
func TestEveryReturnIsSeen(t *testing.T) {
	t.Parallel()
	address := servers.RabbitMQ(t)
	to := newTopology(t, address, queue{kind: "classic", bindingKey: "bound"})
	msgs := numbered(to.exchange, 3000)
	for i := range msgs {
		if i%100 == 7 {
			msgs[i].Headers = map[string]string{amqp.RoutingKeyHeader: "bound"}
		}
	}
	for i, err := range publish(t, open(t, amqp.Config{URLs: []string{address}}), msgs) {
		if i%100 == 7 {
			expectClass(t, msgs[i].ID, err, nil)
		} else {
			expectClass(t, msgs[i].ID, err, core.ErrUncertain)
		}
	}
}

// Of two messages with one ID, and the same for those without, neither may pass for stored because the other was.
func TestReturnsOfTheSameID(t *testing.T) {
	t.Parallel()
	address := servers.RabbitMQ(t)
	to := newTopology(t, address, queue{kind: "classic", bindingKey: "bound"})
	for _, id := range []string{"same", ""} {
		msgs := []core.Message{{ID: id, Topic: to.exchange, Key: "bound"}, {ID: id, Topic: to.exchange, Key: "unbound"}, {ID: "other", Topic: to.exchange, Key: "bound"}}
		results := publish(t, open(t, amqp.Config{URLs: []string{address}}), msgs)
		expectClass(t, "the unbound one", results[1], core.ErrUncertain)
		expectClass(t, "another one", results[2], nil)
	}
}

func TestAMissingExchangeHurtsNoOther(t *testing.T) {
	t.Parallel()
	address := servers.RabbitMQ(t)
	to := newTopology(t, address, queue{kind: "quorum"})
	msgs := numbered(to.exchange, 200)
	for i := range msgs {
		if i%3 == 0 {
			msgs[i].Topic = to.exchange + "_missing"
		}
	}
	broker := open(t, amqp.Config{URLs: []string{address}})
	stored := map[string]bool{}
	for i, err := range publish(t, broker, msgs) {
		if i%3 != 0 {
			expectClass(t, msgs[i].ID, err, nil)
			stored[msgs[i].ID] = true
			continue
		}
		expectClass(t, msgs[i].ID, err, core.ErrUnavailable)
		var reply *amqp091.Error
		if !errors.As(err, &reply) || reply.Code != amqp091.NotFound || !strings.Contains(err.Error(), "declare the exchange") {
			t.Errorf("got %v, want 404 and what to do about it", err)
		}
	}
	expectStored(t, consume(t, address, to.exchange), stored)
	if results := publish(t, broker, []core.Message{{ID: "later", Topic: to.exchange}}); results[0] != nil {
		t.Errorf("later: %v", results[0])
	}
}

// TestPoisonsAmongGoodOnes: RabbitMQ closes the channel over a message and does not say over which one (RULES 42).
func TestPoisonsAmongGoodOnes(t *testing.T) {
	for _, kind := range kinds {
		t.Run(kind, func(t *testing.T) {
			t.Parallel()
			address := servers.RabbitMQ(t)
			to := newTopology(t, address, queue{kind: kind})
			poisons := map[int]bool{0: true, 17: true, 18: true, 60: true, 99: true}
			msgs := numbered(to.exchange, 100)
			for i := range poisons {
				msgs[i].Headers = map[string]string{"CC": "RabbitMQ wants a list here"}
			}
			broker := open(t, amqp.Config{URLs: []string{address}})
			stored := map[string]bool{}
			for i, err := range publish(t, broker, msgs) {
				if poisons[i] {
					expectClass(t, msgs[i].ID, err, core.ErrPermanent)
					continue
				}
				expectClass(t, msgs[i].ID, err, nil)
				stored[msgs[i].ID] = true
			}
			expectStored(t, consume(t, address, to.exchange), stored)
		})
	}
}

// A full queue that rejects: what it has not taken is not claimed, and resumes when there is room.
func TestQueueFull(t *testing.T) {
	for _, kind := range kinds {
		t.Run(kind, func(t *testing.T) {
			t.Parallel()
			address := servers.RabbitMQ(t)
			to := newTopology(t, address, queue{kind: kind, arguments: amqp091.Table{"x-max-length": 10, "x-overflow": "reject-publish"}})
			broker := open(t, amqp.Config{URLs: []string{address}})
			msgs := numbered(to.exchange, 10_000)
			stored := map[string]bool{}
			var refused []core.Message
			for len(refused) == 0 && len(msgs) > 0 { // a quorum queue tells late that it is full
				for i, err := range publish(t, broker, msgs[:50]) {
					if err == nil {
						stored[msgs[i].ID] = true
						continue
					}
					expectClass(t, msgs[i].ID, err, core.ErrUnavailable)
					refused = append(refused, msgs[i])
				}
				msgs = msgs[50:]
			}
			if len(refused) == 0 || len(stored) == 0 {
				t.Fatalf("%d stored, %d refused, want some of each", len(stored), len(refused))
			}
			consumer := consume(t, address, to.exchange)
			expectStored(t, consumer, stored)
			for len(refused) > 0 { // as the relay does; the consumer makes room
				var again []core.Message
				for i, err := range publish(t, broker, refused[:min(5, len(refused))]) {
					if err == nil {
						stored[refused[i].ID] = true
					} else {
						again = append(again, refused[i])
					}
				}
				refused = append(again, refused[min(5, len(refused)):]...)
				expectStored(t, consumer, stored)
			}
		})
	}
}

// user makes a user of RabbitMQ, and returns the URL to log in with.
func user(t *testing.T, address, name, password string, permissions ...string) string {
	t.Helper()
	servers.RabbitMQControl(t, "add_user", name, password)
	t.Cleanup(func() { servers.RabbitMQControl(t, "delete_user", name) })
	servers.RabbitMQControl(t, append([]string{"set_permissions", name}, permissions...)...)
	u, err := url.Parse(address)
	must(t, err)
	u.User = url.UserPassword(name, password)
	return u.String()
}

func TestPermissions(t *testing.T) {
	address := servers.RabbitMQ(t)
	to := newTopology(t, address, queue{kind: "classic"})
	other := newTopology(t, address, queue{kind: "classic"})
	as := user(t, address, "narrow", "secret", "^$", "^"+to.exchange+"$", "^$")
	servers.RabbitMQControl(t, "set_topic_permissions", "narrow", to.exchange, "^allowed$", ".*")
	broker := open(t, amqp.Config{URLs: []string{as}})
	results := publish(t, broker, []core.Message{
		{ID: "1", Topic: other.exchange, Key: "allowed"}, {ID: "2", Topic: to.exchange, Key: "allowed"}, {ID: "3", Topic: to.exchange, Key: "other"},
	})
	expectClass(t, "no permission for the exchange", results[0], core.ErrUnavailable)
	expectClass(t, "all permissions", results[1], nil)
	if results[2] == nil {
		t.Error("no permission for the routing key: stored")
	}
	expectClass(t, "no permission for the routing key", results[2], errNone)
	err := broker.Check(t.Context(), to.exchange, other.exchange)
	if !errors.Is(err, core.ErrUnavailable) || !strings.Contains(err.Error(), other.exchange) || strings.Contains(err.Error(), to.exchange) {
		t.Errorf("Check: got %v, want the exchange named that the user has no permission on, and no other", err)
	}
}

var errNone = errors.New("none of the classes")

func TestCheck(t *testing.T) {
	t.Parallel()
	address := servers.RabbitMQ(t)
	to := newTopology(t, address, queue{kind: "classic"})
	broker := open(t, amqp.Config{URLs: []string{address}})
	if err := broker.Check(t.Context(), to.exchange, amqp.DefaultExchange); err != nil {
		t.Errorf("Check: got %v, want nil", err)
	}
	err := broker.Check(t.Context(), "missing_1", to.exchange, "missing_2")
	if !errors.Is(err, core.ErrUnavailable) || !strings.Contains(err.Error(), "missing_1") || !strings.Contains(err.Error(), "missing_2") ||
		strings.Contains(err.Error(), to.exchange) {
		t.Errorf("Check: got %v, want both missing exchanges named, and no other", err)
	}
	if results := publish(t, broker, numbered(to.exchange, 1)); results[0] != nil {
		t.Errorf("after Check: %v", results[0])
	}
}

func TestTheDefaultExchange(t *testing.T) {
	t.Parallel()
	address := servers.RabbitMQ(t)
	to := newTopology(t, address, queue{kind: "quorum"})
	results := publish(t, open(t, amqp.Config{URLs: []string{address}}), []core.Message{
		{ID: "1", Topic: amqp.DefaultExchange, Key: to.exchange},
		{ID: "2", Topic: amqp.DefaultExchange, Key: "no-such-queue"},
		{ID: "3", Topic: amqp.DefaultExchange, Key: "k", Headers: map[string]string{amqp.RoutingKeyHeader: to.exchange}},
	})
	expectClass(t, "a queue", results[0], nil)
	expectClass(t, "no queue", results[1], core.ErrUncertain)
	expectClass(t, "a queue by header", results[2], nil)
	expectStored(t, consume(t, address, to.exchange), map[string]bool{"1": true, "3": true})
}
