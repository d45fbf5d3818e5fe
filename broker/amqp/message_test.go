package amqp_test

import (
	"bytes"
	"fmt"
	"maps"
	"strings"
	"testing"
	"time"

	amqp091 "github.com/rabbitmq/amqp091-go"

	"github.com/lockstep-go/lockstep/broker/amqp"
	"github.com/lockstep-go/lockstep/core"
	"github.com/lockstep-go/lockstep/internal/servers"
)

// TestAPlainConsumerReadsWhatWeWrote holds every fact of a message to its place in docs/messages.md.
func TestAPlainConsumerReadsWhatWeWrote(t *testing.T) {
	t.Parallel()
	address := servers.RabbitMQ(t)
	at := time.Date(2026, 11, 21, 10, 0, 0, 120_000, time.FixedZone("", 3600))
	full := core.Message{
		ID: "id-1", Key: "42", Payload: []byte("{}"), EnqueuedAt: at,
		Headers: map[string]string{"content-type": "application/json", "routing-key": "order.paid", "event-type": "order.paid", "other": "é"},
	}
	for _, tt := range []struct {
		name       string
		config     amqp.Config
		m          core.Message
		headers    amqp091.Table
		routingKey string
		mode       uint8
	}{
		{"native", amqp.Config{}, full, amqp091.Table{
			"lockstep-key": "42", "lockstep-enqueued-at": "2026-11-21T09:00:00.000120Z",
			"routing-key": "order.paid", "event-type": "order.paid", "other": "é",
		}, "order.paid", amqp091.Persistent},
		{"native, the least", amqp.Config{}, core.Message{ID: "id-2"}, nil, "", amqp091.Persistent},
		{"native, the key is the routing key", amqp.Config{}, core.Message{ID: "id-3", Key: "42"}, amqp091.Table{"lockstep-key": "42"}, "42", amqp091.Persistent},
		{"native, transient", amqp.Config{Transient: true}, core.Message{ID: "id-4"}, nil, "", 1},
		{"CloudEvents", amqp.Config{CloudEventsSource: "/shop"}, full, amqp091.Table{
			"cloudEvents:specversion": "1.0", "cloudEvents:id": "id-1", "cloudEvents:source": "/shop", "cloudEvents:type": "order.paid",
			"cloudEvents:subject": "42", "cloudEvents:partitionkey": "42", "cloudEvents:time": "2026-11-21T09:00:00.00012Z",
			"routing-key": "order.paid", "event-type": "order.paid", "other": "é",
		}, "order.paid", amqp091.Persistent},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			to := newTopology(t, address, queue{kind: "classic"})
			tt.config.URLs = []string{address}
			tt.m.Topic = to.exchange
			expectClass(t, "publish", publish(t, open(t, tt.config), []core.Message{tt.m})[0], nil)
			c := consume(t, address, to.exchange)
			must(t, c.take(t.Context(), 1))
			d := c.taken[0]
			if d.MessageId != tt.m.ID || d.ContentType != tt.m.Headers["content-type"] || !bytes.Equal(d.Body, tt.m.Payload) ||
				d.Exchange != to.exchange || d.RoutingKey != tt.routingKey || d.DeliveryMode != tt.mode {
				t.Errorf("got %+v", d)
			}
			if !maps.Equal(d.Headers, tt.headers) {
				t.Errorf("headers: got %v, want %v", d.Headers, tt.headers)
			}
			if want := tt.m.EnqueuedAt.Truncate(time.Second); !d.Timestamp.Equal(want) {
				t.Errorf("timestamp: got %v, want %v", d.Timestamp, want)
			}
		})
	}
}

// What RabbitMQ or amqp091 would end the connection over is refused before it is sent, and takes nobody along.
func TestWhatCannotBeSent(t *testing.T) {
	t.Parallel()
	address := servers.RabbitMQ(t)
	to := newTopology(t, address, queue{kind: "classic"})
	long := strings.Repeat("x", 256)
	many := map[string]string{}
	for i := range 490 { // 129 800 bytes: a little too much
		many[fmt.Sprint(i)] = long
	}
	bad := map[string]core.Message{
		"ID":           {ID: long},
		"topic":        {Topic: long},
		"key":          {Key: long},
		"routing key":  {Headers: map[string]string{"routing-key": long}},
		"content type": {Headers: map[string]string{"content-type": long}},
		"header name":  {Headers: map[string]string{long: ""}},
		"headers take": {Headers: many},
		"lockstep-key": {Headers: map[string]string{"lockstep-key": "k"}},
		"NUL":          {Key: "a\x00"},
		"cloudEvents:": {Headers: map[string]string{"CloudEvents:id": "mine"}},
	}
	var msgs []core.Message
	var wants []string
	for want, m := range bad {
		if m.Topic == "" {
			m.Topic = to.exchange
		}
		msgs = append(msgs, m, core.Message{ID: "good", Topic: to.exchange})
		wants = append(wants, want, "")
	}
	for i, err := range publish(t, open(t, amqp.Config{URLs: []string{address}, CloudEventsSource: "/shop"}), msgs) {
		if wants[i] == "" {
			expectClass(t, "a good one", err, nil)
			continue
		}
		expectClass(t, wants[i], err, core.ErrPermanent)
		if err != nil && !strings.Contains(err.Error(), wants[i]) {
			t.Errorf("%v does not tell %q", err, wants[i])
		}
	}
	natively := open(t, amqp.Config{URLs: []string{address}})
	expectClass(t, "without CloudEvents", publish(t, natively, []core.Message{{ID: "a", Topic: to.exchange, Headers: map[string]string{"cloudEvents:id": "mine"}}})[0], nil)
}

// The largest headers that are let through fit into a frame, and what is larger is refused by itself: RabbitMQ would end the
// connection over it. A CloudEvent's type travels twice.
func TestTheLargestHeaders(t *testing.T) {
	address := servers.RabbitMQ(t)
	for _, test := range []struct {
		name, source, header string
		frame, fits, not     int
	}{
		{"native", "", "large", 128 << 10, 127_900, 129_000},
		{"as a CloudEvent", "/shop", "event-type", 128 << 10, 63_300, 65_000},
		{"small frames", "", "large", 8192, 5_000, 6_200},
	} {
		t.Run(test.name, func(t *testing.T) {
			to := newTopology(t, address, queue{kind: "classic"})
			if test.frame != 128<<10 {
				servers.RabbitMQControl(t, "eval", fmt.Sprintf("application:set_env(rabbit, frame_max, %d).", test.frame))
				t.Cleanup(func() {
					servers.RabbitMQControl(t, "eval", "application:set_env(rabbit, frame_max, 131072).")
				})
			}
			of := func(id string, n int) core.Message {
				return core.Message{
					ID: strings.Repeat(id, 255), Topic: to.exchange, Key: strings.Repeat(id, 255), EnqueuedAt: time.Now(),
					Headers: map[string]string{"content-type": strings.Repeat("c", 255), test.header: strings.Repeat("v", n)},
				}
			}
			msgs := []core.Message{of("a", test.fits), of("b", test.not), of("c", 10), of("d", test.fits)}
			results := publish(t, open(t, amqp.Config{URLs: []string{address}, CloudEventsSource: test.source}), msgs)
			for i, class := range []error{nil, core.ErrPermanent, nil, nil} {
				expectClass(t, msgs[i].ID[:1], results[i], class)
			}
			expectStored(t, consume(t, address, to.exchange), map[string]bool{msgs[0].ID: true, msgs[2].ID: true, msgs[3].ID: true})
		})
	}
}
