package conformance

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/lockstep-go/lockstep/core"
)

// losing stores two of three messages, and says that it has stored all.
func losing(r *Recorder) core.Broker {
	n := 0
	return &brokenBroker{Broker: r.Client(ClientConfig{KeyOrdered: true}), publish: func(ctx context.Context, b *brokenBroker, msgs []core.Message) error {
		var kept []core.Message
		b.mu.Lock()
		for _, m := range msgs {
			if n++; n%3 != 0 {
				kept = append(kept, m)
			}
		}
		b.mu.Unlock()
		if len(kept) == 0 {
			return nil
		}
		return b.Broker.Publish(ctx, kept)
	}}
}

// withoutStored reads as a consumer does, which waits for what may still come.
func withoutStored(f BrokerFixture) BrokerFixture {
	f.Stored = nil
	read := f.Read
	f.Read = func(ctx context.Context, n int) (msgs []core.Message, err error) {
		for {
			if msgs, err = read(ctx, n); err == nil {
				return msgs, nil
			}
			select {
			case <-ctx.Done():
				return nil, ctx.Err()
			case <-time.After(10 * time.Millisecond):
			}
		}
	}
	return f
}

// Whoever waits for a message that never comes waits as long as a slow machine may need. A broker that loses messages makes most
// checks wait, and its author, too: after the first time they wait for less.
func TestALosingBrokerIsSoonTold(t *testing.T) {
	open := func(context.Context) (BrokerFixture, error) {
		r := &Recorder{}
		return withoutStored(RecorderFixture(r, losing(r))), nil
	}
	both := func(ctx context.Context) (pair, error) {
		broker, err := open(ctx)
		return pair{MemoryFixture(NewMemory(MemoryConfig{})), broker}, err
	}
	few := pairSuite // several relays that never wait for anything would keep the bubble's clock from going on
	few.workers = 1
	few.groups = []group[pair]{{checks: []check[pair]{
		pairCheck(t, "pair-atomic"), pairCheck(t, "pair-hot-key"), pairCheck(t, "pair-many-keys"), pairCheck(t, "pair-dead-letter"),
	}}}
	for name, suite := range map[string]struct {
		verify func(ctx context.Context) (Report, error)
		most   time.Duration // by the bubble's clock; 205 s and 80 s if each check waits for itself
		failed int
	}{
		"broker": {func(ctx context.Context) (Report, error) { return VerifyBroker(ctx, open) }, 70 * time.Second, 12},
		"pair":   {func(ctx context.Context) (Report, error) { return few.verify(ctx, both) }, 40 * time.Second, 4},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				began := time.Now()
				report, _ := suite.verify(t.Context())
				took := time.Since(began)
				t.Logf("%v", took)
				if took > suite.most {
					t.Errorf("it took %v, want at most %v", took, suite.most)
				}
				if report.Count(Failed) < suite.failed {
					t.Errorf("got\n%s\nwant %d failures", report, suite.failed)
				}
				for _, c := range report.Checks {
					if c.TimedOut {
						t.Errorf("%s ended by its time-out: %s", c.ID, c.Error)
					}
				}
				time.Sleep(20 * checkTimeout) // for what a relay has left behind
			})
		})
	}
}
