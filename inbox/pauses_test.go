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
	synctest.Test(t, func(t *testing.T) {
		box, err := inbox.New(conformance.NewMemory(conformance.MemoryConfig{}), inbox.Config{})
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		var tries []time.Time
		away := beginner(func(context.Context, *sql.TxOptions) (*sql.Tx, error) {
			if tries = append(tries, time.Now()); len(tries) == 12 {
				cancel()
			}
			return nil, errors.New("the database is away")
		})
		consumer, err := inbox.NewConsumer(box, away, "billing", inbox.ConsumerConfig{
			DeadLetters: &grave{}, DeadLetterTopic: "dead", Logger: slog.New(slog.DiscardHandler),
		})
		if err != nil {
			t.Fatal(err)
		}
		if err := consumer.Settle(ctx, order, func(context.Context, *sql.Tx, core.Message) error { return nil }); err == nil {
			t.Error("a message is settled without a database")
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
}

// Transactions that the database rolls back for each other's sake do not all come back at once.
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
		if err := box.Handle(t.Context(), db, "c", "a", nil); !errors.Is(err, conflict) {
			t.Errorf("got %v, want the conflict", err)
		}
		if took := time.Since(began); took == 0 || took > 500*time.Millisecond {
			t.Errorf("10 runs took %v, want some pause between them, and less than half a second", took)
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
