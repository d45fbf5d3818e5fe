package kafka_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"slices"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/lockstep-go/lockstep/conformance"
	"github.com/lockstep-go/lockstep/core"
	"github.com/lockstep-go/lockstep/internal/servers"
)

// shop is an outbox in memory, with n messages for topic.
func shop(t *testing.T, topic string, n int) *conformance.Memory {
	t.Helper()
	m := conformance.NewMemory(conformance.MemoryConfig{})
	tx, err := m.Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for i := range n {
		msg := core.Message{ID: fmt.Sprint(i), Topic: topic, Key: fmt.Sprint("k", i%20), Payload: []byte("{}")}
		if i == guilty {
			msg.Payload = make([]byte, 5000)
		}
		if err := core.NewOutbox(m, core.OutboxConfig{}).Enqueue(t.Context(), tx, msg); err != nil {
			t.Fatal(err)
		}
	}
	if err := tx.Commit(); err != nil {
		t.Fatal(err)
	}
	return m
}

const guilty = 123

func relay(t *testing.T, m *conformance.Memory, broker core.Broker) *core.Relay {
	t.Helper()
	r, err := core.NewRelay(m, broker, core.RelayConfig{Logger: slog.New(slog.NewTextHandler(io.Discard, nil))})
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// Rule 28: a produce request that is refused for the user's rights leaves the row, and counts nothing.
func TestARefusedRightLeavesTheRow(t *testing.T) {
	t.Parallel()
	f := newFake(t, 1)
	m := shop(t, f.topic, 3)
	fault := f.Fault(kfake.Fault{Keys: []kmsg.Key{produceKey}, Err: kerr.TopicAuthorizationFailed, Count: -1})
	r := relay(t, m, f.broker)
	held, err := r.RunOnce(t.Context())
	if err != nil || len(held) == 0 {
		t.Errorf("RunOnce: got %v, %v, want what is held", held, err)
	}
	c := m.Contents()
	if len(c.Records) != 3 || len(c.Dead) != 0 {
		t.Errorf("%d messages wait and %d are dead letters, want 3 and none", len(c.Records), len(c.Dead))
	}
	for _, record := range c.Records {
		if record.Attempts != 0 {
			t.Errorf("message %s: %d attempts are counted, want none", record.Message.ID, record.Attempts)
		}
	}
	fault.Remove()
	if held, err := r.RunOnce(t.Context()); err != nil || len(held) > 0 {
		t.Errorf("RunOnce: got %v, %v", held, err)
	}
	if got := f.stored(t); len(got) != 3 {
		t.Errorf("stored: got %v, want 3 messages", got)
	}
}

// Rule 34: one that is too large among 500: 499 are delivered, and one is a dead letter. (Its key waits for the
// operator, so it is unblocked here.)
func TestOneOversizedBecomesADeadLetter(t *testing.T) {
	t.Parallel()
	const count = 500
	address, topic := servers.Kafka(t), servers.KafkaTopic(t, 1, limit(3000))
	m := shop(t, topic, count)
	r := relay(t, m, open(t, address))
	if _, err := r.RunOnce(t.Context()); err != nil {
		t.Fatal(err)
	}
	operator := core.NewOperator(m)
	if _, err := operator.Unblock(t.Context(), topic, fmt.Sprint("k", guilty%20)); err != nil {
		t.Fatal(err)
	}
	if held, err := r.RunOnce(t.Context()); err != nil || len(held) > 0 {
		t.Errorf("RunOnce: got %v, %v", held, err)
	}
	if c := m.Contents(); len(c.Records) != 0 || len(c.Dead) != 1 {
		t.Errorf("%d messages wait and %d are dead letters, want none and one", len(c.Records), len(c.Dead))
	}
	s := &site{address: address, topic: topic, partitions: 1}
	if got := s.stored(t); len(got) != count-1 {
		t.Errorf("stored: got %d messages, want %d", len(got), count-1)
	}
}

// A relay that another owner has shut out gives up its lease, takes it again, and goes on in a later term.
func TestAFencedRelayBeginsAnew(t *testing.T) {
	t.Parallel()
	f := newFake(t, 1)
	m := shop(t, f.topic, 1)
	var terms []bool
	shutOut := errors.New("nobody has shut it out")
	r, err := core.NewRelay(m, &intruded{f, func(term core.Term) {
		if shutOut != nil { // another relay has the same outbox, and writes first
			other, err := open(t, f.ListenAddrs()[0]).ForTerm(t.Context(), core.Term{Outbox: term.Outbox, Epoch: term.Epoch + 1})
			if err == nil {
				err = other.Publish(t.Context(), []core.Message{{ID: "other", Topic: f.topic}})
			}
			shutOut = err
		}
	}}, core.RelayConfig{
		LeaseTTL: longEnough, // no term ends by itself
		Logger:   slog.New(slog.NewTextHandler(io.Discard, nil)),
		Hooks: core.Hooks{Leading: func(leads bool, _ int64) {
			terms = append(terms, leads)
		}},
	})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), longEnough)
	defer cancel()
	go func() {
		for tick := time.NewTicker(20 * time.Millisecond); ctx.Err() == nil; <-tick.C {
			if len(m.Contents().Records) == 0 {
				cancel()
			}
		}
	}()
	if err := r.Run(ctx); err != nil {
		t.Error(err)
	}
	if shutOut != nil {
		t.Fatal(shutOut)
	}
	if want := []bool{true, false, true, false}; !slices.Equal(terms, want) {
		t.Errorf("it led: got %v, want %v: two terms", terms, want)
	}
	if got := f.stored(t); !slices.Equal(got, []string{"other", "0"}) {
		t.Errorf("stored: got %v", got)
	}
}

// intruded lets something happen before the first publish call of a term.
type intruded struct {
	fake   *fake
	happen func(core.Term)
}

func (i *intruded) Publish(context.Context, []core.Message) error {
	return errors.New("outside of a term")
}

func (i *intruded) ForTerm(ctx context.Context, term core.Term) (core.Broker, error) {
	broker, err := i.fake.broker.ForTerm(ctx, term)
	return &intrudedTerm{i, broker, term}, err
}

type intrudedTerm struct {
	outer  *intruded
	broker core.Broker
	term   core.Term
}

func (i *intrudedTerm) Publish(ctx context.Context, msgs []core.Message) error {
	i.outer.happen(i.term)
	return i.broker.Publish(ctx, msgs)
}
