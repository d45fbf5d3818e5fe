package inbox_test

import (
	"context"
	"database/sql"
	"errors"
	"log/slog"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"
	"unicode/utf8"

	"github.com/lockstep-go/lockstep/conformance"
	"github.com/lockstep-go/lockstep/core"
	"github.com/lockstep-go/lockstep/inbox"
)

// The pauses between tries double up to 100 times the first, and stay there.
func TestSettlePausesLongerAndLonger(t *testing.T) {
	for name, settle := range map[string]func(*testing.T, context.Context, func() error) error{
		"while the database is away": func(t *testing.T, ctx context.Context, try func() error) error {
			away := beginner(func(context.Context, *sql.TxOptions) (*sql.Tx, error) { return nil, try() })
			return unhurried(t, away, &grave{}).Settle(ctx, order, nil)
		},
		"while the inbox does not say what is done": func(t *testing.T, ctx context.Context, try func() error) error {
			away := beginner(func(context.Context, *sql.TxOptions) (*sql.Tx, error) { return nil, try() })
			return unhurried(t, away, &grave{}).Bury(ctx, order, errors.New("why"))
		},
		"while the dead letters are away": func(t *testing.T, ctx context.Context, try func() error) error {
			away := &grave{answer: func(int) error { return try() }}
			return unhurried(t, beginner(nil), away).Settle(ctx, core.Message{}, nil) // which has no id
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				ctx, cancel := context.WithCancel(t.Context())
				var tries []time.Time
				err := settle(t, ctx, func() error {
					if tries = append(tries, time.Now()); len(tries) == 12 {
						cancel()
					}
					return errors.New("away")
				})
				if err == nil {
					t.Error("the message is settled")
				}
				var pauses, want []time.Duration
				for i := 1; i < len(tries); i++ {
					pauses = append(pauses, tries[i].Sub(tries[i-1]))
					want = append(want, min(100*time.Millisecond<<(i-1), 10*time.Second))
				}
				if !slices.Equal(pauses, want) {
					t.Errorf("pauses of %v, want %v", pauses, want)
				}
			})
		})
	}
}

// unhurried is a consumer with the default pauses.
func unhurried(t *testing.T, db core.Beginner, g *grave) *inbox.Consumer {
	t.Helper()
	box, err := inbox.New(conformance.NewMemory(conformance.MemoryConfig{}), inbox.Config{})
	if err != nil {
		t.Fatal(err)
	}
	consumer, err := inbox.NewConsumer(box, db, "billing", inbox.ConsumerConfig{
		DeadLetters: g, DeadLetterTopic: "dead", Logger: slog.New(slog.DiscardHandler),
	})
	if err != nil {
		t.Fatal(err)
	}
	return consumer
}

// Transactions that the database rolls back for each other's sake do not all come back at once, and the later the less. Pauses
// are random up to 10 ms, 20 ms, …: those of 200 messages take 45 s on average, give or take a second; equal ones took less than 18.
func TestHandlePausesBetweenConflicts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		conflict := errors.New("deadlock")
		memory := conformance.NewMemory(conformance.MemoryConfig{})
		box, err := inbox.New(retrying{memory, memory, conflict}, inbox.Config{})
		if err != nil {
			t.Fatal(err)
		}
		began := time.Now()
		db := beginner(func(context.Context, *sql.TxOptions) (*sql.Tx, error) { return nil, conflict })
		for range 200 {
			one := time.Now()
			if err := box.Handle(t.Context(), db, "c", "a", nil); !errors.Is(err, conflict) {
				t.Errorf("got %v, want the conflict", err)
			}
			if took := time.Since(one); took > 450*time.Millisecond {
				t.Errorf("10 runs took %v, want at most 450 ms", took)
			}
		}
		if took := time.Since(began); took < 30*time.Second {
			t.Errorf("200 messages took %v, want pauses that grow", took)
		}
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		began = time.Now()
		if err := box.Handle(ctx, db, "c", "a", nil); !errors.Is(err, conflict) || time.Since(began) != 0 {
			t.Errorf("when its context has ended: got %v after %v, want the conflict at once", err, time.Since(began))
		}
	})
}

// A cause can be a page long, and of any bytes; every broker takes the header.
func TestTheCauseOfADeadLetterFitsAHeader(t *testing.T) {
	l, g := newLedger(t), &grave{}
	err := l.consumer(t, g).Settle(t.Context(), order, func(context.Context, *sql.Tx, core.Message) error {
		return errors.Join(errors.New("a\x00\xff"+strings.Repeat("é", 2000)), core.ErrPermanent)
	})
	if err != nil {
		t.Fatal(err)
	}
	cause := g.letters()[0].Headers[inbox.CauseHeader]
	if len(cause) > 1024 || len(cause) < 1000 || !utf8.ValidString(cause) || strings.Contains(cause, "\x00") || !strings.HasPrefix(cause, "effect: a") {
		t.Errorf("the cause is %d bytes: %q", len(cause), cause)
	}
}

// What a dead letter says of itself may be more than its topic takes: it says less then, and never keeps the message where it is.
func TestADeadLetterFitsWhereItsMessageDid(t *testing.T) {
	fault := errors.Join(core.ErrPermanent, errors.New(strings.Repeat("x", 2000)))
	fail := func(context.Context, *sql.Tx, core.Message) error { return fault }
	size := func(m core.Message) int {
		n := len(m.ID) + len(m.Payload)
		for name, value := range m.Headers {
			n += len(name) + len(value)
		}
		return n
	}
	for room, causeBytes := range map[int]int{2000: 1024, 300: 100, 0: 0} {
		l := newLedger(t)
		limit := size(order) + room
		g := &grave{refuse: func(m core.Message) bool { return size(m) > limit }}
		if err := l.consumer(t, g).Settle(t.Context(), order, fail); err != nil || len(g.letters()) != 1 {
			t.Errorf("with room for %d bytes more: got %v and %d dead letters, want one", room, err, len(g.letters()))
			continue
		}
		d := g.letters()[0]
		if cause := d.Headers[inbox.CauseHeader]; len(cause) != causeBytes || d.ID != order.ID || string(d.Payload) != string(order.Payload) ||
			d.Headers["type"] != order.Headers["type"] || causeBytes > 0 && d.Headers[inbox.TopicHeader] != order.Topic {
			t.Errorf("with room for %d bytes more the dead letter is %+v, want a cause of %d bytes", room, d, causeBytes)
		}
	}
}

func TestNewConsumerRefusesWhatCannotWork(t *testing.T) {
	l := newLedger(t)
	if _, err := inbox.NewConsumer(l.box, l.dialect.DB(), "billing", inbox.ConsumerConfig{}); err == nil || !strings.Contains(err.Error(), "DeadLetters is nil") {
		t.Errorf("without dead letters: got %v", err)
	}
	config := inbox.ConsumerConfig{DeadLetters: &grave{}, DeadLetterTopic: "dead"}
	if _, err := inbox.NewConsumer(l.box, l.dialect.DB(), "", config); err == nil || !strings.Contains(err.Error(), "consumer's name") {
		t.Errorf("without a name: got %v", err)
	}
}

func TestMaxAttemptsIsTheConfigurations(t *testing.T) {
	l, g, runs := newLedger(t), &grave{}, 0
	consumer, err := inbox.NewConsumer(l.box, l.dialect.DB(), "billing", inbox.ConsumerConfig{
		DeadLetters: g, DeadLetterTopic: "dead", MaxAttempts: 2, RetryDelay: time.Millisecond, Logger: slog.New(slog.DiscardHandler),
	})
	if err != nil {
		t.Fatal(err)
	}
	err = consumer.Settle(t.Context(), order, func(context.Context, *sql.Tx, core.Message) error {
		runs++
		return errors.New("out of stock")
	})
	if err != nil || runs != 2 || len(g.letters()) != 1 {
		t.Errorf("got %v after %d runs and %d dead letters, want 2 and 1", err, runs, len(g.letters()))
	}
}
