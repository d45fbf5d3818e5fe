package core_test

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/lockstep-go/lockstep/core"
)

// recordingDialect is a fake: it keeps what Enqueue was given.
type recordingDialect struct {
	core.Dialect
	got   []core.Message
	calls int
	err   error
}

func (d *recordingDialect) Enqueue(_ context.Context, _ core.Execer, msgs []core.Message) error {
	d.got = append(d.got, msgs...)
	d.calls++
	return d.err
}

var noTx = core.ExecFunc(func(context.Context, string, ...any) error { return nil })

func TestEnqueueRefusesWhatCannotBeCarried(t *testing.T) {
	good := core.Message{ID: "same", Topic: "orders", Key: "42", Payload: []byte("{}")}
	tests := []struct {
		name  string
		field string
		edit  func(*core.Message)
	}{
		{"empty topic", "Topic", func(m *core.Message) { m.Topic = "" }},
		{"long topic", "Topic", func(m *core.Message) { m.Topic = strings.Repeat("t", core.MaxTopicBytes+1) }},
		{"long key", "Key", func(m *core.Message) { m.Key = strings.Repeat("k", core.MaxKeyBytes+1) }},
		{"NUL in key", "Key", func(m *core.Message) { m.Key = "a\x00b" }},
		{"invalid UTF-8 in key", "Key", func(m *core.Message) { m.Key = "\xff" }},
		{"long id", "ID", func(m *core.Message) { m.ID = strings.Repeat("i", core.MaxIDBytes+1) }},
		{"empty header name", "Headers", func(m *core.Message) { m.Headers = map[string]string{"": "v"} }},
		{"header name of ours", "Headers", func(m *core.Message) { m.Headers = map[string]string{"lockstep-id": "forged"} }},
		{"long header name", "Headers", func(m *core.Message) {
			m.Headers = map[string]string{strings.Repeat("h", core.MaxHeaderNameBytes+1): "v"}
		}},
		{"NUL in header value", "Headers", func(m *core.Message) { m.Headers = map[string]string{"h": "\x00"} }},
		{"headers too long in all", "Headers", func(m *core.Message) {
			half := strings.Repeat("v", core.MaxHeadersBytes/2)
			m.Headers = map[string]string{"a": half, "b": half}
		}},
		{"time before every database's", "NotBefore", func(m *core.Message) { m.NotBefore = time.Unix(-1, 0) }},
		{"time after every database's", "NotBefore", func(m *core.Message) {
			m.NotBefore = time.Date(9999, 12, 31, 23, 59, 59, 999_999_001, time.UTC)
		}},
		{"an id that another message has", "ID", func(m *core.Message) { m.ID = "same" }},
		{"payload too long", "Payload", func(m *core.Message) { m.Payload = make([]byte, core.MaxPayloadBytes+1) }},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			dialect := &recordingDialect{}
			bad := good
			bad.ID = ""
			tt.edit(&bad)

			err := core.NewOutbox(dialect, core.OutboxConfig{}).Enqueue(t.Context(), noTx, good, bad)

			var fault *core.MessageError
			if !errors.As(err, &fault) {
				t.Fatalf("Enqueue: got %v, want a *MessageError", err)
			}
			if fault.Index != 1 || fault.Field != tt.field {
				t.Errorf("fault: got message %d, field %s, want message 1, field %s", fault.Index, fault.Field, tt.field)
			}
			if len(dialect.got) != 0 {
				t.Errorf("the dialect was given %d messages, want none: nothing may be half done", len(dialect.got))
			}
		})
	}
}

func TestEnqueueTakesTheLimitsThemselves(t *testing.T) {
	m := core.Message{
		ID:      strings.Repeat("i", core.MaxIDBytes),
		Topic:   strings.Repeat("t", core.MaxTopicBytes),
		Key:     strings.Repeat("k", core.MaxKeyBytes),
		Headers: map[string]string{strings.Repeat("h", core.MaxHeaderNameBytes): "v", "lockstep": "v"},
		Payload: make([]byte, core.MaxPayloadBytes),
		// In UTC: where the clock shows another year it is another year's last hours.
		NotBefore: time.Date(9999, 12, 31, 23, 59, 59, 999_999_000, time.UTC).In(time.FixedZone("east", 14*3600)),
	}
	if err := core.NewOutbox(&recordingDialect{}, core.OutboxConfig{}).Enqueue(t.Context(), noTx, m); err != nil {
		t.Errorf("Enqueue: got %v, want nil", err)
	}
}
