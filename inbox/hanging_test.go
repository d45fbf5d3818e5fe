package inbox_test

import (
	"context"
	"database/sql"
	"errors"
	"log/slog"
	"runtime"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/lockstep-go/lockstep/core"
	"github.com/lockstep-go/lockstep/inbox"
)

const (
	overrun   = 5 * time.Minute  // EffectTimeout's default
	abandoned = 10 * time.Second // after that
	pauses    = 1500 * time.Millisecond
)

// An effect that hangs is ended, or left behind, and what it still does changes nothing.
func TestAnEffectThatHangs(t *testing.T) {
	for name, tt := range map[string]struct {
		effect func(ctx context.Context, tx *sql.Tx, run int, never <-chan struct{}) error
		runs   int
		took   time.Duration
		cause  string // of the dead letter; empty where there is none, and an effect
	}{
		"by its context": {func(ctx context.Context, tx *sql.Tx, _ int, _ <-chan struct{}) error {
			err := add(ctx, tx, order.ID)
			<-ctx.Done()
			return errors.Join(err, ctx.Err())
		}, 5, 5*overrun + pauses, "longer than EffectTimeout (5m0s): context deadline exceeded"},
		"whatever its context says": {func(ctx context.Context, tx *sql.Tx, _ int, never <-chan struct{}) error {
			err := add(ctx, tx, order.ID)
			<-never
			return errors.Join(err, add(context.WithoutCancel(ctx), tx, order.ID))
		}, 5, 5*(overrun+abandoned) + pauses, "let it wait by its context"},
		"and has lost its connection": {func(ctx context.Context, tx *sql.Tx, _ int, _ <-chan struct{}) error {
			err := tx.Rollback() // so that Handle's own has no answer
			<-ctx.Done()
			return errors.Join(err, ctx.Err())
		}, 5, 5*overrun + pauses, "longer than EffectTimeout"},
		"while what it needs is away": {func(ctx context.Context, tx *sql.Tx, run int, _ <-chan struct{}) error {
			if run > 6 {
				return add(ctx, tx, order.ID)
			}
			<-ctx.Done()
			return core.ErrUnavailable
		}, 7, 6*overrun + 6300*time.Millisecond, ""},
		"or ends its goroutine, as a check of a test does": {func(context.Context, *sql.Tx, int, <-chan struct{}) error {
			runtime.Goexit()
			return nil
		}, 5, pauses, "runtime.Goexit"},
		"and works in the end": {func(ctx context.Context, tx *sql.Tx, _ int, _ <-chan struct{}) error {
			<-ctx.Done()
			return add(context.WithoutCancel(ctx), tx, order.ID)
		}, 1, overrun, ""},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				l, g, runs, never := newLedger(t), &grave{}, 0, make(chan struct{})
				consumer, began := patient(t, l, g), time.Now()
				err := consumer.Settle(t.Context(), order, func(ctx context.Context, tx *sql.Tx, _ core.Message) error {
					runs++
					return tt.effect(ctx, tx, runs, never)
				})
				took := time.Since(began)
				close(never)
				synctest.Wait() // for those that were left behind
				effects, letters := l.times(t, order.ID), g.letters()
				if err != nil || runs != tt.runs || took != tt.took || len(letters)+effects != 1 || (tt.cause == "") != (effects == 1) {
					t.Fatalf("got %v, %d runs in %v, %d dead letters and %d effects, want %d runs in %v", err, runs, took, len(letters), effects, tt.runs, tt.took)
				}
				if len(letters) == 1 && (!strings.Contains(letters[0].Headers[inbox.CauseHeader], tt.cause) || letters[0].Headers[inbox.AttemptsHeader] != "5") {
					t.Errorf("the dead letter says %q, want 5 attempts and the cause %q", letters[0].Headers, tt.cause)
				}
			})
		})
	}
}

// The time is the configured one, and each attempt has it.
func TestAnEffectHasEffectTimeout(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const own = 7 * time.Second
		l, g := newLedger(t), &grave{}
		consumer, err := inbox.NewConsumer(l.box, l.dialect.DB(), "billing", inbox.ConsumerConfig{
			DeadLetters: g, DeadLetterTopic: "dead", EffectTimeout: own, Logger: slog.New(slog.DiscardHandler),
		})
		if err != nil {
			t.Fatal(err)
		}
		began := time.Now()
		err = consumer.Settle(t.Context(), order, func(ctx context.Context, _ *sql.Tx, _ core.Message) error {
			<-ctx.Done()
			return ctx.Err()
		})
		if took := time.Since(began); err != nil || took != 5*own+pauses || len(g.letters()) != 1 {
			t.Errorf("got %v and %d dead letters in %v, want one in %v", err, len(g.letters()), took, 5*own+pauses)
		}
	})
}

// A stop does not wait for an effect that does not mind its context. What that one does later is refused.
func TestAStopLeavesAnEffectBehindThatHangs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l, g, never := newLedger(t), &grave{}, make(chan struct{})
		ctx, stop := context.WithCancel(t.Context())
		var late error
		began := time.Now()
		err := patient(t, l, g).Settle(ctx, order, func(ctx context.Context, tx *sql.Tx, _ core.Message) error {
			stop()
			<-never
			late = add(context.WithoutCancel(ctx), tx, order.ID)
			return nil
		})
		if took := time.Since(began); err == nil || took != abandoned {
			t.Errorf("Settle: got %v after %v, want an error after %v", err, took, abandoned)
		}
		close(never)
		synctest.Wait()
		if n := l.times(t, order.ID); late == nil || n != 0 || len(g.letters()) != 0 {
			t.Errorf("got %d effects, %d dead letters and the late effect's error %v, want none, none and one", n, len(g.letters()), late)
		}
	})
}

// patient is a consumer with the default pauses and the default time for an effect.
func patient(t *testing.T, l *ledger, g *grave) *inbox.Consumer {
	t.Helper()
	consumer, err := inbox.NewConsumer(l.box, l.dialect.DB(), "billing", inbox.ConsumerConfig{
		DeadLetters: g, DeadLetterTopic: "dead", Logger: slog.New(slog.DiscardHandler),
	})
	if err != nil {
		t.Fatal(err)
	}
	return consumer
}
