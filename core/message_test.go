package core_test

import (
	"context"
	"database/sql"
	"errors"
	"regexp"
	"strings"
	"testing"

	"github.com/lockstep-go/lockstep/core"
)

// recordingDialect is a fake: it keeps what Enqueue was given.
type recordingDialect struct {
	core.Dialect
	got []core.Message
}

func (d *recordingDialect) Enqueue(_ context.Context, _ core.Execer, msgs []core.Message) error {
	d.got = append(d.got, msgs...)
	return nil
}

var noTx = core.ExecFunc(func(context.Context, string, ...any) error { return nil })

func TestEnqueueRefusesWhatCannotBeCarried(t *testing.T) {
	good := core.Message{Topic: "orders", Key: "42", Payload: []byte("{}")}
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
		{"long header name", "Headers", func(m *core.Message) {
			m.Headers = map[string]string{strings.Repeat("h", core.MaxHeaderNameBytes+1): "v"}
		}},
		{"NUL in header value", "Headers", func(m *core.Message) { m.Headers = map[string]string{"h": "\x00"} }},
		{"headers too long in all", "Headers", func(m *core.Message) {
			half := strings.Repeat("v", core.MaxHeadersBytes/2)
			m.Headers = map[string]string{"a": half, "b": half}
		}},
		{"payload too long", "Payload", func(m *core.Message) { m.Payload = make([]byte, core.MaxPayloadBytes+1) }},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			dialect := &recordingDialect{}
			bad := good
			tt.edit(&bad)

			err := core.NewOutbox(dialect).Enqueue(t.Context(), noTx, good, bad)

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
		Headers: map[string]string{strings.Repeat("h", core.MaxHeaderNameBytes): "v"},
		Payload: make([]byte, core.MaxPayloadBytes),
	}
	if err := core.NewOutbox(&recordingDialect{}).Enqueue(t.Context(), noTx, m); err != nil {
		t.Errorf("Enqueue: got %v, want nil", err)
	}
}

func TestEnqueueRefusesPools(t *testing.T) {
	dialect := &recordingDialect{}
	for name, tx := range map[string]core.Execer{"pool": &sql.DB{}, "nil": nil} {
		err := core.NewOutbox(dialect).Enqueue(t.Context(), tx, core.Message{Topic: "t"})
		if !errors.Is(err, core.ErrNotInTransaction) {
			t.Errorf("%s: got %v, want ErrNotInTransaction", name, err)
		}
	}
	if len(dialect.got) != 0 {
		t.Errorf("the dialect was given %d messages, want none", len(dialect.got))
	}
}

func TestEnqueueFillsEmptyIDsAndLeavesTheCallersMessagesAlone(t *testing.T) {
	dialect := &recordingDialect{}
	msgs := []core.Message{{Topic: "t"}, {Topic: "t", ID: "mine"}}

	if err := core.NewOutbox(dialect).Enqueue(t.Context(), noTx, msgs...); err != nil {
		t.Fatal(err)
	}

	if msgs[0].ID != "" {
		t.Errorf("the caller's message was given the id %q", msgs[0].ID)
	}
	if dialect.got[0].ID == "" || dialect.got[1].ID != "mine" {
		t.Errorf("ids: got %q and %q, want a new one and mine", dialect.got[0].ID, dialect.got[1].ID)
	}
}

func TestNewIDIsAUUIDv7(t *testing.T) {
	form := regexp.MustCompile(`^[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$`)
	seen := map[string]bool{}
	for range 10_000 {
		id := core.NewID()
		if !form.MatchString(id) {
			t.Fatalf("NewID() = %q, want a version 7 UUID", id)
		}
		if seen[id] {
			t.Fatalf("NewID() returned %q twice", id)
		}
		seen[id] = true
	}
}
