package core_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/lockstep-go/lockstep/core"
)

// table is a fake outbox in memory.
type table struct {
	core.Dialect
	mu      sync.Mutex
	records []core.Record
	fail    error // what Fetch returns instead of records
	opened  int
	closed  int
}

func newTable(keys ...string) *table {
	t := &table{}
	for i, key := range keys {
		t.records = append(t.records, core.Record{
			Position: int64(i + 1),
			Message:  core.Message{ID: fmt.Sprintf("%s%d", key, i+1), Topic: "t", Key: key},
		})
	}
	return t
}

func (t *table) Open(context.Context) (core.Session, error) { t.opened++; return tableSession{t}, nil }

func (t *table) left() []string {
	t.mu.Lock()
	defer t.mu.Unlock()
	ids := []string{}
	for _, r := range t.records {
		ids = append(ids, r.Message.ID)
	}
	return ids
}

type tableSession struct{ t *table }

func (s tableSession) Fetch(_ context.Context, limit int) ([]core.Record, error) {
	s.t.mu.Lock()
	defer s.t.mu.Unlock()
	return slices.Clone(s.t.records[:min(limit, len(s.t.records))]), s.t.fail
}

func (s tableSession) Acknowledge(ctx context.Context, refs []core.Ref) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	s.t.mu.Lock()
	defer s.t.mu.Unlock()
	s.t.records = slices.DeleteFunc(s.t.records, func(r core.Record) bool { return slices.Contains(refs, r.Ref()) })
	return nil
}

func (s tableSession) Close() error { s.t.closed++; return nil }

// brokerFunc is a fake broker.
type brokerFunc func(ctx context.Context, msgs []core.Message) error

func (f brokerFunc) Publish(ctx context.Context, msgs []core.Message) error { return f(ctx, msgs) }

func ids(msgs []core.Message) string {
	var s []string
	for _, m := range msgs {
		s = append(s, m.ID)
	}
	return strings.Join(s, " ")
}

func relay(t *testing.T, d core.Dialect, b core.Broker) *core.Relay {
	t.Helper()
	r, err := core.NewRelay(d, b, core.RelayConfig{})
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func TestRelayPutsOneMessageOfAKeyIntoACall(t *testing.T) {
	d := newTable("a", "a", "b", "", "", "a", "b")
	var calls []string

	err := relay(t, d, brokerFunc(func(_ context.Context, msgs []core.Message) error {
		calls = append(calls, ids(msgs))
		return nil
	})).RunOnce(t.Context())
	if err != nil {
		t.Fatal(err)
	}

	want := []string{"a1 b3 4 5", "a2 b7", "a6"}
	if !slices.Equal(calls, want) {
		t.Errorf("calls: got %q, want %q", calls, want)
	}
	if left := d.left(); len(left) != 0 {
		t.Errorf("left in the outbox: %q, want nothing", left)
	}
	if d.opened != 1 || d.closed != 1 {
		t.Errorf("sessions: %d opened, %d closed, want 1 and 1", d.opened, d.closed)
	}
}

func TestRelayHoldsBackOnlyTheKeyThatFailed(t *testing.T) {
	d := newTable("a", "b", "a", "b", "c")
	refused := errors.New("refused")
	var stored []string

	err := relay(t, d, brokerFunc(func(_ context.Context, msgs []core.Message) error {
		results := make([]error, len(msgs))
		for i, m := range msgs {
			if m.Key == "a" {
				results[i] = refused
			} else {
				stored = append(stored, m.ID)
			}
		}
		return &core.BatchError{Results: results}
	})).RunOnce(t.Context())

	if !errors.Is(err, refused) {
		t.Errorf("RunOnce: got %v, want the broker's error", err)
	}
	if want := []string{"b2", "c5", "b4"}; !slices.Equal(stored, want) {
		t.Errorf("stored: got %q, want %q", stored, want)
	}
	if left, want := d.left(), []string{"a1", "a3"}; !slices.Equal(left, want) {
		t.Errorf("left in the outbox: got %q, want %q", left, want)
	}
}

func TestRelayKeepsEverythingWhenTheFateIsUnknown(t *testing.T) {
	for name, unknown := range map[string]error{
		"plain error":  errors.New("connection closed"),
		"wrong length": &core.BatchError{Results: []error{nil}},
	} {
		t.Run(name, func(t *testing.T) {
			d := newTable("a", "b")
			err := relay(t, d, brokerFunc(func(context.Context, []core.Message) error { return unknown })).RunOnce(t.Context())
			if err == nil {
				t.Error("RunOnce: got nil, want the broker's error")
			}
			if left, want := d.left(), []string{"a1", "b2"}; !slices.Equal(left, want) {
				t.Errorf("left in the outbox: got %q, want %q", left, want)
			}
		})
	}
}

func TestRelayFinishesTheCallInFlightWhenItIsStopped(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newTable("a", "a", "b")
		ctx, stop := context.WithCancel(t.Context())

		err := relay(t, d, brokerFunc(func(ctx context.Context, _ []core.Message) error {
			stop()
			time.Sleep(time.Second) // the broker's answer takes its time, in synctest's clock
			return ctx.Err()
		})).Run(ctx)
		if err != nil {
			t.Errorf("Run: got %v, want nil", err)
		}

		if left, want := d.left(), []string{"a2"}; !slices.Equal(left, want) {
			t.Errorf("left in the outbox: got %q, want %q: what was published is acknowledged, and nothing more is begun", left, want)
		}
	})
}

func TestRelayEndsACallAtItsTimeout(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newTable("a")
		start := time.Now()
		err := relay(t, d, brokerFunc(func(ctx context.Context, _ []core.Message) error {
			<-ctx.Done()
			return ctx.Err()
		})).RunOnce(t.Context())
		if !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("RunOnce: got %v, want the deadline's error", err)
		}
		if took := time.Since(start); took != 30*time.Second {
			t.Errorf("the call ended after %v, want 30s", took)
		}
		if len(d.left()) != 1 {
			t.Error("a message that timed out has left the outbox")
		}
	})
}

func TestRelayGoesOnAfterAnOutage(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newTable("a", "b")
		start := time.Now()
		back := start.Add(10 * time.Minute)
		ctx, stop := context.WithCancel(t.Context())
		var delivered time.Time

		err := relay(t, d, brokerFunc(func(context.Context, []core.Message) error {
			if time.Now().Before(back) {
				return errors.New("broker away")
			}
			delivered = time.Now()
			stop()
			return nil
		})).Run(ctx)
		if err != nil {
			t.Errorf("Run: got %v, want nil", err)
		}

		if late := delivered.Sub(back); late < 0 || late > time.Second {
			t.Errorf("delivery resumed %v after the broker's return, want at most 1s", late)
		}
		if left := d.left(); len(left) != 0 {
			t.Errorf("left in the outbox: %q, want nothing", left)
		}
		if d.opened != d.closed {
			t.Errorf("sessions: %d opened, %d closed", d.opened, d.closed)
		}
	})
}

func TestRelayConfigNamesEveryBadField(t *testing.T) {
	_, err := core.NewRelay(newTable(), brokerFunc(nil), core.RelayConfig{PollInterval: -1, PublishTimeout: -1})
	for _, field := range []string{"PollInterval", "PublishTimeout"} {
		if err == nil || !strings.Contains(err.Error(), field) {
			t.Errorf("NewRelay: got %v, want an error that names %s", err, field)
		}
	}
}

// Outages that follow hard on one another must not add up to longer and longer waits.
func TestRelayForgetsAnOutageOnceItDelivers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var keys []string
		for i := range 40 {
			keys = append(keys, fmt.Sprint(i))
		}
		d := newTable(keys...)
		ctx, stop := context.WithCancel(t.Context())
		start, calls := time.Now(), 0

		err := relay(t, d, brokerFunc(func(_ context.Context, msgs []core.Message) error {
			calls++
			results := make([]error, len(msgs)) // one message is stored, then everything fails, and so on
			for i := range results {
				if i > 0 || calls%2 == 0 {
					results[i] = errors.New("broker away")
				}
			}
			if len(msgs) == 1 && results[0] == nil {
				stop()
			}
			return &core.BatchError{Results: results}
		})).Run(ctx)
		if err != nil {
			t.Fatal(err)
		}

		// Each of the 40 messages costs two waits, of 50 and 100 ms.
		if took := time.Since(start); took > 10*time.Second {
			t.Errorf("40 short outages took %v, want each to cost its first waits only", took)
		}
	})
}
