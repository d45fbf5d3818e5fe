package watermill_test

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"maps"
	"path/filepath"
	"testing"

	"github.com/ThreeDotsLabs/watermill/message"

	"github.com/lockstep-go/lockstep/broker/watermill"
	"github.com/lockstep-go/lockstep/core"
	"github.com/lockstep-go/lockstep/core/outboxtest"
	"github.com/lockstep-go/lockstep/dialect/sqlite"
)

func newShop(t *testing.T) *sqlite.Dialect {
	t.Helper()
	dialect, err := sqlite.Open(filepath.Join(t.TempDir(), "shop.db"), sqlite.Config{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { dialect.Close() })
	if err := dialect.Migrate(t.Context()); err != nil {
		t.Fatal(err)
	}
	return dialect
}

// inTx runs publish in a transaction and commits it, whatever publish returns.
func inTx(t *testing.T, dialect *sqlite.Dialect, config watermill.OutboxPublisherConfig, publish func(p message.Publisher) error) error {
	t.Helper()
	tx, err := dialect.DB().BeginTx(t.Context(), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer tx.Rollback()
	outbox := core.NewOutbox(dialect, core.OutboxConfig{})
	result := publish(watermill.NewOutboxPublisher(outbox, tx, config))
	if err := tx.Commit(); err != nil {
		t.Fatal(err)
	}
	return result
}

// committed is what a relay would find.
func committed(t *testing.T, dialect *sqlite.Dialect) []core.Message {
	t.Helper()
	msgs, err := outboxtest.Committed(t.Context(), dialect)
	if err != nil {
		t.Fatal(err)
	}
	return msgs
}

func watermillMessage(id, payload string, metadata message.Metadata) *message.Message {
	m := message.NewMessage(id, []byte(payload))
	maps.Copy(m.Metadata, metadata)
	return m
}

func TestTheOutboxGetsEveryPartOfAMessage(t *testing.T) {
	dialect := newShop(t)
	before := message.Metadata{"h": "v", "content-type": "text/plain", "lockstep-key": "42",
		"lockstep-enqueued-at": "2020-01-01T00:00:00.000000Z"} // a message that has come a long way
	first, second := watermillMessage("id-1", "one", before), message.NewMessage("", nil)
	second.Metadata = nil
	err := inTx(t, dialect, watermill.OutboxPublisherConfig{}, func(p message.Publisher) error {
		return p.Publish("orders", first, second)
	})
	if err != nil {
		t.Fatal(err)
	}
	got := committed(t, dialect)
	if err := outboxtest.Compare(got,
		core.Message{ID: "id-1", Topic: "orders", Key: "42", Payload: []byte("one")},
		core.Message{Topic: "orders"},
	); err != nil {
		t.Fatal(err)
	}
	if want := map[string]string{"h": "v", "content-type": "text/plain"}; !maps.Equal(got[0].Headers, want) {
		t.Errorf("headers: got %v, want %v", got[0].Headers, want)
	}
	if got[1].ID == "" || second.UUID != "" {
		t.Errorf("without a UUID: the ID is %q and the UUID %q; want a new ID, and the message untouched", got[1].ID, second.UUID)
	}
	if want := watermillMessage("id-1", "one", before); !first.Equals(want) {
		t.Errorf("Publish changed the message to %v", first)
	}
}

// What an application publishes is what its consumers get, through the outbox and a relay.
func TestAMessageTravelsUnchanged(t *testing.T) {
	dialect := newShop(t)
	want := watermillMessage("id-1", "\x00\xff", message.Metadata{"name": "OrderPlaced", "lockstep-key": "42"})
	err := inTx(t, dialect, watermill.OutboxPublisherConfig{}, func(p message.Publisher) error { return p.Publish("orders", want) })
	if err != nil {
		t.Fatal(err)
	}
	got := taken(t, "orders", func(channel message.Publisher) error {
		relay, err := core.NewRelay(dialect, open(t, channel), core.RelayConfig{})
		if err != nil {
			return err
		}
		_, err = relay.RunOnce(t.Context())
		return err
	})
	delete(got.Metadata, watermill.EnqueuedAtMetadata) // core's tests say when it is known
	if !got.Equals(want) {
		t.Errorf("got %s %q %v, want %s %q %v", got.UUID, got.Payload, got.Metadata, want.UUID, want.Payload, want.Metadata)
	}
}

func TestAKeyFunctionDecides(t *testing.T) {
	dialect := newShop(t)
	byName := func(topic string, m *message.Message) (string, error) {
		return topic + "/" + m.Metadata.Get("name"), nil
	}
	err := inTx(t, dialect, watermill.OutboxPublisherConfig{Key: byName}, func(p message.Publisher) error {
		return p.Publish("orders", watermillMessage("id-1", "", message.Metadata{"name": "n", "lockstep-key": "another"}))
	})
	if err != nil {
		t.Fatal(err)
	}
	got := committed(t, dialect)
	if err := outboxtest.Compare(got, core.Message{ID: "id-1", Topic: "orders", Key: "orders/n"}); err != nil {
		t.Error(err)
	}
	if want := map[string]string{"name": "n"}; !maps.Equal(got[0].Headers, want) {
		t.Errorf("headers: got %v, want %v", got[0].Headers, want)
	}
}

// Each of these fails before anything is written, and the transaction can go on.
func TestPublishRefuses(t *testing.T) {
	noKey := errors.New("no key")
	ended, cancel := context.WithCancelCause(context.Background())
	gone := errors.New("the caller has gone")
	cancel(gone)
	good, late := watermillMessage("id-1", "", nil), watermillMessage("id-2", "", nil)
	late.SetContext(ended)
	var invalid *core.MessageError
	for name, tt := range map[string]struct {
		topic   string
		config  watermill.OutboxPublisherConfig
		msgs    []*message.Message
		refused func(error) bool
	}{
		"a message that cannot be sent": {"orders", watermill.OutboxPublisherConfig{},
			[]*message.Message{good, watermillMessage("id-2", "", message.Metadata{"lockstep-other": ""})},
			func(err error) bool {
				return errors.As(err, &invalid) && invalid.Index == 1 && invalid.Field == "Headers"
			}},
		"no topic": {"", watermill.OutboxPublisherConfig{}, []*message.Message{good},
			func(err error) bool { return errors.As(err, &invalid) && invalid.Field == "Topic" }},
		"one UUID twice": {"orders", watermill.OutboxPublisherConfig{}, []*message.Message{good, good},
			func(err error) bool { return errors.As(err, &invalid) && invalid.Field == "ID" }},
		"no key": {"orders", watermill.OutboxPublisherConfig{
			Key: func(_ string, m *message.Message) (string, error) {
				if m.UUID == "id-2" {
					return "", noKey
				}
				return "k", nil
			}},
			[]*message.Message{good, late}, func(err error) bool { return errors.Is(err, noKey) }},
		"its context has ended": {"orders", watermill.OutboxPublisherConfig{}, []*message.Message{late},
			func(err error) bool { return errors.Is(err, gone) }},
		"another message's context has ended": {"orders", watermill.OutboxPublisherConfig{}, []*message.Message{good, late},
			func(err error) bool { return errors.Is(err, gone) }},
	} {
		t.Run(name, func(t *testing.T) {
			dialect := newShop(t)
			err := inTx(t, dialect, tt.config, func(p message.Publisher) error { return p.Publish(tt.topic, tt.msgs...) })
			if !tt.refused(err) {
				t.Errorf("Publish: got %v", err)
			}
			if got := committed(t, dialect); len(got) != 0 {
				t.Errorf("%d messages are written: %v", len(got), got)
			}
		})
	}
}

func TestAPoolIsNoTransaction(t *testing.T) {
	dialect := newShop(t)
	outbox := core.NewOutbox(dialect, core.OutboxConfig{})
	publisher := watermill.NewOutboxPublisher(outbox, dialect.DB(), watermill.OutboxPublisherConfig{})
	if err := publisher.Publish("orders", watermillMessage("id-1", "", nil)); !errors.Is(err, core.ErrNotInTransaction) {
		t.Errorf("Publish: got %v, want %v", err, core.ErrNotInTransaction)
	}
}

// notingExecer is a fake transaction that keeps the context of its statement, and lets it hang until that is done.
type notingExecer struct {
	ctx     context.Context
	calls   int
	started chan struct{}
}

func (e *notingExecer) ExecContext(ctx context.Context, _ string, _ ...any) (sql.Result, error) {
	e.ctx = ctx
	e.calls++
	if e.started == nil {
		return nil, nil
	}
	close(e.started)
	<-ctx.Done()
	return nil, ctx.Err()
}

type contextKey struct{}

func TestPublishHasTheMessagesContexts(t *testing.T) {
	for canceled := range 3 {
		t.Run(fmt.Sprint(canceled), func(t *testing.T) {
			outbox := core.NewOutbox(newShop(t), core.OutboxConfig{})
			ending, cancel := context.WithCancel(t.Context())
			defer cancel()
			msgs := make([]*message.Message, 3)
			for i := range msgs {
				ctx := t.Context()
				if i == canceled {
					ctx = ending
				}
				msgs[i] = message.NewMessageWithContext(context.WithValue(ctx, contextKey{}, i), "", nil)
			}
			execer := &notingExecer{started: make(chan struct{})}
			published := make(chan error, 1)
			go func() {
				published <- watermill.NewOutboxPublisher(outbox, execer, watermill.OutboxPublisherConfig{}).Publish("orders", msgs...)
			}()
			<-execer.started
			cancel()
			if err := <-published; !errors.Is(err, context.Canceled) {
				t.Errorf("Publish: got %v, want %v", err, context.Canceled)
			}
			if got := execer.ctx.Value(contextKey{}); got != 0 {
				t.Errorf("the context's values are those of message %v, want the first's", got)
			}
		})
	}
}

func TestMessagesAreEnqueuedAtOnce(t *testing.T) {
	execer := &notingExecer{}
	outbox := core.NewOutbox(newShop(t), core.OutboxConfig{})
	publisher := watermill.NewOutboxPublisher(outbox, execer, watermill.OutboxPublisherConfig{})
	if err := publisher.Publish("orders", message.NewMessage("", nil), message.NewMessage("", nil), message.NewMessage("", nil)); err != nil {
		t.Fatal(err)
	}
	if execer.calls != 1 {
		t.Errorf("3 messages took %d statements, want 1", execer.calls)
	}
	if err := publisher.Publish("orders"); err != nil || execer.calls != 1 {
		t.Errorf("Publish of nothing: got %v and %d statements, want nil and none more", err, execer.calls-1)
	}
}

// The transaction is its caller's to end, as the connection of a Watermill publisher is the publisher's to close.
func TestCloseEndsNothing(t *testing.T) {
	dialect := newShop(t)
	err := inTx(t, dialect, watermill.OutboxPublisherConfig{}, func(p message.Publisher) error {
		return errors.Join(p.Close(), p.Close(), p.Publish("orders", watermillMessage("id-1", "", nil)), p.Close())
	})
	if got := committed(t, dialect); err != nil || len(got) != 1 {
		t.Errorf("got %v and %d messages, want nil and one", err, len(got))
	}
}
