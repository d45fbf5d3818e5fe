package conformance

import (
	"context"
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/lockstep-go/lockstep/core"
)

// pingMutant is how a broker with a fault pings, the check that must find it, and what that says then.
type pingMutant struct {
	caught, says string
	ping         func(ctx context.Context, b *brokenBroker, s *pingState) error
}

// pingState is what a broker remembers of its pings and of its calls.
type pingState struct {
	failed bool               // a ping did
	cut    context.CancelFunc // ends what is being published
}

var pingMutants = map[string]pingMutant{
	"answers pings by itself": {"ping-silence", "says nothing, and the ping returned nil",
		func(context.Context, *brokenBroker, *pingState) error { return nil }},
	"answers pings by itself while their context lasts": {"ping-silence", "says nothing, and the ping returned nil",
		func(ctx context.Context, _ *brokenBroker, _ *pingState) error { return ctx.Err() }},
	"pings whatever its context": {"ping", "its context had ended, and the ping returned nil",
		func(ctx context.Context, b *brokenBroker, _ *pingState) error {
			return b.ask(context.WithoutCancel(ctx))
		}},
	"takes long to see that its context has ended": {"ping", "had not returned 5s after its context ended", endingLate},
	"takes long to give a silence up":              {"ping-silence", "had not returned 5s after its context ended", endingLate},
	"never finds out":                              {"ping", "the message system answers, and a ping does not find out", refusingPing},
	"never finds out, nor in a silence":            {"ping-silence", "the message system answers, and a ping does not find out", refusingPing},
	"fails on after a silence": {"ping-silence", "after the silence: the message system answers, and a ping does not find out",
		func(ctx context.Context, b *brokenBroker, s *pingState) error {
			if s.failed {
				return errors.New("the connection is closed")
			}
			err := b.ask(ctx)
			s.failed = err != nil
			return err
		}},
	"cuts what is published": {"ping", "publish beside a ping",
		func(ctx context.Context, b *brokenBroker, s *pingState) error {
			s.cut()
			return b.ask(ctx)
		}},
	"cuts what is published once a ping has failed": {"ping-silence", "after the silence: publish beside a ping",
		func(ctx context.Context, b *brokenBroker, s *pingState) error {
			if s.failed {
				s.cut()
			}
			err := b.ask(ctx)
			s.failed = s.failed || err != nil
			return err
		}},
}

func endingLate(ctx context.Context, b *brokenBroker, _ *pingState) error {
	err := b.ask(ctx)
	if ctx.Err() != nil {
		time.Sleep(10 * time.Second) // the bubble's clock
	}
	return err
}

func refusingPing(context.Context, *brokenBroker, *pingState) error {
	return errors.New("permission denied")
}

// broker returns a broker with the fault. Its calls take a moment, as those over a network do.
func (mutant pingMutant) broker(r *Recorder) core.Broker {
	var state pingState
	under, cut := context.WithCancel(context.Background())
	b := &brokenBroker{Broker: r.Client(ClientConfig{KeyOrdered: true})}
	state.cut = func() {
		b.mu.Lock()
		defer b.mu.Unlock()
		cut()
		under, cut = context.WithCancel(context.Background())
	}
	b.publish = func(ctx context.Context, b *brokenBroker, msgs []core.Message) error {
		b.mu.Lock()
		call := under
		b.mu.Unlock()
		ctx, cancel := context.WithCancel(ctx)
		defer cancel()
		defer context.AfterFunc(call, cancel)()
		pause(ctx, time.Millisecond)
		return b.Broker.Publish(ctx, msgs)
	}
	if mutant.ping != nil {
		b.ping = func(ctx context.Context, b *brokenBroker) error { return mutant.ping(ctx, b, &state) }
	}
	return b
}

func (mutant pingMutant) run(t *testing.T, id string) CheckResult {
	for _, c := range append(pingGroup.checks, silentPingGroup.checks...) {
		if c.id == id {
			r := &Recorder{}
			return c.verdict(t.Context(), RecorderFixture(r, mutant.broker(r)), checkTimeout)
		}
	}
	t.Fatalf("there is no check %s", id)
	return CheckResult{}
}

// Each of these faults is found by the check that is there for it, by what it does and not by a time-out, and a broker without one
// passes.
func TestPingMutantsAreCaught(t *testing.T) {
	for name, mutant := range pingMutants {
		t.Run(strings.ReplaceAll(name, " ", "-")+"/"+mutant.caught, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				got := mutant.run(t, mutant.caught)
				if got.Status != Failed || !strings.Contains(got.Error, mutant.says) {
					t.Errorf("of a broker that %s, the check %s says %q; want %q", name, mutant.caught, got.Error, mutant.says)
				}
				if got.TimedOut {
					t.Errorf("a broker that %s is caught by a time-out and nothing better: %s", name, got.Error)
				}
				time.Sleep(checkTimeout) // for a ping that is still under way
			})
		})
	}
	for _, id := range []string{"ping", "ping-silence"} {
		t.Run("right/"+id, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				if got := (pingMutant{}).run(t, id); got.Status != Passed {
					t.Errorf("%s says of a broker that is right: %s", id, got.Error)
				}
			})
		})
	}
}

// A Pinger whose fixture has no Freeze is not said to have been asked in a silence.
func TestPingsWithoutASilenceAreSaidToBeSo(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		report, err := VerifyBroker(t.Context(), func(context.Context) (BrokerFixture, error) {
			r := &Recorder{}
			f := RecorderFixture(r, pingMutants["answers pings by itself while their context lasts"].broker(r))
			f.Freeze = nil
			return f, nil
		})
		want := map[string]Status{"ping": Passed, "ping-silence": NotExercised}
		for _, c := range report.Checks {
			if status, ok := want[c.ID]; ok && c.Status != status {
				t.Errorf("%s says %s, want %s (%v)", c.ID, c.Status, status, err)
			}
		}
	})
}
