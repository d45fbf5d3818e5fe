package interop

import (
	"context"
	"crypto/rand"
	"fmt"
	"net/url"
	"strings"
	"testing"
	"time"

	goamqp "github.com/Azure/go-amqp"
	ceamqp "github.com/cloudevents/sdk-go/protocol/amqp/v2"
	"github.com/cloudevents/sdk-go/v2/binding"
	amqp091 "github.com/rabbitmq/amqp091-go"

	"github.com/lockstep-go/lockstep/broker/amqp"
	"github.com/lockstep-go/lockstep/core"
	"github.com/lockstep-go/lockstep/internal/servers"
)

// TestRabbitMQ: the CloudEvents SDK consumes the queue over AMQP 1.0, which is the protocol of the binding, and of
// RabbitMQ 4 as well. So the SDK decodes what RabbitMQ makes of what we send over 0-9-1.
func TestRabbitMQ(t *testing.T) {
	address := servers.RabbitMQ(t)
	queue := rabbitQueue(t, address)
	broker, err := amqp.Open(amqp.Config{URLs: []string{address}, CloudEventsSource: "/shop/orders"})
	if err != nil {
		t.Fatal(err)
	}
	defer broker.Close()
	at := time.Date(2026, 11, 21, 10, 0, 0, 123_456_000, time.UTC)
	err = broker.Publish(t.Context(), []core.Message{{
		ID: "id-1", Topic: amqp.DefaultExchange, Key: queue, EnqueuedAt: at, Payload: []byte(`{"a":1}`),
		Headers: map[string]string{"event-type": "order.paid", "content-type": "application/json"},
	}, {
		ID: "id-2", Topic: amqp.DefaultExchange, Headers: map[string]string{"routing-key": queue},
	}})
	if err != nil {
		t.Fatal(err)
	}

	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	u, err := url.Parse(address)
	if err != nil {
		t.Fatal(err)
	}
	password, _ := u.User.Password()
	receiver, err := ceamqp.NewReceiverProtocol("amqp://"+u.Host, "/queues/"+queue,
		[]goamqp.ConnOption{goamqp.ConnSASLPlain(u.User.Username(), password)}, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer receiver.Close(ctx)
	m, err := receiver.Receive(ctx)
	if err != nil {
		t.Fatal(err)
	}
	if got := m.ReadEncoding(); got != binding.EncodingBinary {
		t.Errorf("encoding: got %v, want binary", got)
	}
	event, err := binding.ToEvent(ctx, m)
	if err != nil {
		t.Fatal(err)
	}
	if err := event.Validate(); err != nil {
		t.Errorf("the event is not valid: %v", err)
	}
	got := fmt.Sprint(event.SpecVersion(), event.ID(), event.Source(), event.Type(), event.Subject(), event.Extensions(), event.DataContentType(), string(event.Data()))
	want := fmt.Sprint("1.0", "id-1", "/shop/orders", "order.paid", queue, map[string]any{"partitionkey": queue}, "application/json", `{"a":1}`)
	if got != want || !event.Time().Equal(at) {
		t.Errorf("got %s at %v, want %s at %v", got, event.Time(), want, at)
	}

	if m, err = receiver.Receive(ctx); err != nil {
		t.Fatal(err)
	}
	least, err := binding.ToEvent(ctx, m)
	if err != nil {
		t.Fatal(err)
	}
	if err := least.Validate(); err != nil {
		t.Errorf("the least event is not valid: %v", err)
	}
	if least.ID() != "id-2" || least.Type() != amqp.DefaultExchange || least.Subject() != "" || !least.Time().IsZero() || least.DataContentType() != "" {
		t.Errorf("the least event: got %v", least)
	}
}

// rabbitQueue declares a queue that is deleted when the test ends.
func rabbitQueue(t *testing.T, address string) string {
	t.Helper()
	conn, err := amqp091.Dial(address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	channel, err := conn.Channel()
	if err != nil {
		t.Fatal(err)
	}
	name := "lockstep_test_" + strings.ToLower(rand.Text())
	if _, err := channel.QueueDeclare(name, true, false, false, false, amqp091.Table{"x-queue-type": "quorum"}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if _, err := channel.QueueDelete(name, false, false, false); err != nil {
			t.Errorf("delete queue %s: %v", name, err)
		}
	})
	return name
}
