package core_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/lockstep-go/lockstep/conformance"
	"github.com/lockstep-go/lockstep/core"
)

// deafDialect is a database whose renewals hang from at on, whatever becomes of their contexts.
type deafDialect struct {
	core.Dialect
	at time.Time
}

func (d deafDialect) Open(ctx context.Context) (core.Session, error) {
	s, err := d.Dialect.Open(ctx)
	return deafSession{s, d.at}, err
}

type deafSession struct {
	core.Session
	at time.Time
}

func (s deafSession) RenewLease(ctx context.Context, holder string, epoch int64, ttl time.Duration, progress bool) (bool, error) {
	if !time.Now().Before(s.at) && time.Since(s.at) < 10*time.Second {
		time.Sleep(10 * time.Second) // the bubble's clock
	}
	return s.Session.RenewLease(ctx, holder, epoch, ttl, progress)
}

// However the database hangs, a call ends with the term: before another relay can have the lease.
func TestACallEndsWithItsTerm(t *testing.T) {
	for _, hangs := range []string{"everything", "renewals", "renewals that do not end with their contexts"} {
		t.Run(hangs, func(t *testing.T) {
			onBench(t, func(b *bench) {
				b.config.Logger, b.config.LeaseTTL = quiet, 5*time.Second
				start := time.Now()
				dialect := core.Dialect(b.memory)
				b.memory.Inject(func(c conformance.Call) (f conformance.Fault) {
					in := time.Since(start)
					if in > time.Second && in < time.Minute && (hangs == "everything" || hangs == "renewals" && c.Op == "RenewLease") {
						f.Before = time.Hour
					}
					return f
				})
				if hangs == "renewals that do not end with their contexts" {
					dialect = deafDialect{b.memory, start.Add(time.Second)}
				}
				b.enqueue("a1")
				var cut time.Duration
				relay, err := core.NewRelay(dialect, brokerFunc(func(ctx context.Context, msgs []core.Message) error {
					if cut == 0 {
						<-ctx.Done()
						cut = time.Since(start)
						return ctx.Err()
					}
					return b.recorder.Publish(ctx, msgs)
				}), b.config)
				if err != nil {
					b.Fatal(err)
				}
				b.runWith(relay, func() { time.Sleep(2 * time.Minute) }) // the bubble's clock
				if cut != 4*time.Second {
					b.Errorf("the call was cut after %v, want when its term ends, which was granted for 4 s", cut)
				}
				b.wantStored("a1")
			})
		})
	}
}

// A database that answers each call in time needs longer than the lease lasts until a session is open, as one that is far away or
// busy does with a short lease.
func TestASessionMayTakeLongerToOpenThanTheLeaseLasts(t *testing.T) {
	onBench(t, func(b *bench) {
		b.config.Logger, b.config.LeaseTTL = quiet, time.Second
		b.memory.Inject(func(c conformance.Call) (f conformance.Fault) {
			if c.Op == "Open" {
				f.Before = 1500 * time.Millisecond
			}
			return f
		})
		b.enqueue("a1")
		b.during(func() {
			time.Sleep(10 * time.Second) // the bubble's clock
			b.wantStored("a1")
		})
	})
}

// slowTerms is a broker that takes its time to begin a term.
type slowTerms struct {
	core.Broker
	takes time.Duration
}

func (s slowTerms) ForTerm(ctx context.Context, _ core.Term) (core.Broker, error) {
	select {
	case <-time.After(s.takes):
		return s.Broker, nil
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// A term whose beginning took its time is renewed like another one.
func TestATermThatBeginsSlowlyIsRenewed(t *testing.T) {
	for _, takes := range []time.Duration{2 * time.Second, 3 * time.Second, 3900 * time.Millisecond} {
		t.Run(takes.String(), func(t *testing.T) {
			onBench(t, func(b *bench) {
				b.config.Logger, b.config.LeaseTTL = quiet, 5*time.Second
				begun, _ := b.terms()
				b.memory.Inject(func(conformance.Call) conformance.Fault { return conformance.Fault{Before: time.Millisecond} })
				relay, err := core.NewRelay(b.memory, slowTerms{b.recorder, takes}, b.config)
				if err != nil {
					b.Fatal(err)
				}
				b.runWith(relay, func() { time.Sleep(10*time.Minute + 10*time.Microsecond) }) // the bubble's clock
				if n := len(begun()); n != 1 {
					b.Errorf("%d terms in ten minutes, want one", n)
				}
			})
		})
	}
}

// The database grants the lease at once, and answers seconds later; then it renews nothing. The term is counted from before the
// request was sent, as the database counts it, and not from its answer.
func TestATermIsCountedFromBeforeItsLeaseWasAskedFor(t *testing.T) {
	onBench(t, func(b *bench) {
		b.config.Logger, b.config.LeaseTTL = quiet, 5*time.Second
		_, ended := b.terms()
		b.memory.Inject(func(c conformance.Call) (f conformance.Fault) {
			switch c.Op {
			case "TakeLease":
				f.After = 2500 * time.Millisecond
			case "RenewLease":
				f.Before = time.Millisecond
				f.Refuse = errors.New("not now")
			}
			return f
		})
		b.during(func() {
			time.Sleep(20 * time.Second) // the bubble's clock
			if len(ended()) == 0 || ended()[0] != 4*time.Second {
				b.Errorf("the terms ended after %v, want the first after 4 s", ended())
			}
		})
	})
}

// A RunOnce that never had the lease has delivered nothing, and doesn't say that nothing is left.
func TestRunOnceThatNeverHadTheLeaseSaysSo(t *testing.T) {
	onBench(t, func(b *bench) {
		b.config.Logger = quiet
		b.during(func() {
			time.Sleep(time.Second) // the bubble's clock
			ctx, stop := context.WithTimeout(b.Context(), time.Second)
			defer stop()
			if held, err := b.relay().RunOnce(ctx); len(held) > 0 || !errors.Is(err, context.DeadlineExceeded) {
				b.Errorf("RunOnce: got %v, %v, want its context's error", held, err)
			}
			ctx, stop = context.WithTimeout(b.Context(), time.Second)
			defer stop()
			if err := b.relay().Run(ctx); err != nil {
				b.Errorf("Run: got %v, want nil", err)
			}
		})
	})
}
