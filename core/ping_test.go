package core_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/lockstep-go/lockstep/core"
)

// pinged is a fake broker that can be asked.
type pinged struct {
	brokerFunc
	ping func(ctx context.Context) error
}

func (b *pinged) Ping(ctx context.Context) error { return b.ping(ctx) }

func (b *bench) relayToPinged(f brokerFunc, ping func(context.Context) error) *core.Relay {
	b.Helper()
	b.config.Logger, b.config.PublishTimeout, b.config.Lanes = quiet, time.Hour, 64
	relay, err := core.NewRelay(b.memory, &pinged{f, ping}, b.config)
	if err != nil {
		b.Fatal(err)
	}
	return relay
}

func (b *bench) putKeys(from, to int) {
	var msgs []core.Message
	for i := from; i < to; i++ {
		msgs = append(msgs, core.Message{ID: fmt.Sprint(i), Topic: "t", Key: fmt.Sprint(i), Payload: []byte{1}})
	}
	b.put(msgs...)
}

// slowly stores msgs after wait, whether somebody waits for the answer or not.
func (b *bench) slowly(ctx context.Context, msgs []core.Message, wait func()) error {
	answer := make(chan error, 1)
	go func() {
		wait()
		answer <- b.recorder.Publish(context.WithoutCancel(ctx), msgs)
	}()
	select {
	case err := <-answer:
		return err
	case <-ctx.Done():
		return ctx.Err()
	}
}

// silentWhile is a ping that nobody answers while one of these is set.
func silentWhile(off ...*atomic.Bool) func(context.Context) error {
	return func(ctx context.Context) error {
		if slices.ContainsFunc(off, (*atomic.Bool).Load) {
			return hung(ctx)
		}
		return nil
	}
}

// refusedWhile is the ping of a broker that takes no new connections while full is set.
func refusedWhile(full *atomic.Bool) func(context.Context) error {
	return func(context.Context) error {
		if full.Load() {
			return errors.New("too many connections")
		}
		return nil
	}
}

// wantOnce expects n messages to be stored, none of them twice.
func (b *bench) wantOnce(n int) {
	b.Helper()
	times := map[string]int{}
	for _, d := range b.recorder.Stored() {
		times[d.Message.ID]++
		if times[d.Message.ID] == 2 {
			b.Errorf("%s is stored twice", d.Message.ID)
		}
	}
	if len(times) != n {
		b.Errorf("%d messages are stored, want %d", len(times), n)
	}
}

// Some connections outlive a silence, as TCP sends again what was lost, and others do not. What is answered over the ones does not keep the
// relay from cutting the others, whether their calls began before the silence was noticed or in it.
func TestOneConnectionThatLivesDoesNotSaveTheOthers(t *testing.T) {
	for name, later := range map[string]bool{"before it was noticed": false, "since": true} {
		t.Run(name, func(t *testing.T) {
			onBench(t, func(b *bench) {
				var silent atomic.Bool
				silent.Store(true)
				back := make(chan struct{})
				relay := b.relayToPinged(func(ctx context.Context, msgs []core.Message) error {
					switch {
					case !silent.Load():
						return b.recorder.Publish(ctx, msgs)
					case msgs[0].Key == "lives":
						return b.slowly(ctx, msgs, func() { <-back })
					}
					return hung(ctx)
				}, silentWhile(&silent))
				b.runWith(relay, func() {
					b.put(core.Message{ID: "a", Topic: "t", Key: "a"})
					if later {
						time.Sleep(10 * time.Second) // the bubble's clock
					}
					b.put(core.Message{ID: "lives", Topic: "t", Key: "lives"})
					time.Sleep(time.Second / 2) // the bubble's clock
					b.putKeys(0, 50)
					time.Sleep(20 * time.Second) // the bubble's clock
					silent.Store(false)
					time.Sleep(100 * time.Millisecond) // the bubble's clock
					close(back)
					time.Sleep(2 * time.Second) // the bubble's clock
					b.wantOnce(52)
				})
			})
		})
	}
}

// A broker that falls silent again, after something reached it and before it answered a ping, has what began in between cut too.
func TestASecondSilenceIsOneToo(t *testing.T) {
	onBench(t, func(b *bench) {
		var silent, deaf atomic.Bool
		silent.Store(true)
		deaf.Store(true)
		relay := b.relayToPinged(func(ctx context.Context, msgs []core.Message) error {
			if silent.Load() {
				return hung(ctx)
			}
			return b.recorder.Publish(ctx, msgs)
		}, silentWhile(&silent, &deaf))
		b.runWith(relay, func() {
			b.put(core.Message{ID: "a", Topic: "t", Key: "a"})
			time.Sleep(5 * time.Second) // the bubble's clock
			silent.Store(false)
			b.put(core.Message{ID: "b", Topic: "t", Key: "b"})
			time.Sleep(500 * time.Millisecond) // the bubble's clock
			silent.Store(true)
			b.putKeys(0, 50)
			time.Sleep(time.Minute) // the bubble's clock
			silent.Store(false)
			deaf.Store(false)
			time.Sleep(2 * time.Second) // the bubble's clock
			b.wantOnce(52)
		})
	})
}

// What was under way when a broker fell silent is delivered within two seconds of its return, all of it, as nothing but an outage.
func TestWhatASilenceSwallowedIsDeliveredAtItsEnd(t *testing.T) {
	onBench(t, func(b *bench) {
		var silent atomic.Bool
		relay := b.relayToPinged(func(ctx context.Context, msgs []core.Message) error {
			if silent.Load() {
				return hung(ctx) // for good: what comes back does not know of it
			}
			return b.recorder.Publish(ctx, msgs)
		}, silentWhile(&silent))
		b.runWith(relay, func() {
			silent.Store(true)
			b.putKeys(0, 100)
			time.Sleep(10 * time.Minute) // the bubble's clock
			silent.Store(false)
			time.Sleep(2 * time.Second) // the bubble's clock
			b.wantOnce(100)
			if left := b.memory.Contents(); len(left.Records)+len(left.Dead) > 0 {
				b.Errorf("after two seconds %d are left, and %d are dead", len(left.Records), len(left.Dead))
			}
		})
	})
}

// A broker that only stood still answers what it has, one call after another, and nothing is cut.
func TestABrokerThatStoodStillLosesNoCall(t *testing.T) {
	onBench(t, func(b *bench) {
		back := make(chan struct{})
		var mu sync.Mutex
		var waiting []chan struct{} // for an answer, in the order of their beginning
		relay := b.relayToPinged(func(ctx context.Context, msgs []core.Message) error {
			answer := make(chan struct{})
			mu.Lock()
			select {
			case <-back:
				close(answer)
			default:
				waiting = append(waiting, answer)
			}
			mu.Unlock()
			return b.slowly(ctx, msgs, func() { <-answer })
		}, func(ctx context.Context) error {
			select {
			case <-back:
				return nil
			case <-ctx.Done():
				return ctx.Err()
			}
		})
		b.runWith(relay, func() {
			for i := range 10 {
				b.putKeys(i, i+1)
				time.Sleep(50 * time.Millisecond) // the bubble's clock
			}
			time.Sleep(time.Minute) // the bubble's clock
			mu.Lock()
			close(back)
			mu.Unlock()
			if len(waiting) < 3 {
				b.Fatalf("%d calls are under way, want several", len(waiting))
			}
			for _, answer := range slices.Backward(waiting) { // those that began first wait longest
				time.Sleep(400 * time.Millisecond) // the bubble's clock
				close(answer)
			}
			time.Sleep(time.Minute) // the bubble's clock
			b.wantOnce(10)
		})
	})
}

// A broker that takes no new connections answers over those it has, and takes messages. Nothing is cut while no ping is answered.
func TestABrokerThatTakesNoConnectionsKeepsItsCalls(t *testing.T) {
	onBench(t, func(b *bench) {
		var full, lost atomic.Bool
		full.Store(true)
		relay := b.relayToPinged(func(ctx context.Context, msgs []core.Message) error {
			if msgs[0].Key == "lost" && lost.CompareAndSwap(false, true) {
				return hung(ctx)
			}
			return b.slowly(ctx, msgs, func() {
				if msgs[0].Key == "slow" {
					time.Sleep(30 * time.Second) // the bubble's clock
				}
			})
		}, refusedWhile(&full))
		b.runWith(relay, func() {
			b.put(core.Message{ID: "1", Topic: "t", Key: "lost"})
			time.Sleep(5 * time.Second) // the bubble's clock
			b.put(core.Message{ID: "2", Topic: "t", Key: "slow"})
			time.Sleep(5 * time.Second) // the bubble's clock
			b.put(core.Message{ID: "3", Topic: "t", Key: "prompt"})
			time.Sleep(500 * time.Millisecond) // the bubble's clock
			b.put(core.Message{ID: "4", Topic: "u", Key: "slow"})
			time.Sleep(20 * time.Second) // the bubble's clock
			b.wantOnce(1)                // the prompt one: nothing was cut
			time.Sleep(13 * time.Second) // the bubble's clock
			b.wantOnce(3)                // and both slow ones
			full.Store(false)
			time.Sleep(2 * time.Second) // the bubble's clock
			b.wantOnce(4)
		})
	})
}

// While a broker that takes no new connections goes on storing, it is not away: when it takes connections again, nothing is cut.
func TestABrokerThatStoresIsNotAway(t *testing.T) {
	onBench(t, func(b *bench) {
		var full atomic.Bool
		full.Store(true)
		relay := b.relayToPinged(func(ctx context.Context, msgs []core.Message) error {
			return b.slowly(ctx, msgs, func() {
				if msgs[0].Key == "slow" {
					time.Sleep(30 * time.Second) // the bubble's clock
				}
			})
		}, refusedWhile(&full))
		b.runWith(relay, func() {
			b.put(core.Message{ID: "slow", Topic: "t", Key: "slow"})
			time.Sleep(5 * time.Second) // the bubble's clock
			for i := range 200 {
				full.Store(i < 50)
				b.putKeys(i, i+1)
				time.Sleep(200 * time.Millisecond) // the bubble's clock
			}
			time.Sleep(time.Minute) // the bubble's clock
			b.wantOnce(201)
		})
	})
}

// A broker that takes long for its calls, and now and then for a ping, gets them answered all the same.
func TestPingsThatComeAndGoLetASlowBrokerAnswer(t *testing.T) {
	onBench(t, func(b *bench) {
		var pings atomic.Int32
		relay := b.relayToPinged(func(ctx context.Context, msgs []core.Message) error {
			select {
			case <-time.After(7 * time.Second): // the bubble's clock
				return b.recorder.Publish(ctx, msgs)
			case <-ctx.Done():
				return ctx.Err()
			}
		}, func(context.Context) error {
			if pings.Add(1)%2 == 0 {
				return nil
			}
			return errors.New("busy")
		})
		b.runWith(relay, func() {
			b.putKeys(0, 1)
			time.Sleep(5 * time.Minute) // the bubble's clock
			b.wantOnce(1)
		})
	})
}

// An adapter whose Ping panics ends nothing, and is asked again.
func TestAPingMayPanic(t *testing.T) {
	onBench(t, func(b *bench) {
		var pings atomic.Int32
		relay := b.relayToPinged(func(ctx context.Context, msgs []core.Message) error {
			time.Sleep(10 * time.Second) // the bubble's clock
			return b.recorder.Publish(ctx, msgs)
		}, func(context.Context) error {
			pings.Add(1)
			panic("no")
		})
		b.runWith(relay, func() {
			b.putKeys(0, 1)
			time.Sleep(11 * time.Second) // the bubble's clock
			b.wantOnce(1)
			if n := pings.Load(); n < 2 {
				b.Errorf("pinged %d times, want one a second", n)
			}
		})
	})
}

// A call that is cut says nothing: it counts no attempt, not even of a message that failed before in a way that says nothing either, and whose
// topic was alive in between.
func TestWhatIsCutCountsNoAttempt(t *testing.T) {
	onBench(t, func(b *bench) {
		var silent atomic.Bool
		var unlucky, failures atomic.Int32
		b.config.Hooks.Failed = func(core.Failure) { failures.Add(1) }
		relay := b.relayToPinged(func(ctx context.Context, msgs []core.Message) error {
			switch {
			case msgs[0].Key == "unlucky" && unlucky.Add(1) == 1:
				return core.ErrUncertain
			case silent.Load():
				return hung(ctx)
			}
			defer silent.Store(msgs[0].Key == "other") // before the other one's success has the unlucky one tried again
			return b.recorder.Publish(ctx, msgs)
		}, silentWhile(&silent))
		b.runWith(relay, func() {
			b.put(core.Message{ID: "unlucky", Topic: "t", Key: "unlucky"})
			time.Sleep(10 * time.Millisecond) // the bubble's clock
			b.put(core.Message{ID: "other", Topic: "t", Key: "other"})
			time.Sleep(10 * time.Second) // the bubble's clock
			if n := unlucky.Load(); n != 2 {
				b.Errorf("the message was sent %d times, want once before the silence and once in it", n)
			}
			silent.Store(false)
			time.Sleep(10 * time.Second) // the bubble's clock
			b.wantOnce(2)
			if n := failures.Load(); n > 0 {
				b.Errorf("%d attempts are counted, want none", n)
			}
		})
	})
}

// What began after the broker was back has all of its time, and is not cut with what began before.
func TestWhatBeganAfterASilenceIsNotCut(t *testing.T) {
	onBench(t, func(b *bench) {
		var silent atomic.Bool
		var late atomic.Int32
		silent.Store(true)
		relay := b.relayToPinged(func(ctx context.Context, msgs []core.Message) error {
			if silent.Load() {
				return hung(ctx) // for good: what comes back does not know of it
			}
			if msgs[0].Key == "late" {
				late.Add(1)
				return b.slowly(ctx, msgs, func() { time.Sleep(5 * time.Second) }) // the bubble's clock
			}
			return b.recorder.Publish(ctx, msgs)
		}, silentWhile(&silent))
		b.runWith(relay, func() {
			b.put(core.Message{ID: "lost", Topic: "t", Key: "lost"})
			time.Sleep(9500 * time.Millisecond) // the bubble's clock
			silent.Store(false)                 // which the ping of the tenth second finds
			time.Sleep(700 * time.Millisecond)  // the bubble's clock
			b.put(core.Message{ID: "late", Topic: "t", Key: "late"})
			time.Sleep(10 * time.Second) // the bubble's clock
			b.wantOnce(2)
			if n := late.Load(); n != 1 {
				b.Errorf("what began after the silence was sent %d times, want once", n)
			}
		})
	})
}

// A relay that ends takes a ping that is under way with it: the application may close its broker then.
func TestARelayEndsWithItsPing(t *testing.T) {
	onBench(t, func(b *bench) {
		var pinging atomic.Bool
		relay := b.relayToPinged(func(ctx context.Context, msgs []core.Message) error {
			time.Sleep(1500 * time.Millisecond) // the bubble's clock
			return b.recorder.Publish(ctx, msgs)
		}, func(ctx context.Context) error {
			pinging.Store(true)
			defer pinging.Store(false)
			<-ctx.Done()
			time.Sleep(100 * time.Millisecond) // the bubble's clock
			return ctx.Err()
		})
		b.runWith(relay, func() {
			b.putKeys(0, 1)
			time.Sleep(1700 * time.Millisecond) // the bubble's clock
			if !pinging.Load() {
				b.Error("no ping is under way, which shows nothing")
			}
		})
		if pinging.Load() {
			b.Error("Run has returned, and a ping is under way")
		}
	})
}
