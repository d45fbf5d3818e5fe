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

// fixtureMistakes are fixtures that are wrong in one way, and what is said of them.
var fixtureMistakes = map[string]struct {
	says  string
	spoil func(f *BrokerFixture)
}{
	"no Broker":          {"it lacks BrokerFixture.Broker", func(f *BrokerFixture) { f.Broker = nil }},
	"no Topic":           {"it lacks BrokerFixture.Topic", func(f *BrokerFixture) { f.Topic = "" }},
	"no Read, no Topic":  {"it lacks BrokerFixture.Topic, BrokerFixture.Read", func(f *BrokerFixture) { f.Read, f.Topic = nil, "" }},
	"half another topic": {"go together", func(f *BrokerFixture) { f.ReadOther = nil }},
	"one topic for both": {"must be another one", func(f *BrokerFixture) { f.OtherTopic = f.Topic }},
	"a Read that does not wait": {"returned 0 messages and no error", func(f *BrokerFixture) {
		stored := f.Stored
		f.Read = func(ctx context.Context, _ int) ([]core.Message, error) { return stored(ctx) }
	}},
	"a Read that is deaf": {"has not returned 2s after its context ended", func(f *BrokerFixture) {
		f.Read = func(context.Context, int) ([]core.Message, error) {
			time.Sleep(time.Hour) // the bubble's clock
			return nil, errors.New("nothing came")
		}
	}},
	"a Read that finds nothing": {"no consumer", func(f *BrokerFixture) {
		f.Stored = nil
		f.Read = func(context.Context, int) ([]core.Message, error) { return nil, errors.New("no consumer") }
	}},
	"a Read that panics": {"it panicked: no consumer", func(f *BrokerFixture) {
		f.Read = func(context.Context, int) ([]core.Message, error) { panic("no consumer") }
	}},
	"a Read that gives its messages away": {"it may be called again", func(f *BrokerFixture) {
		stored, from := f.Stored, 0
		f.Stored = nil
		f.Read = func(ctx context.Context, n int) ([]core.Message, error) {
			msgs, err := stored(ctx)
			if err != nil || len(msgs) == 0 {
				return nil, errors.New("nothing came")
			}
			some := append(msgs[min(from, len(msgs)-1):], msgs...)
			from = len(msgs)
			return some[:n], nil
		}
	}},
	"a topic in use": {"has to be empty", func(f *BrokerFixture) {
		_ = f.publish(context.Background(), core.Message{ID: "of another check"})
	}},
	"a topic in use, without Stored": {"has to be empty", func(f *BrokerFixture) {
		f.Stored = nil
		_ = f.publish(context.Background(), core.Message{ID: "of another check"})
	}},
}

func TestFixtureMistakesAreTold(t *testing.T) {
	for name, mistake := range fixtureMistakes {
		t.Run(strings.ReplaceAll(name, " ", "-"), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r := &Recorder{}
				f := RecorderFixture(r, r)
				mistake.spoil(&f)
				for _, g := range brokerGroups {
					if !g.ofFixture {
						continue
					}
					got := g.checks[0].verdict(t.Context(), f, checkTimeout)
					if got.Status != Failed || !strings.Contains(got.Error, mistake.says) || got.TimedOut {
						t.Errorf("of a fixture with %s the check says %q (timed out: %v); want %q", name, got.Error, got.TimedOut, mistake.says)
					}
				}
				time.Sleep(2 * time.Hour) // for a Read that is deaf
			})
		})
	}
}

// One field is missing: one check says so, and the others were not run.
func TestAFixtureWithoutReadFailsOnce(t *testing.T) {
	report, err := VerifyBroker(t.Context(), func(context.Context) (BrokerFixture, error) {
		r := &Recorder{}
		f := RecorderFixture(r, r)
		f.Read = nil
		return f, nil
	})
	if err == nil || !strings.Contains(err.Error(), "lacks BrokerFixture.Read") || report.Count(Failed) != 1 || report.Count(Passed) != 0 {
		t.Errorf("got %v and\n%s, want one failure, which names the field", err, report)
	}
}

// A topic that all checks share is told by every one that finds it in use.
func TestATopicThatIsSharedIsTold(t *testing.T) {
	r := &Recorder{}
	report, _ := VerifyBroker(t.Context(), func(context.Context) (BrokerFixture, error) { return RecorderFixture(r, r), nil })
	for _, c := range report.Checks[1:] {
		if c.Status == Failed && !strings.Contains(c.Error, "has to be empty") {
			t.Errorf("%s: got %q, want that the topic is not empty", c.ID, c.Error)
		}
	}
	if report.Count(Failed) == 0 {
		t.Error("nothing was said of a shared topic")
	}
}

// Without Stored, what is missing is found by asking Read for less.
func TestWhatIsMissingIsFoundByRead(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := &Recorder{}
		f := RecorderFixture(r, r)
		f.Stored = nil
		read := f.Read
		f.Read = func(ctx context.Context, n int) ([]core.Message, error) { // as a consumer does, that waits
			msgs, err := read(ctx, n)
			if err != nil {
				<-ctx.Done()
			}
			return msgs, err
		}
		var ids []string
		for n := range 100 {
			m := numbered(0, n, 0)
			ids = append(ids, m.ID)
			if n%10 == 5 {
				continue
			}
			if err := f.publish(t.Context(), m); err != nil {
				t.Fatal(err)
			}
		}
		began := time.Now()
		_, err := f.exactly(t.Context(), ids)
		if err == nil || !strings.Contains(err.Error(), `"0/5", "0/15"`) || !strings.Contains(err.Error(), "among the 90 stored") {
			t.Errorf("got %v, want that ten of a hundred are missing", err)
		}
		if took := time.Since(began); took > missing+probes {
			t.Errorf("that took %v", took)
		}
	})
}

// A Poison that panics, or ends its goroutine, fails the checks that it adds, and not the whole run.
func TestAPoisonThatPanicsIsTold(t *testing.T) {
	report, err := VerifyBroker(t.Context(), func(context.Context) (BrokerFixture, error) {
		r := &Recorder{}
		f := RecorderFixture(r, r.Client(ClientConfig{KeyOrdered: true}))
		f.Poison = func(core.Message) core.Message { panic("no poison at hand") }
		return f, nil
	})
	if err == nil {
		t.Error("a Poison panicked, and there is no error")
	}
	poisons := map[string]bool{"poison-permanent": true, "poisons-in-a-call": true, "results-by-message": true, "keys-behind-a-poison": true}
	for _, c := range report.Checks {
		told := c.Status == Failed && strings.Contains(c.Error, "it panicked: no poison at hand")
		if told != poisons[c.ID] || c.Status == Failed && !told {
			t.Errorf("%s: got %s, %.100s", c.ID, c.Status, c.Error)
		}
	}
}
