package core_test

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/lockstep-go/lockstep/conformance"
	"github.com/lockstep-go/lockstep/core"
)

// A client stops in the middle of a call, and says that it did not attempt the rest: that goes back to its place, before what
// waits behind it, and is sent at once.
func TestWhatWasNotAttemptedKeepsItsPlace(t *testing.T) {
	for _, ordered := range []bool{false, true} {
		for stop := 1; stop <= 3; stop++ {
			t.Run(fmt.Sprintf("key ordered %v, stopped after %d", ordered, stop), func(t *testing.T) {
				onBench(t, func(b *bench) {
					b.config.Logger, b.config.Lanes, b.config.BatchSize = quiet, 1, 4
					b.enqueue("a1 b1 a2 b2 a3 b3 c1 b4 a4 d1")
					stopped := 0
					b.recorder.Inject(func(call conformance.PublishCall) (f conformance.PublishFault) {
						f.Before = time.Millisecond
						if stopped < 3 && len(call.Messages) > stop {
							stopped++
							for i := range call.Messages {
								var fate conformance.Fate
								if i >= stop {
									fate.Err = core.ErrNotAttempted
								}
								f.Fates = append(f.Fates, fate)
							}
						}
						return f
					})
					var broker core.Broker = b.recorder
					if ordered {
						broker = b.recorder.Client(conformance.ClientConfig{KeyOrdered: true})
					}
					relay, err := core.NewRelay(b.memory, broker, b.config)
					if err != nil {
						b.Fatal(err)
					}
					relay.WithLimits(core.Limits{SweepPause: 24 * time.Hour})
					b.runWith(relay, func() { time.Sleep(time.Second) })
					byKey := map[string]string{}
					for _, d := range b.recorder.Stored() {
						byKey[d.Message.Key] += " " + d.Message.ID
					}
					for key, want := range map[string]string{"a": " a1 a2 a3 a4", "b": " b1 b2 b3 b4", "c": " c1", "d": " d1"} {
						if byKey[key] != want {
							b.Errorf("stored of %s:%s, want%s", key, byKey[key], want)
						}
					}
					if stopped == 0 {
						b.Error("no call was stopped: the test shows nothing")
					}
					b.wantLeft("")
				})
			})
		}
	}
}

// Nobody but the message that failed waits: what comes behind it is passed over, and read again in order.
func TestWhatWaitsBehindARefusalIsReadAgain(t *testing.T) {
	onBench(t, func(b *bench) {
		b.config.Logger, b.config.Lanes = quiet, 1
		b.config.Failures.FirstDelay, b.config.Failures.MaxDelay = time.Second, time.Second
		refusals := map[string]int{"a1": 2, "a3": 1}
		b.fate = func(m core.Message) error {
			if refusals[m.ID]--; refusals[m.ID] >= 0 {
				return fmt.Errorf("refused")
			}
			return nil
		}
		b.enqueue("a1 a2 b1 a3 a4")
		relay := b.unswept()
		b.runWith(relay, func() {
			time.Sleep(100*time.Millisecond + 10*time.Microsecond) // the bubble's clock
			b.enqueue("a5 b2")
			time.Sleep(time.Minute) // the bubble's clock
		})
		var ids []string
		for _, d := range b.recorder.Stored() {
			if d.Message.Key == "a" {
				ids = append(ids, d.Message.ID)
			}
		}
		if got := strings.Join(ids, " "); got != "a1 a2 a3 a4 a5" {
			b.Errorf("stored of a: got %s", got)
		}
		b.wantLeft("")
	})
}

// A message comes back unsent when its topic holds back too much, so that it is read again: what waits behind it goes with it, and
// nobody else waits.
func TestWhatComesBackToACrowdedTopicIsNotOvertaken(t *testing.T) {
	for _, ordered := range []bool{false, true} {
		t.Run(fmt.Sprint("key ordered ", ordered), func(t *testing.T) {
			onBench(t, func(b *bench) {
				b.config.Logger, b.config.Lanes, b.config.BatchSize = quiet, 1, 4
				b.enqueue("p1 q1 a1 b1 a2 a3 c1")
				calls := 0
				b.recorder.Inject(func(call conformance.PublishCall) (f conformance.PublishFault) {
					f.Before = time.Millisecond
					if calls++; calls > 1 {
						return f
					}
					for _, m := range call.Messages {
						fate := conformance.Fate{Err: core.ErrNotAttempted}
						if m.Key == "p" || m.Key == "q" {
							fate.Err = errors.New("refused")
						}
						f.Fates = append(f.Fates, fate)
					}
					return f
				})
				relay, err := core.NewRelay(b.memory, b.recorder.Client(conformance.ClientConfig{KeyOrdered: ordered}), b.config)
				if err != nil {
					b.Fatal(err)
				}
				relay.WithLimits(core.Limits{HeldKeys: 1, SweepPause: 24 * time.Hour})
				b.runWith(relay, func() {
					time.Sleep(100*time.Millisecond + 10*time.Microsecond) // the bubble's clock
					if s := relay.State(); s.HeldTopics != 1 {
						b.Errorf("the relay holds %+v, want the topic held: the test shows nothing", s)
					}
					if !slices.ContainsFunc(b.recorder.Stored(), func(d conformance.Delivery) bool { return d.Message.ID == "c1" }) {
						b.Error("c1, which was in a lane, waits with the topic")
					}
					time.Sleep(time.Minute) // the bubble's clock
				})
				b.wantKeysInOrder("a1 a2 a3", "b1", "c1", "p1", "q1")
			})
		})
	}
}

// A call fails with two messages of one key, and there is memory to try again the second, which is small, and not the first: both are
// read again.
func TestASmallMessageDoesNotOvertakeALargeOne(t *testing.T) {
	for name, answer := range map[string]error{"connection reset": errors.New("connection reset"), "unavailable": core.ErrUnavailable} {
		t.Run(name, func(t *testing.T) {
			onBench(t, func(b *bench) {
				b.config.Logger, b.config.Lanes = quiet, 1
				b.config.InFlightBytes = 16 << 10 // of which a sixteenth is for what is tried again
				b.put(
					core.Message{ID: "x1", Topic: "away", Key: "x", Payload: make([]byte, 600)},
					core.Message{ID: "a1", Topic: "t", Key: "a", Payload: make([]byte, 600)},
					core.Message{ID: "a2", Topic: "t", Key: "a", Payload: make([]byte, 6)},
					core.Message{ID: "a3", Topic: "t", Key: "a"},
				)
				calls := 0
				b.recorder.Inject(func(call conformance.PublishCall) (f conformance.PublishFault) {
					f.Before = time.Millisecond
					if calls++; calls == 1 {
						f.Err = answer
						for range call.Messages {
							f.Fates = append(f.Fates, conformance.Fate{Err: answer})
						}
					}
					return f
				})
				relay, err := core.NewRelay(b.memory, b.recorder.Client(conformance.ClientConfig{KeyOrdered: true}), b.config)
				if err != nil {
					b.Fatal(err)
				}
				b.runWith(relay, func() { time.Sleep(time.Minute + 10*time.Microsecond) }) // the bubble's clock
				b.wantKeysInOrder("a1 a2 a3", "x1")
			})
		})
	}
}

// wantKeysInOrder wants everything delivered, and each key's messages, of which there is a list, in their order.
func (b *bench) wantKeysInOrder(lists ...string) {
	b.Helper()
	byKey := map[string][]string{}
	for _, d := range b.recorder.Stored() {
		byKey[d.Message.Key] = append(byKey[d.Message.Key], d.Message.ID)
	}
	for _, want := range lists {
		if got := strings.Join(byKey[want[:1]], " "); got != want {
			b.Errorf("stored of %s: got %q, want %q", want[:1], got, want)
		}
	}
	b.wantLeft("")
}
