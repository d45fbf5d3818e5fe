package core_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"github.com/lockstep-go/lockstep/core"
)

// One message of a burst makes each of its calls fail, by a time-out or by breaking the connection: the others of its topic,
// those of its calls and those that come later, are delivered, and it becomes a dead letter.
func TestAPoisonDoesNotStopItsTopic(t *testing.T) {
	hang := func(ctx context.Context) error { <-ctx.Done(); return ctx.Err() }
	broken := func(context.Context) error { return errors.New("connection closed by the server") }
	for name, test := range map[string]struct {
		poison int // the number of the message
		fail   func(context.Context) error
	}{
		"the oldest hangs":              {0, hang},
		"one in the middle hangs":       {500, hang},
		"the oldest breaks it":          {0, broken},
		"one in the middle breaks it":   {500, broken},
		"one of the youngest hangs":     {990, hang},
		"one of the youngest breaks it": {990, broken},
	} {
		t.Run(name, func(t *testing.T) {
			onBench(t, func(b *bench) {
				b.config.Logger, b.config.Failures.MaxAttempts = quiet, 3
				b.config.Failures.FirstDelay, b.config.Failures.MaxDelay = time.Second, time.Second
				const burst, later = 1000, 2000
				var msgs []core.Message
				for i := range burst {
					msgs = append(msgs, core.Message{ID: fmt.Sprint(i), Topic: "t", Key: fmt.Sprint("key", i)})
				}
				b.put(msgs...)
				poison := fmt.Sprint(test.poison)
				relay := b.relayTo(func(ctx context.Context, msgs []core.Message) error {
					time.Sleep(time.Millisecond) // the bubble's clock
					if slices.ContainsFunc(msgs, func(m core.Message) bool { return m.ID == poison }) {
						return test.fail(ctx)
					}
					return b.recorder.Publish(ctx, msgs)
				})
				late := 0
				b.runWith(relay, func() {
					for i := range later {
						time.Sleep(200 * time.Millisecond) // the bubble's clock
						b.put(core.Message{ID: fmt.Sprint("later", i), Topic: "t", Key: fmt.Sprint("other", i)})
						// The first call with the poison takes 30 s, and keeps what it has. From then on nobody waits.
						if behind := burst + i - len(b.recorder.Stored()); i >= 5*35 && behind > 10 {
							late = max(late, behind)
						}
					}
					time.Sleep(time.Second) // the bubble's clock
				})
				if late > 0 {
					b.Errorf("35 s after the beginning and later, up to %d messages were waiting", late)
				}
				if n := len(b.recorder.Stored()); n != burst+later-1 {
					b.Errorf("stored: got %d messages, want %d", n, burst+later-1)
				}
				if dead := b.memory.Contents().Dead; len(dead) != 1 || dead[0].Message.ID != poison || dead[0].Attempts != 3 {
					b.Errorf("dead letters: got %+v, want message %s after three attempts", dead, poison)
				}
				b.wantLeft("")
			})
		})
	}
}

// In a busy topic some call that began before a message failed always succeeds right after it. That says nothing of the message, and does not
// have it tried again at once: what would then fail could not be told from an outage, over and over again.
func TestAPoisonInABusyTopicIsCounted(t *testing.T) {
	for name, fail := range map[string]func(context.Context) error{"hangs": hung, "breaks it": reset} {
		t.Run(name, func(t *testing.T) {
			onBench(t, func(b *bench) {
				b.config.Logger, b.config.Lanes, b.config.PublishTimeout, b.config.Failures.MaxAttempts = quiet, 8, 5*time.Second, 3
				b.config.Failures.FirstDelay, b.config.Failures.MaxDelay = time.Second, time.Second
				var calls atomic.Int64
				relay := b.relayTo(func(ctx context.Context, msgs []core.Message) error {
					time.Sleep(20 * time.Millisecond) // the bubble's clock
					if slices.ContainsFunc(msgs, func(m core.Message) bool { return m.ID == "poison" }) {
						calls.Add(1)
						return fail(ctx)
					}
					return b.recorder.Publish(ctx, msgs)
				})
				b.runWith(relay, func() {
					b.put(core.Message{ID: "poison", Topic: "t", Key: "poison"})
					for i := range 5000 {
						b.put(core.Message{ID: fmt.Sprint(i), Topic: "t", Key: fmt.Sprint("other", i)})
						time.Sleep(10 * time.Millisecond) // the bubble's clock
					}
				})
				if dead := b.memory.Contents().Dead; len(dead) != 1 || dead[0].Attempts != 3 {
					b.Errorf("dead letters: got %+v, want the poison after three attempts", dead)
				}
				if n := calls.Load(); n > 8 {
					b.Errorf("it was sent %d times", n)
				}
			})
		})
	}
}
