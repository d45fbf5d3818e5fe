package core_test

import (
	"context"
	"errors"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/lockstep-go/lockstep/conformance"
	"github.com/lockstep-go/lockstep/core"
)

// scene is an outbox whose relays are killed by one of its messages, one relay after another.
type scene struct {
	*bench
	killer string
}

// mortalDialect is the database as a process sees it that can be killed: from then on nothing arrives.
type mortalDialect struct {
	core.Dialect
	life context.Context
}

func (d mortalDialect) Open(ctx context.Context) (core.Session, error) {
	if d.life.Err() != nil {
		return nil, errKilled
	}
	s, err := d.Dialect.Open(ctx)
	return mortalSession{s, d.life}, err
}

type mortalSession struct {
	core.Session
	life context.Context
}

func (s mortalSession) ReleaseLease(ctx context.Context, holder string, epoch int64) error {
	if s.life.Err() != nil {
		return errKilled
	}
	return s.Session.ReleaseLease(ctx, holder, epoch)
}

func (s mortalSession) MarkSuspect(ctx context.Context, holder string, epoch int64, suspect core.Ref) (bool, error) {
	if s.life.Err() != nil {
		return false, errKilled
	}
	return s.Session.MarkSuspect(ctx, holder, epoch, suspect)
}

// run runs a relay until it is killed, or for a time; then it is stopped gracefully. It reports whether it was killed.
func (s *scene) run(most time.Duration) (killed bool) {
	life, cut := context.WithCancelCause(s.Context())
	broker := brokerFunc(func(ctx context.Context, msgs []core.Message) error {
		if slices.ContainsFunc(msgs, func(m core.Message) bool { return m.ID == s.killer }) {
			cut(errKilled)
		}
		if life.Err() != nil {
			return errKilled
		}
		return s.recorder.Publish(ctx, msgs)
	})
	relay, err := core.NewRelay(mortalDialect{s.memory, life}, broker, s.config)
	if err != nil {
		s.Fatal(err)
	}
	ctx, stop := context.WithTimeout(life, most)
	defer stop()
	if err := relay.Run(ctx); err != nil && life.Err() == nil {
		s.Errorf("Run: %v", err)
	}
	cut(nil)
	return errors.Is(context.Cause(life), errKilled)
}

func onScene(t *testing.T, f func(*scene)) {
	t.Helper()
	onBench(t, func(b *bench) {
		b.config.Logger, b.config.DrainTimeout = quiet, time.Millisecond
		b.config.Failures.MaxAttempts = 2
		f(&scene{bench: b, killer: "b3"})
	})
}

// Three relays are killed before anybody suspects a message, and one more for each attempt.
func TestAMessageThatKillsEachTimeBecomesADeadLetter(t *testing.T) {
	onScene(t, func(s *scene) {
		s.enqueue("a1 a2 b3 b4 c5")
		var marks []string
		s.config.Hooks.Suspected = func(suspect core.Ref) { marks = append(marks, suspect.ID) }
		killed := 0
		for range 10 {
			if s.run(time.Minute) {
				killed++
			}
		}
		if killed != 5 {
			s.Errorf("%d relays were killed, want three unsuspecting ones, and one for each of two attempts", killed)
		}
		now := s.memory.Contents()
		if len(now.Dead) != 1 || now.Dead[0].Message.ID != "b3" || now.Dead[0].Attempts != 2 || !strings.Contains(now.Dead[0].Cause, "ended before the call returned") {
			s.Errorf("dead letters: got %+v, want b3 with two attempts and a cause that says so", now.Dead)
		}
		s.wantLeft("b4")
		if got := len(s.recorder.Stored()); got < 3 {
			s.Errorf("%d messages are stored, want a1, a2 and c5", got)
		}
		if now.Lease.Suspect != (core.Ref{}) || now.Lease.Unclean != 0 {
			s.Errorf("the lease is %+v, want no suspect and nothing unclean", now.Lease)
		}
		if !slices.Contains(marks, "b3") || marks[len(marks)-1] != "" {
			s.Errorf("marked: got %q, want b3 among them, and nothing at the end", marks)
		}
	})
}

// Whoever was being published when the process was killed from outside is no worse off than one attempt.
func TestCautionEndsWhenNothingIsLeft(t *testing.T) {
	onScene(t, func(s *scene) {
		s.enqueue("a1 a2 b3 b4 c5")
		for range 3 {
			if !s.run(time.Minute) {
				s.Fatal("the relay was not killed")
			}
		}
		s.killer = "nobody"
		var careful, sideBySide atomic.Int64 // calls
		relay, err := core.NewRelay(s.memory, s.recorder, s.config)
		if err != nil {
			s.Fatal(err)
		}
		ctx, stop := context.WithCancel(s.Context())
		s.recorder.Inject(func(call conformance.PublishCall) conformance.PublishFault {
			state := relay.State()
			if state.Careful {
				careful.Add(1)
			} else {
				sideBySide.Add(1)
			}
			if state.Careful && (len(call.Messages) != 1 || state.Publishing > 1) {
				s.Errorf("a careful relay publishes %d messages in one of %d calls", len(call.Messages), state.Publishing)
			}
			if lease := s.memory.Contents().Lease; state.Careful && lease.Suspect.ID != call.Messages[0].ID {
				s.Errorf("%s is published while the mark is %q's", call.Messages[0].ID, lease.Suspect.ID)
			}
			return conformance.PublishFault{Before: time.Millisecond}
		})
		done := make(chan error)
		go func() { done <- relay.Run(ctx) }()
		time.Sleep(time.Minute) // the bubble's clock
		if careful.Load() == 0 || relay.State().Careful {
			s.Errorf("careful in %d calls, and careful afterwards: %v; want some, and not", careful.Load(), relay.State().Careful)
		}
		if lease := s.memory.Contents().Lease; lease.Suspect != (core.Ref{}) || lease.Unclean != 0 {
			s.Errorf("the lease is %+v, want no suspect, and progress told", lease)
		}
		s.enqueue("d1 e1 f1")
		time.Sleep(time.Second) // the bubble's clock
		if sideBySide.Load() == 0 {
			s.Error("messages are still published one by one")
		}
		stop()
		if err := <-done; err != nil {
			s.Error(err)
		}
		for _, r := range s.memory.Contents().Dead {
			s.Errorf("%s is dead", r.Message.ID)
		}
		s.wantLeft("")
	})
}

// RunOnce is careful as well, and leaves no mark.
func TestRunOnceIsCareful(t *testing.T) {
	onScene(t, func(s *scene) {
		s.enqueue("a1 a2 b3 b4 c5")
		for range 3 {
			s.run(time.Minute)
		}
		s.killer = "nobody"
		marks := 0
		s.config.Hooks.Suspected = func(core.Ref) { marks++ }
		if held, err := s.relay().RunOnce(s.Context()); len(held) != 0 || err != nil {
			s.Errorf("RunOnce: got %v, %v, want nothing held", held, err)
		}
		if lease := s.memory.Contents().Lease; marks < 5 || lease.Suspect != (core.Ref{}) {
			s.Errorf("%d marks, and the lease is %+v, want one for each message, and none left", marks, lease)
		}
		s.wantLeft("")
	})
}

// A relay that lost its lease while it published a suspect, and is alive, knows that the suspect is innocent.
func TestARelayThatSurvivedCountsNothing(t *testing.T) {
	onScene(t, func(s *scene) {
		s.enqueue("b3")
		for range 3 {
			s.run(time.Minute)
		}
		s.config.LeaseTTL = 5 * time.Second
		var down, fell atomic.Bool
		var counted atomic.Int64
		s.config.Hooks.Failed = func(core.Failure) { counted.Add(1) }
		s.config.Hooks.Buried = func(core.Burial) { counted.Add(1) }
		s.memory.Inject(func(conformance.Call) (fault conformance.Fault) {
			fault.Before = time.Millisecond
			if down.Load() {
				fault.Refuse = errors.New("the database is down")
			}
			return fault
		})
		s.recorder.Inject(func(conformance.PublishCall) conformance.PublishFault {
			if fell.CompareAndSwap(false, true) {
				down.Store(true) // while the call is under way, and for longer than the lease lasts
				time.AfterFunc(20*time.Second, func() { down.Store(false) })
				return conformance.PublishFault{After: 15 * time.Second, Fates: []conformance.Fate{{Err: core.ErrUnavailable}}}
			}
			return conformance.PublishFault{}
		})
		relay, err := core.NewRelay(s.memory, s.recorder, s.config)
		if err != nil {
			s.Fatal(err)
		}
		ctx, stop := context.WithTimeout(s.Context(), 2*time.Minute)
		defer stop()
		if err := relay.Run(ctx); err != nil {
			s.Error(err)
		}
		if !fell.Load() || s.memory.Contents().Lease.Epoch < 5 {
			s.Fatalf("the database was not away: %+v", s.memory.Contents().Lease)
		}
		s.wantStored("b3")
		if n := counted.Load(); n != 0 {
			s.Errorf("%d attempts were counted", n)
		}
	})
}

// A relay is killed once. While the database refuses one of the two writes that its successor owes, terms come and go, and
// the attempt is counted once all the same.
func TestOneDeathCountsOnce(t *testing.T) {
	for _, refuse := range []string{"MarkSuspect", "Fail", "MarkSuspect's answer", "Fail's answer"} {
		t.Run(refuse, func(t *testing.T) {
			onBench(t, func(b *bench) {
				b.config.Logger = quiet
				b.enqueue("a1 b1")
				s, err := b.memory.Open(b.Context())
				if err != nil {
					b.Fatal(err)
				}
				for _, err := range []error{
					second(s.TakeLease(b.Context(), core.Lease{Outbox: b.memory.Contents().Lease.Outbox}, "dead", time.Second)),
					second(s.MarkSuspect(b.Context(), "dead", 1, core.Ref{Position: 1, ID: "a1"})), s.Close(),
				} {
					if err != nil {
						b.Fatal(err)
					}
				}
				var counted []core.Failure
				b.config.Hooks.Failed = func(f core.Failure) { counted = append(counted, f) }
				b.config.Hooks.Buried = func(burial core.Burial) { b.Errorf("buried: %+v", burial) }
				refused, until := 0, time.Now().Add(time.Minute)
				b.memory.Inject(func(c conformance.Call) (f conformance.Fault) {
					op, answer := strings.CutSuffix(refuse, "'s answer")
					if c.Op != op || !time.Now().Before(until) {
						return f
					}
					refused++
					if answer {
						return conformance.Fault{After: time.Hour}
					}
					return conformance.Fault{Refuse: errors.New("not now")}
				})
				b.during(func() { time.Sleep(2 * time.Minute) }) // the bubble's clock
				if refused == 0 || len(counted) != 1 || counted[0].ID != "a1" || counted[0].Attempts != 1 {
					b.Errorf("with %d writes refused these attempts were counted: %+v, want one of a1", refused, counted)
				}
				b.wantLeft("")
			})
		})
	}
}

// More messages are stored than are in flight at once while the one that kills waits for its next attempt: the relay is careful
// until it has had that.
func TestCautionLastsUntilTheConvictsNextAttempt(t *testing.T) {
	onScene(t, func(s *scene) {
		s.config.Lanes, s.config.InFlight = 1, 4
		s.config.Failures.FirstDelay, s.config.Failures.MaxAttempts = 10*time.Second, 5
		s.enqueue("a1 b3 c1 d1 e1 f1 g1 h1 i1 j1")
		for range 4 {
			if !s.run(time.Minute) {
				s.Fatal("the relay was not killed")
			}
		}
		s.killer = "nobody"
		others, found := 0, false
		s.recorder.Inject(func(call conformance.PublishCall) conformance.PublishFault {
			if call.Messages[0].ID != "b3" {
				others++
				return conformance.PublishFault{Before: time.Millisecond}
			}
			found = true
			if mark := s.memory.Contents().Lease.Suspect; len(call.Messages) > 1 || mark.ID != "b3" {
				s.Errorf("b3 is published in a call of %d messages, with %q marked", len(call.Messages), mark.ID)
			}
			return conformance.PublishFault{Before: time.Millisecond}
		})
		s.run(time.Minute)
		if !found || others <= s.config.InFlight {
			s.Errorf("b3 published: %v, and %d others before it: the test shows nothing", found, others)
		}
		s.wantLeft("")
	})
}

// A mark whose message waits for a retry was counted: what is published is due.
func TestAMarkOfAMessageThatWaitsCountsNothing(t *testing.T) {
	onBench(t, func(b *bench) {
		b.config.Logger = quiet
		b.config.Hooks.Failed = func(f core.Failure) { b.Errorf("counted: %+v", f) }
		b.enqueue("a1")
		s, err := b.memory.Open(b.Context())
		if err != nil {
			b.Fatal(err)
		}
		a1 := core.Ref{Position: 1, ID: "a1"}
		for _, err := range []error{
			second(s.TakeLease(b.Context(), core.Lease{Outbox: b.memory.Contents().Lease.Outbox}, "dead", time.Second)),
			second(s.MarkSuspect(b.Context(), "dead", 1, a1)),
			s.Fail(b.Context(), []core.Failure{{Ref: a1, Attempts: 1, RetryIn: time.Hour, Cause: "killed"}}), s.Close(),
		} {
			if err != nil {
				b.Fatal(err)
			}
		}
		b.during(func() { time.Sleep(time.Minute) }) // the bubble's clock
		b.wantLeft("a1")
		if now := b.memory.Contents(); len(now.Records) == 1 && now.Records[0].Attempts != 1 || now.Lease.Suspect != (core.Ref{}) {
			b.Errorf("got %+v, and the mark %+v, want one attempt and no mark", now.Records, now.Lease.Suspect)
		}
	})
}

func second(_ bool, err error) error { return err }
