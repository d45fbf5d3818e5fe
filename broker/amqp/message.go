package amqp

import (
	"fmt"
	"strings"
	"unicode/utf8"

	amqp091 "github.com/rabbitmq/amqp091-go"

	"github.com/lockstep-go/lockstep/core"
	"github.com/lockstep-go/lockstep/internal/cloudevents"
)

// Where the parts of a message travel that AMQP has no property for.
const (
	// KeyHeader is the header in which a message's key travels. Messages without a key don't have it.
	KeyHeader = core.ReservedHeaderPrefix + "key"
	// EnqueuedAtHeader is the header that says when the message was enqueued, in RFC 3339 with microseconds. The
	// timestamp property has only seconds.
	EnqueuedAtHeader = core.ReservedHeaderPrefix + "enqueued-at"
	// RoutingKeyHeader is the header of a message that becomes its routing key. Without it the key does. It stays a
	// header as well.
	RoutingKeyHeader = "routing-key"
	// ContentTypeHeader is the header of a message that becomes the property content-type, and no header.
	ContentTypeHeader = "content-type"
	// CloudEventsPrefix begins the headers that hold the attributes of a CloudEvent.
	CloudEventsPrefix = "cloudEvents:"
)

// DefaultExchange is the topic that stands for the default exchange, as it does in RabbitMQ's management API: messages
// go to the queue that their routing key names.
const DefaultExchange = "amq.default"

const (
	// maxShort is the longest short string of AMQP, in bytes.
	maxShort = 255
	// usualFrame is the frame size of a RabbitMQ that nobody told another: all headers fit into one, as AMQP wants it, beside the
	// frame's own bytes and the properties.
	usualFrame       = 128 << 10
	besideTheHeaders = 2 << 10
	// enqueuedAtFormat always shows the microseconds, so that the texts sort as the times do.
	enqueuedAtFormat = "2006-01-02T15:04:05.000000Z07:00"
)

// exchange returns the name of the exchange that a topic stands for.
func exchange(topic string) string {
	if topic == DefaultExchange {
		return amqp091.DefaultExchange
	}
	return topic
}

func routingKey(m *core.Message) string {
	if key, ok := m.Headers[RoutingKeyHeader]; ok {
		return key
	}
	return m.Key
}

// publishing returns m as it is sent.
func (b *Broker) publishing(m *core.Message) amqp091.Publishing {
	p := amqp091.Publishing{
		MessageId:    m.ID,
		ContentType:  m.Headers[ContentTypeHeader],
		Timestamp:    m.EnqueuedAt,
		DeliveryMode: b.deliveryMode,
		Body:         m.Payload,
	}
	p.Headers = make(amqp091.Table, len(m.Headers)+2)
	for name, value := range m.Headers {
		if name != ContentTypeHeader {
			p.Headers[name] = value
		}
	}
	if b.config.CloudEventsSource != "" {
		for _, a := range cloudevents.Attributes(m, b.config.CloudEventsSource) {
			p.Headers[CloudEventsPrefix+a.Name] = a.Value
		}
		return p
	}
	if m.Key != "" {
		p.Headers[KeyHeader] = m.Key
	}
	if !m.EnqueuedAt.IsZero() {
		p.Headers[EnqueuedAtHeader] = m.EnqueuedAt.UTC().Format(enqueuedAtFormat)
	}
	return p
}

// fault says what keeps m from being sent as it is, or returns nil. It comes before RabbitMQ's word because amqp091 and
// RabbitMQ end the whole connection over most of this.
func (b *Broker) fault(m *core.Message) error {
	for name := range m.Headers {
		if len(name) > maxShort || !utf8.ValidString(name) {
			return fmt.Errorf("the header name %.40q is longer than %d bytes, or no UTF-8", name, maxShort)
		}
		if name == KeyHeader || name == EnqueuedAtHeader {
			return fmt.Errorf("the header %q is the adapter's own: choose another name", name)
		}
	}
	if err := b.unframed(m, usualFrame); err != nil {
		return err
	}
	for _, short := range [...]struct{ name, value string }{
		{"ID", m.ID}, {"topic", m.Topic}, {"key", m.Key}, {"routing key", routingKey(m)}, {"content type", m.Headers[ContentTypeHeader]},
	} {
		if len(short.value) > maxShort || strings.IndexByte(short.value, 0) >= 0 {
			return fmt.Errorf("the %s is longer than %d bytes, or contains a NUL byte", short.name, maxShort)
		}
	}
	if b.config.CloudEventsSource != "" {
		return cloudevents.Conflict(m, CloudEventsPrefix)
	}
	return nil
}

// unframed says that m's headers do not fit into a frame of so many bytes, or returns nil. RabbitMQ ends the connection over
// one that is larger.
func (b *Broker) unframed(m *core.Message, frame int) error {
	total, most := 0, frame-besideTheHeaders
	add := func(name, value string) { total += len(name) + len(value) + 6 } // with the lengths and the type that go before them
	for name, value := range m.Headers {
		add(name, value)
	}
	if b.config.CloudEventsSource != "" {
		for _, a := range cloudevents.Attributes(m, b.config.CloudEventsSource) {
			add(CloudEventsPrefix+a.Name, a.Value)
		}
	} else {
		add(KeyHeader, m.Key)
		add(EnqueuedAtHeader, enqueuedAtFormat)
	}
	if total > most {
		return fmt.Errorf("the headers take %d bytes: this RabbitMQ takes at most %d (its frame_max is %d)", total, most, frame)
	}
	return nil
}
