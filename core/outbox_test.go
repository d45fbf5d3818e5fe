package core_test

import (
	"context"
	"database/sql"
	"errors"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/lockstep-go/lockstep/core"
)

func TestEnqueueRefusesPools(t *testing.T) {
	dialect := &recordingDialect{}
	for name, tx := range map[string]core.Execer{"pool": &sql.DB{}, "nil": nil} {
		err := core.NewOutbox(dialect, core.OutboxConfig{}).Enqueue(t.Context(), tx, core.Message{Topic: "t"})
		if !errors.Is(err, core.ErrNotInTransaction) {
			t.Errorf("%s: got %v, want ErrNotInTransaction", name, err)
		}
	}
	if len(dialect.got) != 0 {
		t.Errorf("the dialect was given %d messages, want none", len(dialect.got))
	}
}

func TestEnqueueFillsEmptyIDsAndLeavesTheCallersMessagesAlone(t *testing.T) {
	dialect := &recordingDialect{}
	msgs := []core.Message{{Topic: "t"}, {Topic: "t", ID: "mine"}}

	if err := core.NewOutbox(dialect, core.OutboxConfig{}).Enqueue(t.Context(), noTx, msgs...); err != nil {
		t.Fatal(err)
	}

	if msgs[0].ID != "" {
		t.Errorf("the caller's message was given the id %q", msgs[0].ID)
	}
	if dialect.got[0].ID == "" || dialect.got[1].ID != "mine" {
		t.Errorf("ids: got %q and %q, want a new one and mine", dialect.got[0].ID, dialect.got[1].ID)
	}
}

func TestEnqueueOfNothingIsNothing(t *testing.T) {
	dialect := &recordingDialect{}
	if err := core.NewOutbox(dialect, core.OutboxConfig{}).Enqueue(t.Context(), noTx); err != nil || dialect.calls != 0 {
		t.Errorf("Enqueue: got %v after %d calls of the dialect, want nil after none", err, dialect.calls)
	}
}

func TestEnqueueKeepsTheOrderAndMakesOneCall(t *testing.T) {
	dialect := &recordingDialect{}
	var msgs []core.Message
	for _, id := range strings.Fields("c a b z y") {
		msgs = append(msgs, core.Message{ID: id, Topic: "t"})
	}
	if err := core.NewOutbox(dialect, core.OutboxConfig{}).Enqueue(t.Context(), noTx, msgs...); err != nil {
		t.Fatal(err)
	}
	if got := idsOf(dialect.got); got != "c a b z y" || dialect.calls != 1 {
		t.Errorf("the dialect was given %q in %d calls, want them in argument order in one", got, dialect.calls)
	}
}

func idsOf(msgs []core.Message) string {
	ids := make([]string, len(msgs))
	for i, m := range msgs {
		ids[i] = m.ID
	}
	return strings.Join(ids, " ")
}

func TestEnqueuePassesOnTheErrorOfTheDatabase(t *testing.T) {
	away := errors.New("connection reset")
	err := core.NewOutbox(&recordingDialect{err: away}, core.OutboxConfig{}).Enqueue(t.Context(), noTx, core.Message{Topic: "t"})
	if !errors.Is(err, away) {
		t.Errorf("Enqueue: got %v, want the database's error", err)
	}
}

func TestEnqueueGivesTheDialectTimesThatEveryDatabaseKeeps(t *testing.T) {
	dialect := &recordingDialect{}
	local := time.Date(2030, 1, 2, 3, 4, 5, 678_901_234, time.FixedZone("east", 3600))
	err := core.NewOutbox(dialect, core.OutboxConfig{}).Enqueue(t.Context(), noTx,
		core.Message{Topic: "t", NotBefore: local}, core.Message{Topic: "t"})
	if err != nil {
		t.Fatal(err)
	}
	if got, want := dialect.got[0].NotBefore, time.Date(2030, 1, 2, 2, 4, 5, 678_902_000, time.UTC); got != want {
		t.Errorf("NotBefore: got %v, want %v", got, want)
	}
	if got := dialect.got[1].NotBefore; !got.IsZero() {
		t.Errorf("NotBefore of a message that is not delayed: got %v, want the zero time", got)
	}
}

// lockingDialect notes its locks among its messages.
type lockingDialect struct {
	recordingDialect
	lockErr error
}

func (d *lockingDialect) LockKeys(_ context.Context, _ core.Execer, msgs []core.Message) error {
	for _, m := range msgs {
		d.got = append(d.got, core.Message{ID: "lock:" + m.Key})
	}
	return d.lockErr
}

// wrappedDialect has no ability of its own.
type wrappedDialect struct {
	core.Dialect
	inner core.Dialect
}

func (d wrappedDialect) Enqueue(ctx context.Context, tx core.Execer, msgs []core.Message) error {
	return d.inner.Enqueue(ctx, tx, msgs)
}
func (d wrappedDialect) Unwrap() core.Dialect { return d.inner }

func TestEnqueueLocksKeysFirst(t *testing.T) {
	for name, wrap := range map[string]func(core.Dialect) core.Dialect{
		"plain":   func(d core.Dialect) core.Dialect { return d },
		"wrapped": func(d core.Dialect) core.Dialect { return wrappedDialect{inner: d} },
	} {
		dialect := &lockingDialect{}
		outbox := core.NewOutbox(wrap(dialect), core.OutboxConfig{LockKeys: true})
		err := outbox.Enqueue(t.Context(), noTx, core.Message{ID: "1", Topic: "t", Key: "b"}, core.Message{ID: "2", Topic: "t", Key: "a"})
		if err != nil {
			t.Fatal(err)
		}
		if got, want := idsOf(dialect.got), "lock:b lock:a 1 2"; got != want {
			t.Errorf("%s: the dialect did %q, want %q", name, got, want)
		}
	}
}

func TestEnqueueLocksKeysOnlyWhenAsked(t *testing.T) {
	dialect := &lockingDialect{}
	if err := core.NewOutbox(dialect, core.OutboxConfig{}).Enqueue(t.Context(), noTx, core.Message{ID: "1", Topic: "t"}); err != nil {
		t.Fatal(err)
	}
	if got := idsOf(dialect.got); got != "1" {
		t.Errorf("the dialect did %q, want the insert alone", got)
	}
}

func TestEnqueueDoesNotInsertWithoutItsLock(t *testing.T) {
	busy := errors.New("lock wait time-out")
	dialect := &lockingDialect{lockErr: busy}
	err := core.NewOutbox(dialect, core.OutboxConfig{LockKeys: true}).Enqueue(t.Context(), noTx, core.Message{ID: "1", Topic: "t", Key: "k"})
	if !errors.Is(err, busy) {
		t.Errorf("Enqueue: got %v, want the lock's error", err)
	}
	if got := idsOf(dialect.got); got != "lock:k" {
		t.Errorf("the dialect did %q, want the lock alone", got)
	}
}

func TestLockKeysNeedsADialectThatCan(t *testing.T) {
	for name, dialect := range map[string]core.Dialect{
		"plain":   &recordingDialect{},
		"wrapped": wrappedDialect{inner: &recordingDialect{}},
	} {
		outbox := core.NewOutbox(dialect, core.OutboxConfig{LockKeys: true})
		if err := outbox.Enqueue(t.Context(), noTx, core.Message{Topic: "t"}); !errors.Is(err, core.ErrNoKeyLocks) {
			t.Errorf("%s: Enqueue: got %v, want ErrNoKeyLocks", name, err)
		}
		script := &scriptedDB{}
		err := outbox.InTx(t.Context(), openScripted(t, script), core.InTxOptions{}, place)
		if !errors.Is(err, core.ErrNoKeyLocks) {
			t.Errorf("%s: InTx: got %v, want ErrNoKeyLocks", name, err)
		}
		expectLog(t, script, "")
	}
}

const traceparent = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"

func TestTraceContextIsAddedWhereThereIsNone(t *testing.T) {
	trace := map[string]string{"traceparent": traceparent, "tracestate": "a=1"}
	full := map[string]string{"long": strings.Repeat("x", core.MaxHeadersBytes-len("long"))}
	tests := []struct {
		name        string
		trace       map[string]string
		given, want map[string]string
	}{
		{"no headers", trace, nil, trace},
		{"other headers", trace, map[string]string{"h": "v"}, map[string]string{"h": "v", "traceparent": traceparent, "tracestate": "a=1"}},
		{"a traceparent of its own", trace, map[string]string{"traceparent": "own"}, map[string]string{"traceparent": "own"}},
		{"spelled otherwise", trace, map[string]string{"Traceparent": "own"}, map[string]string{"Traceparent": "own"}},
		{"the same header", map[string]string{"traceparent": traceparent, "baggage": "a=1"}, map[string]string{"baggage": "own"},
			map[string]string{"traceparent": traceparent, "baggage": "own"}},
		{"no trace", nil, map[string]string{"h": "v"}, map[string]string{"h": "v"}},
		{"no room", trace, full, full},
		{"not a header", map[string]string{"traceparent": "\x00"}, map[string]string{"h": "v"}, map[string]string{"h": "v"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			dialect, calls := &recordingDialect{}, 0
			given := maps.Clone(tt.given)
			outbox := core.NewOutbox(dialect, core.OutboxConfig{TraceContext: func(ctx context.Context) map[string]string {
				calls++
				if ctx != t.Context() {
					t.Error("TraceContext was given another context than Enqueue")
				}
				return tt.trace
			}})
			err := outbox.Enqueue(t.Context(), noTx, core.Message{Topic: "t", Headers: given}, core.Message{Topic: "t", Headers: given})
			if err != nil {
				t.Fatal(err)
			}
			for i, m := range dialect.got {
				if !maps.Equal(m.Headers, tt.want) {
					t.Errorf("message %d: headers are %v, want %v", i, m.Headers, tt.want)
				}
			}
			if !maps.Equal(given, tt.given) {
				t.Errorf("the caller's headers are now %v", given)
			}
			if calls != 1 {
				t.Errorf("TraceContext was called %d times, want once", calls)
			}
		})
	}
	if len(trace) != 2 {
		t.Errorf("the map that TraceContext returned is now %v", trace)
	}
}

func TestExecFuncPassesQueryAndArgumentsOn(t *testing.T) {
	refused := errors.New("refused")
	var got []any
	result, err := core.ExecFunc(func(_ context.Context, query string, args ...any) error {
		got = append([]any{query}, args...)
		return refused
	}).ExecContext(t.Context(), "INSERT", 1, "a")
	if result != nil || err != refused { //nolint:errorlint // as it is, not wrapped
		t.Errorf("ExecContext: got %v, %v, want nil and the function's error", result, err)
	}
	if want := []any{"INSERT", 1, "a"}; !slices.Equal(got, want) {
		t.Errorf("the function was given %v, want %v", got, want)
	}
}
