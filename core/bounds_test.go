package core_test

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/lockstep-go/lockstep/core"
)

// Calls and memory are bounded by bytes; a message that is larger than the bound travels, alone.
func TestBytesAreBounded(t *testing.T) {
	onBench(t, func(b *bench) {
		const size, batch, inFlight = 1000, 5000, 40_000
		b.config.Lanes, b.config.BatchBytes, b.config.InFlightBytes = 16, batch, inFlight
		var msgs []core.Message
		for i := range 500 {
			msgs = append(msgs, core.Message{ID: fmt.Sprint(i), Topic: "t", Key: fmt.Sprint(i), Payload: make([]byte, size-10)})
		}
		msgs = append(msgs, core.Message{ID: "large", Topic: "t", Key: "large", Payload: make([]byte, 2*batch)})
		b.put(msgs...)
		var mu sync.Mutex
		most := 0
		var relay *core.Relay
		relay = b.relayTo(func(ctx context.Context, msgs []core.Message) error {
			bytes := 0
			for _, m := range msgs {
				bytes += len(m.Payload)
			}
			if bytes > batch && len(msgs) > 1 {
				b.Errorf("a call has %d messages with %d bytes, want at most %d", len(msgs), bytes, batch)
			}
			time.Sleep(time.Millisecond) // the bubble's clock
			mu.Lock()
			most = max(most, relay.State().InFlightBytes)
			mu.Unlock()
			return b.recorder.Publish(ctx, msgs)
		})
		b.runWith(relay, func() { time.Sleep(10 * time.Second) }) // the bubble's clock
		if n := len(b.recorder.Stored()); n != len(msgs) {
			b.Errorf("stored: got %d messages, want %d", n, len(msgs))
		}
		if most > inFlight+2*batch+size || most < inFlight/4 {
			b.Errorf("%d bytes were in memory, want at most %d and one message, and not few", most, inFlight)
		}
	})
}

// A call that hangs has its lane fill up to a quarter of the memory, by number or by bytes. The other lanes go on.
func TestAStuckLaneLeavesOthersTheirMemory(t *testing.T) {
	for name, set := range map[string]func(*core.RelayConfig){
		"by number": func(c *core.RelayConfig) { c.InFlight = 40 },
		"by bytes":  func(c *core.RelayConfig) { c.InFlightBytes = 40_000 },
	} {
		t.Run(name, func(t *testing.T) {
			onBench(t, func(b *bench) {
				b.config.Logger, b.config.Lanes, b.config.BatchSize, b.config.PublishTimeout = quiet, 4, 1, time.Hour
				set(&b.config)
				const size, keys = 1000, 400
				var msgs []core.Message
				for i := range keys {
					msgs = append(msgs, core.Message{ID: fmt.Sprint(i), Topic: "t", Key: fmt.Sprint(i), Payload: make([]byte, size)})
				}
				b.put(msgs...)
				over := make(chan struct{})
				relay := b.relayTo(func(ctx context.Context, msgs []core.Message) error {
					if msgs[0].ID == "0" {
						<-over
					}
					time.Sleep(time.Millisecond) // the bubble's clock
					return b.recorder.Publish(ctx, msgs)
				})
				b.runWith(relay, func() {
					time.Sleep(time.Minute) // the bubble's clock
					if n := len(b.recorder.Stored()); n < keys/2 {
						b.Errorf("stored: got %d messages of %d, want those of three lanes of four", n, keys)
					}
					close(over)
				})
			})
		})
	}
}

// A topic that is away keeps a few messages in memory, by their number and by their bytes, and is held behind them.
func TestProbesAreBounded(t *testing.T) {
	for name, test := range map[string]struct {
		payload, most int
	}{
		"by number": {0, 100},
		"by bytes":  {100_000, (16 << 20) / 16 / 100_000},
	} {
		t.Run(name, func(t *testing.T) {
			onBench(t, func(b *bench) {
				b.config.Logger, b.config.BatchBytes = quiet, 100<<20
				b.fate = func(core.Message) error { return core.ErrUncertain }
				var msgs []core.Message
				for i := range 300 {
					msgs = append(msgs, core.Message{ID: fmt.Sprint(i), Topic: "t", Key: fmt.Sprint(i), Payload: make([]byte, test.payload)})
				}
				relay := b.relay()
				b.runWith(relay, func() {
					peak := 0
					for _, m := range msgs { // one by one, so that each fails in a call of its own
						b.put(m)
						time.Sleep(5*time.Millisecond + 10*time.Microsecond) // the bubble's clock
						peak = max(peak, relay.State().InFlight)
					}
					if peak > test.most+2 {
						b.Errorf("%d messages were in memory, want at most %d and one that is being let go", peak, test.most+1)
					}
					time.Sleep(10 * time.Second) // the bubble's clock
					if s := relay.State(); s.InFlight > test.most || s.InFlight == 0 || s.HeldTopics != 1 {
						b.Errorf("%d messages are in memory, and %d topics held; want at most %d, and one", s.InFlight, s.HeldTopics, test.most)
					}
				})
			})
		})
	}
}

// Waits between attempts double up to MaxDelay, and half of each is random, so that what failed together is not tried together.
func TestWaitsGrowToACapAndDiffer(t *testing.T) {
	onBench(t, func(b *bench) {
		b.config.Logger = quiet
		b.config.Failures = core.FailurePolicy{MaxAttempts: 8, FirstDelay: time.Second, MaxDelay: 10 * time.Second}
		b.fate = func(core.Message) error { return errors.New("refused") }
		var names string
		const keys = 50
		for i := range keys {
			names += fmt.Sprintf(" k%c%c1", 'a'+i/26, 'a'+i%26)
		}
		b.enqueue(names)
		waits := map[int]map[time.Duration]bool{} // by attempt
		b.config.Hooks.Failed = func(f core.Failure) {
			if waits[f.Attempts] == nil {
				waits[f.Attempts] = map[time.Duration]bool{}
			}
			waits[f.Attempts][f.RetryIn] = true
		}
		b.during(func() { time.Sleep(10 * time.Minute) })
		for attempt, full := range map[int]time.Duration{1: 1, 2: 2, 3: 4, 4: 8, 5: 10, 6: 10, 7: 10} {
			full *= time.Second
			if n := len(waits[attempt]); n < keys/2 {
				b.Errorf("after attempt %d of %d messages there are %d different waits", attempt, keys, n)
			}
			for wait := range waits[attempt] {
				if wait < full/2 || wait > full {
					b.Errorf("after attempt %d a message waits %v, want %v to %v", attempt, wait, full/2, full)
				}
			}
		}
		if n := len(b.memory.Contents().Dead); n != keys {
			b.Errorf("%d dead letters, want %d", n, keys)
		}
	})
}

// A fetch takes as many records as its bytes allow, if they are like the last. Where they are large it takes no more than before
// anything was known, since a dialect bounds the bytes of many in a slower way.
func TestAFetchTakesMoreOfSmallRecords(t *testing.T) {
	for _, test := range []struct{ payload, large, first, least, most int }{
		{300, 300, 1000, 4000, 4000},
		{2000, 2000, 1000, 2050, 2100},
		{4000, 4000, 1000, 1000, 1050},
		{8000, 8000, 525, 525, 525}, // 4 MiB
		{300, 5000, 1000, 1650, 1700},
	} {
		t.Run(fmt.Sprint(test.payload, " and ", test.large), func(t *testing.T) {
			onBench(t, func(b *bench) {
				b.config.InFlightBytes = 1 << 30
				var msgs []core.Message
				for i := range 10_000 {
					msgs = append(msgs, core.Message{ID: fmt.Sprintf("%06d", i), Topic: "t", Key: fmt.Sprint(i), Payload: make([]byte, test.payload)})
					if i%100 == 0 {
						msgs[i].Payload = make([]byte, test.large)
					}
				}
				b.put(msgs...)
				first, most := 0, 0
				b.config.Hooks.Fetched = func(records int, _ time.Duration) {
					if first == 0 {
						first = records
					}
					most = max(most, records)
				}
				b.during(func() { time.Sleep(10 * time.Second) }) // the bubble's clock
				if first != test.first || most < test.least || most > test.most {
					b.Errorf("the first fetch took %d records, and the largest %d; want %d, and %d to %d", first, most, test.first, test.least, test.most)
				}
				b.wantOnce(len(msgs))
			})
		})
	}
}
