package core_test

import (
	"context"
	"errors"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/lockstep-go/lockstep/conformance"
	"github.com/lockstep-go/lockstep/core"
)

// terms records when b's relays lead.
func (b *bench) terms() (begun, ended func() []time.Duration) {
	start := time.Now()
	var mu sync.Mutex
	var from, to []time.Duration
	b.config.Hooks.Leading = func(leading bool, _ int64) {
		mu.Lock()
		defer mu.Unlock()
		if leading {
			from = append(from, time.Since(start))
		} else {
			to = append(to, time.Since(start))
		}
	}
	read := func(all *[]time.Duration) func() []time.Duration {
		return func() []time.Duration {
			mu.Lock()
			defer mu.Unlock()
			return slices.Clone(*all)
		}
	}
	return read(&from), read(&to)
}

// The database takes a renewal in at once, and answers seconds later; then it answers none. The term is counted from before
// the renewal was sent, as the database counts it, and not from its answer.
func TestATermIsCountedFromBeforeItsRenewalWasSent(t *testing.T) {
	onBench(t, func(b *bench) {
		b.config.Logger, b.config.LeaseTTL = quiet, 6*time.Second
		_, ended := b.terms()
		renewals := 0
		b.memory.Inject(func(c conformance.Call) (f conformance.Fault) {
			if c.Op == "RenewLease" {
				if renewals++; renewals == 1 {
					f.After = 2500 * time.Millisecond
				} else {
					f.Refuse = errors.New("not now")
				}
			}
			return f
		})
		b.during(func() {
			time.Sleep(time.Minute) // the bubble's clock
			// Sent at 2 s, which is a third of the term, and good for 4.8 s.
			if len(ended()) == 0 || ended()[0] < 6800*time.Millisecond || ended()[0] > 6900*time.Millisecond {
				b.Errorf("the terms ended after %v, want the first after 6.8 s", ended())
			}
		})
	})
}

// A term ends by the wall clock too, because the other one may have stood still; a wall clock that is set back does not make it longer.
func TestATermIsJudgedByBothClocks(t *testing.T) {
	for name, test := range map[string]struct {
		jump time.Duration
		want time.Duration
	}{
		"set forward": {time.Hour, 3 * time.Second},
		"set back":    {-time.Hour, 4 * time.Second},
	} {
		t.Run(name, func(t *testing.T) {
			onBench(t, func(b *bench) {
				b.config.Logger, b.config.LeaseTTL = quiet, 5*time.Second
				_, ended := b.terms()
				b.memory.Inject(func(c conformance.Call) (f conformance.Fault) {
					if c.Op == "RenewLease" {
						f.Before = time.Millisecond // without it a term that does not end would stop the bubble's clock
						f.Refuse = errors.New("not now")
					}
					return f
				})
				relay := b.relay()
				set := time.Now().Add(3 * time.Second)
				relay.WithWallClock(func(at time.Time) time.Time {
					if at.Before(set) {
						return at.Round(0)
					}
					return at.Add(test.jump).Round(0)
				})
				b.runWith(relay, func() {
					time.Sleep(20 * time.Second) // the bubble's clock
					if len(ended()) == 0 || ended()[0] < test.want || ended()[0] > test.want+300*time.Millisecond {
						b.Errorf("the terms ended after %v, want the first after %v", ended(), test.want)
					}
				})
			})
		})
	}
}

// A standby takes the lease of a relay that was killed within its time and a second, whatever the database's clock says: it
// was set back by an hour, so that by that clock the lease goes on. And it leaves one alone that is renewed, though the database's clock is ahead
// of the standby's.
func TestAStandbyDoesNotNeedTheDatabasesClock(t *testing.T) {
	onBench(t, func(b *bench) {
		b.config.Logger, b.config.LeaseTTL = quiet, 5*time.Second
		s, err := b.memory.Open(b.Context())
		if err != nil {
			b.Fatal(err)
		}
		defer s.Close()
		lease := core.Lease{Outbox: b.memory.Contents().Lease.Outbox}
		if err := second(s.TakeLease(b.Context(), lease, "other", 5*time.Second)); err != nil {
			b.Fatal(err)
		}
		begun, _ := b.terms()
		b.memory.SetClock(-time.Hour)
		b.enqueue("a1")
		b.during(func() {
			for range 20 { // alive: renewed more often than it lasts
				time.Sleep(time.Second + 10*time.Microsecond) // the bubble's clock
				if err := second(s.RenewLease(b.Context(), "other", 1, 5*time.Second, false)); err != nil {
					b.Fatal(err)
				}
			}
			if n := len(begun()); n != 0 {
				b.Fatalf("the standby took a lease that is alive, %d times", n)
			}
			last := 20 * time.Second
			b.memory.SetClock(-2 * time.Hour)
			time.Sleep(10 * time.Second) // the bubble's clock
			if n := begun(); len(n) != 1 || n[0] < last+5*time.Second || n[0] > last+6*time.Second {
				b.Errorf("the standby led after %v, want within 5 to 6 s of %v", n, last)
			}
			b.wantStored("a1")
		})
	})
}

// Another relay has taken the lease. The next promotion says so, long before a renewal is due.
func TestAPromotionThatIsFencedEndsTheTerm(t *testing.T) {
	onBench(t, func(b *bench) {
		b.config.Logger, b.config.LeaseTTL = quiet, time.Hour
		_, ended := b.terms()
		b.during(func() {
			time.Sleep(time.Second + 10*time.Microsecond) // the bubble's clock
			s, err := b.memory.Open(b.Context())
			if err != nil {
				b.Fatal(err)
			}
			defer s.Close()
			if err := second(s.TakeLease(b.Context(), b.memory.Contents().Lease, "other", time.Hour)); err != nil {
				b.Fatal(err)
			}
			time.Sleep(2 * time.Second) // the bubble's clock; an idle relay promotes once a second
			if len(ended()) != 1 {
				b.Errorf("the term goes on two seconds after another relay took the lease: ended %v", ended())
			}
		})
	})
}

// What was promoted is read at once by a relay that polls seldom.
func TestAPromotionWakesTheReader(t *testing.T) {
	onBench(t, func(b *bench) {
		b.config.PollInterval = time.Hour
		b.put(core.Message{ID: "later", Topic: "t", NotBefore: time.Now().Add(30 * time.Second)})
		b.during(func() {
			time.Sleep(29 * time.Second) // the bubble's clock
			b.wantStored("")
			time.Sleep(2500 * time.Millisecond) // the bubble's clock; an idle relay promotes once a second
			b.wantStored("later")
		})
	})
}

// A call that was given up is confirmed at last, while the broker is away for everybody else: that is enough to remove its message.
func TestALateConfirmationIsAcknowledged(t *testing.T) {
	onBench(t, func(b *bench) {
		b.config.Logger, b.config.PublishTimeout = quiet, time.Second
		b.enqueue("a1")
		var calls atomic.Int64
		relay := b.relayTo(func(context.Context, []core.Message) error {
			if calls.Add(1) == 1 {
				time.Sleep(10*time.Second + 10*time.Microsecond) // the bubble's clock
				return nil
			}
			return core.ErrUnavailable
		})
		b.runWith(relay, func() {
			time.Sleep(9 * time.Second) // the bubble's clock
			b.wantLeft("a1")
			time.Sleep(2 * time.Second) // the bubble's clock
			b.wantLeft("")
			if calls.Load() < 2 {
				b.Error("the first call was not given up: the test shows nothing")
			}
		})
	})
}

// What was confirmed late is acknowledged at a relay's end too, where its acknowledgement is under way and does not come back.
func TestALateConfirmationIsAcknowledgedAtTheEnd(t *testing.T) {
	onBench(t, func(b *bench) {
		b.config.Logger, b.config.PublishTimeout, b.config.DrainTimeout = quiet, time.Second, 2*time.Second
		b.enqueue("a1")
		var calls, acks atomic.Int64
		b.memory.Inject(func(c conformance.Call) (f conformance.Fault) {
			if c.Op == "Acknowledge" && acks.Add(1) == 1 {
				f.Before = time.Hour
			}
			return f
		})
		relay := b.relayTo(func(context.Context, []core.Message) error {
			if calls.Add(1) == 1 {
				time.Sleep(5*time.Second + 10*time.Microsecond) // the bubble's clock
				return nil
			}
			return core.ErrUnavailable
		})
		ctx, stop := context.WithTimeout(b.Context(), 6*time.Second)
		defer stop()
		if err := relay.Run(ctx); err != nil {
			b.Errorf("Run: %v", err)
		}
		if acks.Load() != 2 {
			b.Errorf("%d acknowledgements, want one that hangs and one at the end", acks.Load())
		}
		b.wantLeft("")
	})
}
