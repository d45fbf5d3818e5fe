package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync/atomic"
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
		m := &monitor{maxAge: time.Minute, now: tc.saw}
		if got := m.problems(); !slices.Equal(got, tc.want) {
			t.Errorf("%s: got %q, want %q", name, got, tc.want)
		}
	}
}

func TestWhatIsOldHasItsCause(t *testing.T) {
	t.Parallel()
	m := &monitor{maxAge: time.Minute, now: sight{seen: true, stats: core.Stats{OldestAge: 61 * time.Second}}}
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

// hungDialect is a fake whose database never answers, and whose driver ignores its context.
type hungDialect struct {
	config.Dialect
	release chan struct{}
}

func (h hungDialect) Open(context.Context) (core.Session, error) {
	<-h.release
	return nil, errors.New("away")
}

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

// A Check that ignores its context, for ever or for long, delays no other look: what is seen of the rest stays the truth. It is
// not asked again before it has returned, and what it then says is too old to be believed.
func TestALookThatDoesNotReturnStandsByItself(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		release := make(chan struct{})
		var hung, others atomic.Int64
		m := &monitor{
			dialect: awayDialect{}, maxAge: time.Minute, log: slog.New(slog.DiscardHandler),
			brokers: map[string]core.Broker{
				"hangs": checkedBroker(func() { hung.Add(1); <-release }),
				"other": checkedBroker(func() { others.Add(1) }),
			},
		}
		ctx, cancel := context.WithCancel(t.Context())
		go m.run(ctx)
		const database = "the database is not usable: away"
		expect := func(when string, hangs string) {
			t.Helper()
			time.Sleep(time.Minute) // the bubble's clock
			synctest.Wait()
			want := []string{database}
			if hangs != "" {
				want = append(want, "the broker hangs cannot be reached: "+hangs)
			}
			if got := m.problems(); !slices.Equal(got, want) {
				t.Errorf("%s: got %q, want %q", when, got, want)
			}
		}
		const words = "it has not answered for %v, and does not notice that its time is over: if it stays like that, restart the relay"
		expect("a minute", fmt.Sprintf(words, "56s")) // as of the last look
		if hung.Load() != 1 || others.Load() < 10 {
			t.Errorf("in a minute the one that hangs was asked %d times, and the other one %d times: want once, and 10 times at least", hung.Load(), others.Load())
		}
		release <- struct{}{} // and hangs again
		expect("released once", fmt.Sprintf(words, "56s"))
		close(release)
		expect("released", "")
		cancel()
		synctest.Wait()
	})
}

// A relay that is to stop does not wait for a Check, or a database, that never returns.
func TestTheMonitorEndsBesideWhatDoesNot(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		release := make(chan struct{})
		m := &monitor{
			dialect: hungDialect{release: release}, maxAge: time.Minute, log: slog.New(slog.DiscardHandler),
			brokers: map[string]core.Broker{"a": checkedBroker(func() { <-release })},
		}
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan struct{})
		go func() { defer close(ended); m.run(ctx) }()
		synctest.Wait() // it has asked
		cancel()
		began := time.Now()
		<-ended // or the bubble is deadlocked
		if took := time.Since(began); took > leaveAfter {
			t.Errorf("it ended %v after it was told to, want %v at most", took, leaveAfter)
		}
		close(release)
	})
}
