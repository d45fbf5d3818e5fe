package core

import (
	"fmt"
	"strings"
	"time"
	"unicode/utf8"
)

// Limits on the parts of a message, in bytes. They are what every supported database and broker can hold: AMQP's
// short strings end at 255 bytes, Kafka's default max.message.bytes is 1 MiB with the record's own framing.
const (
	MaxIDBytes         = 255
	MaxTopicBytes      = 249
	MaxKeyBytes        = 255
	MaxHeaderNameBytes = 255
	MaxHeadersBytes    = 16 << 10
	MaxPayloadBytes    = 1_000_000
)

// ReservedHeaderPrefix begins the names of the headers in which brokers carry what has no place of its own, such as the
// ID. A message's own headers don't begin with it.
const ReservedHeaderPrefix = "lockstep-"

// Message is one event: what the application enqueues and what the broker is given.
type Message struct {
	// ID names the message for its consumers, which recognise a re-delivery by it. Any unique string of at most
	// [MaxIDBytes]; [Outbox.Enqueue] fills an empty one with [NewID]. An ID of the caller's own, made from what happened,
	// lets consumers also recognise an event that the application enqueued twice.
	ID string
	// Topic says where the message goes; what it stands for (a Kafka topic, an exchange) is the broker's matter.
	// Required.
	Topic string
	// Key orders messages: those of one (topic, key) are delivered in the order they were enqueued. An empty key is
	// no key, and no order.
	Key string
	// Headers travel beside the payload. Names and values are UTF-8 without NUL; names are not empty, and do not begin
	// with [ReservedHeaderPrefix].
	Headers map[string]string
	// Payload is opaque bytes, at most [MaxPayloadBytes]. Nil is the same as none.
	Payload []byte
	// EnqueuedAt is when the message took its place in the outbox, by the database's clock: when it was enqueued, or, for
	// a delayed one, when it was due. It is set on what a broker is given, and ignored by [Outbox.Enqueue].
	EnqueuedAt time.Time
	// NotBefore delays the message: it takes its place in the outbox, and in its key's order, when the database's clock
	// has reached this time: up to a second later, because relays look that often. It is kept in whole microseconds, in the
	// years 1970 to 9999. Zero means now.
	NotBefore time.Time
}

// MessageError says which field of which message cannot be enqueued, and why. The transaction is untouched by it.
type MessageError struct {
	// Index is the message's place in the arguments of Enqueue, from 0.
	Index int
	// Field is the name of the Message field at fault.
	Field string
	// Reason is what is wrong with it and what would be right.
	Reason string
}

func (e *MessageError) Error() string {
	return fmt.Sprintf("message %d: %s %s", e.Index, e.Field, e.Reason)
}

// validate reports the first field of m that no dialect or broker could carry.
func (m Message) validate(index int) error {
	fault := func(field, reason string) error {
		return &MessageError{Index: index, Field: field, Reason: reason}
	}
	if m.Topic == "" {
		return fault("Topic", "is empty: set it to the topic or exchange that the event goes to")
	}
	for _, f := range []struct {
		name, value string
		limit       int
	}{{"ID", m.ID, MaxIDBytes}, {"Topic", m.Topic, MaxTopicBytes}, {"Key", m.Key, MaxKeyBytes}} {
		if reason := textFault(f.value, f.limit); reason != "" {
			return fault(f.name, reason)
		}
	}
	if reason := headersFault(m.Headers); reason != "" {
		return fault("Headers", reason)
	}
	if len(m.Payload) > MaxPayloadBytes {
		return fault("Payload", fmt.Sprintf("is %d bytes long: at most %d are allowed; store it elsewhere and send a reference", len(m.Payload), MaxPayloadBytes))
	}
	if t := databaseTime(m.NotBefore); !t.IsZero() && (t.Before(time.Unix(0, 0)) || t.Year() > 9999) {
		return fault("NotBefore", fmt.Sprintf("is %v: it must be in the years 1970 to 9999, or the zero time for now", t))
	}
	return nil
}

// databaseTime returns t as every database keeps it: in UTC and in whole microseconds, rounded up, so that nothing is
// early. The zero time stays zero.
func databaseTime(t time.Time) time.Time {
	return t.UTC().Add(time.Microsecond - time.Nanosecond).Truncate(time.Microsecond)
}

// headersFault says what keeps headers from being stored and sent everywhere, or returns "".
func headersFault(headers map[string]string) string {
	total := 0
	for name, value := range headers {
		total += len(name) + len(value)
		if name == "" {
			return "has an empty name: give every header a name"
		}
		if strings.HasPrefix(name, ReservedHeaderPrefix) {
			return fmt.Sprintf("has a name %.40q that begins with %s, as Lockstep's own do: choose another", name, ReservedHeaderPrefix)
		}
		if reason := textFault(name, MaxHeaderNameBytes); reason != "" {
			return fmt.Sprintf("has a name %.40q that %s", name, reason)
		}
		if reason := textFault(value, MaxHeadersBytes); reason != "" {
			return fmt.Sprintf("has a value for %q that %s", name, reason)
		}
	}
	if total > MaxHeadersBytes {
		return fmt.Sprintf("is %d bytes long in all: at most %d are allowed", total, MaxHeadersBytes)
	}
	return ""
}

// textFault says what keeps s from being stored as text in every database, or returns "".
func textFault(s string, limit int) string {
	switch {
	case len(s) > limit:
		return fmt.Sprintf("is %d bytes long: at most %d are allowed", len(s), limit)
	case strings.IndexByte(s, 0) >= 0:
		return "contains a NUL byte: not every database can store it"
	case !utf8.ValidString(s):
		return "is not valid UTF-8: encode it, for example as hex"
	}
	return ""
}
