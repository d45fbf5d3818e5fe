package main

import (
	"context"
	"errors"
	"log/slog"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/lockstep-go/lockstep/config"
	"github.com/lockstep-go/lockstep/core"
)

// What a monitor saw is made up here: testdata/local sees most of it happen.
func TestProblemsOfWhatWasSeen(t *testing.T) {
	t.Parallel()
	away := errors.New("away")
	for name, tc := range map[string]struct {
		saw  sight
		want []string
	}{
		"nothing yet":    {sight{}, []string{"nothing is known yet"}},
		"all is well":    {sight{seen: true, stats: core.Stats{OldestAge: time.Minute}, brokers: map[string]error{"kafka": nil}}, nil},
		"no lease":       {sight{seen: true, lease: core.Lease{Expired: true}}, []string{"no relay holds the lease"}},
		"an old event":   {sight{seen: true, stats: core.Stats{OldestAge: 61 * time.Second}}, []string{"the oldest pending event is 1m1s old, which is more than max_pending_age (1m0s)"}},
		"no broker":      {sight{seen: true, brokers: map[string]error{"b": away, "a": away, "c": nil}}, []string{"the broker a cannot be reached: away", "the broker b cannot be reached: away"}},
		"no database":    {sight{seen: true, database: away}, []string{"the database is not usable: away"}},
		"what was older": {sight{seen: true, database: away, stats: core.Stats{OldestAge: time.Hour}, lease: core.Lease{Expired: true}}, []string{"the database is not usable: away"}},
	} {
		tc.saw.at = time.Now()
		m := &monitor{maxAge: time.Minute, now: tc.saw}
		if got := m.problems(); !slices.Equal(got, tc.want) {
			t.Errorf("%s: got %q, want %q", name, got, tc.want)
		}
	}
}

func TestWhatIsOldHasItsCause(t *testing.T) {
	t.Parallel()
	m := &monitor{maxAge: time.Minute, now: sight{seen: true, at: time.Now(), stats: core.Stats{OldestAge: 61 * time.Second}}}
	call := core.PublishReport{Messages: []core.Message{{Topic: "fine"}, {Topic: "waits"}, {Topic: "orders"}}}
	call.Results = []error{nil, core.ErrNotAttempted, errors.New("unknown topic")}
	m.published(call)
	call.Results = []error{nil, nil, nil}
	m.published(call)
	const want = `the oldest pending event is 1m1s old, which is more than max_pending_age (1m0s); 0s ago one of topic "orders" failed: unknown topic`
	if got := m.problems(); !slices.Equal(got, []string{want}) {
		t.Errorf("got %q, want %q", got, want)
	}
}

func TestLagLeavesOutWhatIsHeldBack(t *testing.T) {
	t.Parallel()
	now := time.Now()
	ago := func(age time.Duration) time.Time { return now.Add(-age) }
	delivered := func(at ...time.Time) (call core.PublishReport) {
		for _, at := range at {
			call.Messages, call.Results = append(call.Messages, core.Message{EnqueuedAt: at}), append(call.Results, nil)
		}
		return call
	}
	refused := delivered(ago(time.Second))
	refused.Results[0] = core.ErrUnavailable
	for name, tc := range map[string]struct {
		oldest time.Duration
		calls  []core.PublishReport
		want   time.Duration
	}{
		"nothing waits":               {0, []core.PublishReport{delivered(ago(time.Hour))}, 0},
		"nothing was delivered":       {time.Minute, nil, time.Minute},
		"one key is held, others go":  {time.Hour, []core.PublishReport{delivered(ago(time.Second))}, time.Second},
		"a retry does not set back":   {time.Hour, []core.PublishReport{delivered(ago(time.Second)), delivered(ago(time.Minute))}, time.Second},
		"the newest of a call counts": {time.Hour, []core.PublishReport{delivered(ago(time.Minute), ago(time.Second), ago(time.Minute))}, time.Second},
		"what is refused waits":       {time.Hour, []core.PublishReport{delivered(ago(time.Minute)), refused}, time.Minute},
		"after a quiet hour":          {time.Second, []core.PublishReport{delivered(ago(time.Hour))}, time.Second},
		"the database's clock leads":  {time.Second, []core.PublishReport{delivered(ago(-time.Second))}, 0},
		"no time of enqueuing":        {time.Minute, []core.PublishReport{delivered(time.Time{})}, time.Minute},
	} {
		m := &monitor{now: sight{seen: true, stats: core.Stats{OldestAge: tc.oldest}}}
		for _, call := range tc.calls {
			m.published(call)
		}
		if got := m.lag(now); got != tc.want {
			t.Errorf("%s: got %v, want %v", name, got, tc.want)
		}
	}
}

// awayDialect is a fake whose database is away.
type awayDialect struct{ config.Dialect }

func (awayDialect) Open(context.Context) (core.Session, error) { return nil, errors.New("away") }

// checkedBroker is a fake that is asked, and sends nothing.
type checkedBroker func()

func (checkedBroker) Publish(context.Context, []core.Message) error { return nil }

func (c checkedBroker) Check(context.Context, ...string) error {
	c()
	return nil
}

func TestACheckThatPanicsEndsNothing(t *testing.T) {
	t.Parallel()
	m := &monitor{
		dialect: awayDialect{}, maxAge: time.Minute, log: slog.New(slog.DiscardHandler),
		brokers: map[string]core.Broker{"a": checkedBroker(func() { panic("a third party's") })},
	}
	m.look(t.Context())
	want := []string{"the database is not usable: away", "the broker a cannot be reached: main.checkedBroker panicked: a third party's"}
	if got := m.problems(); !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
}

// A Check that ignores its context keeps the monitor from looking: what it saw last is not the truth for ever.
func TestWhatIsKnownGrowsOld(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		release, asked := make(chan struct{}), 0
		m := &monitor{
			dialect: awayDialect{}, maxAge: time.Minute, log: slog.New(slog.DiscardHandler),
			brokers: map[string]core.Broker{"a": checkedBroker(func() {
				if asked++; asked > 1 {
					<-release
				}
			})},
		}
		ctx, cancel := context.WithCancel(t.Context())
		go m.run(ctx)
		want := []string{"the database is not usable: away"}
		time.Sleep(sightLasts) // the bubble's clock
		synctest.Wait()
		if got := m.problems(); !slices.Equal(got, want) {
			t.Errorf("while the look is not too old: got %q, want %q", got, want)
		}
		time.Sleep(time.Second) // the bubble's clock
		want = append([]string{"what is known is 1m1s old: a broker's Check, or the database, does not return"}, want...)
		if got := m.problems(); !slices.Equal(got, want) {
			t.Errorf("when the look is too old: got %q, want %q", got, want)
		}
		cancel()
		close(release)
		synctest.Wait()
	})
}
