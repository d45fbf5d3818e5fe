package core_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"time"

	"github.com/lockstep-go/lockstep/conformance"
	"github.com/lockstep-go/lockstep/core"
)

// fallSilent has the broker answer nothing that begins from now on, for d; or has it answer again what begins from now on.
func (w *world) fallSilent(d time.Duration) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.note("silent for %v", d)
	w.silent, w.silentUntil = d > 0, time.Now().Add(d)
}

// promptly looks whether delivery resumes soon after the broker's silence, where nothing else can keep it from doing so.
func (w *world) promptly() {
	if !w.plan.patient {
		return
	}
	before := w.missing()
	time.Sleep(resumeWithin) // the bubble's clock
	after := w.missing()
	for _, id := range before {
		if !slices.Contains(after, id) {
			return
		}
	}
	if len(before) > 0 {
		w.mu.Lock()
		defer w.mu.Unlock()
		w.wrong = append(w.wrong, fmt.Errorf("nothing is delivered within %v of the end of the broker's silence, of %v", resumeWithin, before))
	}
}

// resumeWithin is how soon.
const resumeWithin = 2 * time.Second

// missing lists what is in the outbox and was never delivered.
func (w *world) missing() (ids []string) {
	seen := map[string]bool{}
	for _, d := range w.recorder.Stored() {
		seen[d.Message.ID] = true
	}
	for _, r := range w.memory.Contents().Records {
		if !seen[r.Message.ID] && r.RetryIn <= 0 {
			ids = append(ids, r.Message.ID)
		}
	}
	return ids
}

// noticedIn is within what time a silence is noticed, by a call that begins in it: it has no answer for a second, nor has the ping.
const noticedIn = 2500 * time.Millisecond

// silence swallows a call: nobody answers it, whatever comes later. Some of it may have arrived. What began last is reset by a host
// that has started anew, and is still being asked for an answer.
func (w *world) silence(r *rand.Rand, f conformance.PublishFault, call conformance.PublishCall) conformance.PublishFault {
	if left := time.Until(w.silentUntil); left < noticedIn {
		f.Before, f.Err = max(0, left)+latency(r, w.plan.slow), errors.New("connection reset")
		for range call.Messages {
			f.Fates = append(f.Fates, conformance.Fate{Err: core.ErrUncertain})
		}
		return f
	}
	f.Hang = true
	if r.IntN(3) == 0 {
		for range call.Messages {
			f.Fates = append(f.Fates, conformance.Fate{Err: core.ErrUncertain, LateCopy: latency(r, 5*time.Second)})
		}
	}
	return f
}

// ping answers as the broker does.
func (w *world) ping(ctx context.Context) error {
	w.mu.Lock()
	r := w.draw("ping")
	w.mu.Unlock()
	if d := latency(r, w.plan.slow); !sleep(ctx, d) {
		return ctx.Err()
	}
	w.mu.Lock()
	silent, away := w.silent, w.away
	w.note("ping: silent %v, away %v", silent, away)
	w.mu.Unlock()
	switch {
	case away, w.plan.deaf:
		return core.ErrUnavailable
	case silent:
		<-ctx.Done()
		return ctx.Err()
	}
	return nil
}

// sleep waits for d by the bubble's clock, and reports false where ctx ended first.
func sleep(ctx context.Context, d time.Duration) bool {
	select {
	case <-time.After(d):
		return true
	case <-ctx.Done():
		return false
	}
}
