package core_test

import (
	"errors"
	"sync/atomic"
	"testing"
	"time"

	"github.com/lockstep-go/lockstep/core"
)

// An operator has retried a dead letter, and then arrives what an earlier relay, or an earlier statement of this one, had to say of it.
func TestWhatComesLateAfterARetry(t *testing.T) {
	old := core.Ref{Position: 1, ID: "a1"}
	for name, test := range map[string]struct {
		late     func(s core.Session, b *bench) error
		attempts int // of a1, a moment later
		dead     int
	}{
		"a burial after three attempts finds one without": {func(s core.Session, b *bench) error {
			return s.Bury(b.Context(), []core.Burial{{Ref: old, Attempts: 3, Cause: "late"}})
		}, 0, 0},
		"so does a second failure": {func(s core.Session, b *bench) error {
			return s.Fail(b.Context(), []core.Failure{{Ref: old, Attempts: 2, RetryIn: time.Hour, Cause: "late"}})
		}, 0, 0},
		// Attempts are all that is compared: what comes late as the first says what a first attempt after the retry would say.
		"a first failure counts": {func(s core.Session, b *bench) error {
			return s.Fail(b.Context(), []core.Failure{{Ref: old, Attempts: 1, RetryIn: time.Second, Cause: "late"}})
		}, 1, 0},
		"a burial at the first attempt buries it again": {func(s core.Session, b *bench) error {
			return s.Bury(b.Context(), []core.Burial{{Ref: old, Attempts: 1, Cause: "late"}})
		}, 0, 1},
	} {
		for _, inFlight := range []bool{false, true} { // when it arrives
			t.Run(name+map[bool]string{true: ", in flight", false: ""}[inFlight], func(t *testing.T) {
				onBench(t, func(b *bench) {
					b.config.Logger = quiet
					b.config.Failures = core.FailurePolicy{MaxAttempts: 3, FirstDelay: 10 * time.Millisecond, MaxDelay: 10 * time.Millisecond}
					refusing := true
					arrive := func() {}
					b.fate = func(m core.Message) error {
						if m.ID != "a1" {
							return nil
						}
						arrive()
						if refusing {
							return errors.New("refused")
						}
						return nil
					}
					b.enqueue("a1 a2 b1")
					b.during(func() { time.Sleep(time.Minute) })
					if n := len(b.memory.Contents().Dead); n != 1 {
						b.Fatalf("%d dead letters, want a1", n)
					}
					b.retry(1)
					s, err := b.memory.Open(b.Context())
					if err != nil {
						b.Fatal(err)
					}
					defer s.Close()
					arrives := 0
					arrive = func() {
						arrives++
						arrive = func() {}
						if err := test.late(s, b); err != nil {
							b.Error(err)
						}
						now := b.memory.Contents()
						if len(now.Dead) != test.dead || test.dead == 0 && now.Records[0].Attempts != test.attempts {
							b.Errorf("it left %d dead letters, and %+v in the outbox; want %d, and %d attempts", len(now.Dead), now.Records, test.dead, test.attempts)
						}
					}
					if !inFlight {
						arrive()
					}
					refusing = false
					b.during(func() { time.Sleep(time.Minute) })
					if arrives != 1 {
						b.Fatalf("it arrived %d times", arrives)
					}
					if test.dead > 0 { // nothing is lost: it is where an operator finds it, and its key waits
						b.retry(1)
						b.during(func() { time.Sleep(time.Minute) })
					}
					b.wantFirst("b1 a1 a2")
					b.wantLeft("")
					if now := b.memory.Contents(); len(now.Dead)+len(now.Blocked) != 0 {
						b.Errorf("dead: %+v, blocked: %+v, want none", now.Dead, now.Blocked)
					}
				})
			})
		}
	}
}

// What is refused again after a retry is counted and buried like anything else.
func TestARetriedMessageIsBuriedAgain(t *testing.T) {
	onBench(t, func(b *bench) {
		b.config.Logger = quiet
		b.config.Failures = core.FailurePolicy{MaxAttempts: 3, FirstDelay: 10 * time.Millisecond, MaxDelay: 10 * time.Millisecond}
		b.fate = func(m core.Message) error { return errors.New("refused") }
		b.enqueue("a1")
		var attempts atomic.Int64
		b.config.Hooks.Failed = func(core.Failure) { attempts.Add(1) }
		b.during(func() {
			for range 3 {
				attempts.Store(0)
				time.Sleep(time.Minute) // the bubble's clock
				if dead := b.memory.Contents().Dead; len(dead) != 1 || dead[0].Attempts != 3 || attempts.Load() != 2 {
					b.Fatalf("dead letters: got %+v after %d attempts before the last, want a1 with 3", dead, attempts.Load())
				}
				b.retry(1)
			}
		})
	})
}

// retry is an operator who retries all dead letters, of which there are want.
func (b *bench) retry(want int) {
	b.Helper()
	if n, err := core.NewOperator(b.memory).Retry(b.Context(), core.DeadFilter{}); n != want || err != nil {
		b.Errorf("Retry: got %d, %v, want %d", n, err, want)
	}
}

// wantFirst compares what was stored, without duplicates.
func (b *bench) wantFirst(names string) {
	b.Helper()
	seen := map[string]bool{}
	got := ""
	for _, d := range b.recorder.Stored() {
		if id := d.Message.ID; !seen[id] {
			seen[id] = true
			got += " " + id
		}
	}
	if got != " "+names {
		b.Errorf("stored: got%s, want %s", got, names)
	}
}
