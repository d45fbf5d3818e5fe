package core_test

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"fmt"
	"runtime"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/lockstep-go/lockstep/core"
)

// statingDialect is a fake: it writes each message as a statement that says its id, and takes errDeadlock for a reason to
// run again.
type statingDialect struct{ core.Dialect }

var errDeadlock = errors.New("deadlock")

func (statingDialect) Enqueue(ctx context.Context, tx core.Execer, msgs []core.Message) error {
	for _, m := range msgs {
		if _, err := tx.ExecContext(ctx, "EVENT "+m.ID); err != nil {
			return err
		}
	}
	return nil
}

func (statingDialect) Retryable(err error) bool { return errors.Is(err, errDeadlock) }

// sqlStateError is what drivers that know SQLSTATE return.
type sqlStateError string

func (e sqlStateError) Error() string    { return "server says " + string(e) }
func (e sqlStateError) SQLState() string { return string(e) }

var errOfFunction = errors.New("no such customer")

// place is a function for InTx that writes an order and returns its event.
func place(ctx context.Context, tx *sql.Tx) ([]core.Message, error) {
	_, err := tx.ExecContext(ctx, "ORDER")
	return []core.Message{{ID: "event", Topic: "orders"}}, err
}

func inTx(ctx context.Context, db core.Beginner, retries int, fn func(context.Context, *sql.Tx) ([]core.Message, error)) error {
	return core.NewOutbox(statingDialect{}, core.OutboxConfig{}).InTx(ctx, db, core.InTxOptions{Retries: retries}, fn)
}

func expectLog(t *testing.T, db *scriptedDB, want string) {
	t.Helper()
	if got := strings.Join(db.noted(), ", "); got != want {
		t.Errorf("the database was asked to\n%s, want\n%s", got, want)
	}
}

func TestInTxEnqueuesLast(t *testing.T) {
	script := &scriptedDB{}
	db := openScripted(t, script)
	conn, err := db.Conn(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	for _, b := range []core.Beginner{db, conn} {
		script.log = nil
		if err := inTx(t.Context(), b, 0, place); err != nil {
			t.Errorf("%T: InTx: got %v, want nil", b, err)
		}
		expectLog(t, script, "BEGIN, ORDER, EVENT event, COMMIT")
	}
}

func TestInTxRollsBack(t *testing.T) {
	tests := map[string]struct {
		result []core.Message
		err    error
		want   error
	}{
		"the function's error":             {nil, errOfFunction, errOfFunction},
		"the function's error, and events": {[]core.Message{{Topic: "t"}}, errOfFunction, errOfFunction},
		"nil events":                       {nil, nil, core.ErrNoEvents},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			script := &scriptedDB{}
			err := inTx(t.Context(), openScripted(t, script), 3, func(context.Context, *sql.Tx) ([]core.Message, error) {
				return tt.result, tt.err
			})
			if err != tt.want { //nolint:errorlint // as it is, not wrapped
				t.Errorf("InTx: got %v, want %v as it is", err, tt.want)
			}
			expectLog(t, script, "BEGIN, ROLLBACK")
		})
	}
}

func TestInTxRollsBackWhatCannotBeEnqueued(t *testing.T) {
	script := &scriptedDB{}
	err := inTx(t.Context(), openScripted(t, script), 3, func(context.Context, *sql.Tx) ([]core.Message, error) {
		return []core.Message{{ID: "good", Topic: "t"}, {ID: "bad"}}, nil
	})
	var fault *core.MessageError
	if !errors.As(err, &fault) || fault.Index != 1 {
		t.Errorf("InTx: got %v, want a *MessageError for message 1", err)
	}
	expectLog(t, script, "BEGIN, ROLLBACK")
}

func TestInTxCommitsNoEvents(t *testing.T) {
	script := &scriptedDB{}
	err := inTx(t.Context(), openScripted(t, script), 0, func(context.Context, *sql.Tx) ([]core.Message, error) {
		return core.NoEvents, nil
	})
	if err != nil {
		t.Errorf("InTx: got %v, want nil", err)
	}
	expectLog(t, script, "BEGIN, COMMIT")
}

// Nobody who starts from NoEvents may change what it is for everybody else.
func TestNoEventsCanBeAppendedTo(t *testing.T) {
	events := core.NoEvents
	events = append(events, core.Message{Topic: "t"})
	if len(events) != 1 || cap(core.NoEvents) != 0 {
		t.Errorf("append: got %v, and NoEvents has room for %d", events, cap(core.NoEvents))
	}
}

func TestInTxRollsBackAndPanicsOn(t *testing.T) {
	script := &scriptedDB{}
	db := openScripted(t, script)
	defer func() {
		if got := recover(); got != "boom" {
			t.Errorf("recovered %v, want the function's panic", got)
		}
		expectLog(t, script, "BEGIN, ROLLBACK")
	}()
	err := inTx(t.Context(), db, 3, func(context.Context, *sql.Tx) ([]core.Message, error) { panic("boom") })
	t.Errorf("InTx returned %v, want a panic", err)
}

// What t.FailNow does in an application's test.
func TestInTxRollsBackWhenTheGoroutineExits(t *testing.T) {
	script := &scriptedDB{}
	db := openScripted(t, script)
	done := make(chan struct{})
	go func() {
		defer close(done)
		err := inTx(t.Context(), db, 3, func(context.Context, *sql.Tx) ([]core.Message, error) {
			runtime.Goexit()
			return nil, nil
		})
		t.Errorf("InTx returned %v, want no return", err)
	}()
	<-done
	expectLog(t, script, "BEGIN, ROLLBACK")
}

func TestInTxRunsAgainOnlyWhenAsked(t *testing.T) {
	for retries, want := range []string{
		"BEGIN, ROLLBACK",
		"BEGIN, ROLLBACK, BEGIN, ORDER, EVENT event, COMMIT",
		"BEGIN, ROLLBACK, BEGIN, ORDER, EVENT event, COMMIT, BEGIN, ORDER, EVENT event, COMMIT",
	} {
		synctest.Test(t, func(t *testing.T) {
			script := &scriptedDB{commits: []error{errDeadlock}}
			db := openScripted(t, script)
			defer db.Close()
			runs := 0
			err := inTx(t.Context(), db, retries, func(ctx context.Context, tx *sql.Tx) ([]core.Message, error) {
				if runs++; runs == 1 {
					return nil, fmt.Errorf("update stock: %w", errDeadlock)
				}
				return place(ctx, tx)
			})
			if succeeds := retries == 2; (err == nil) != succeeds || !succeeds && !errors.Is(err, errDeadlock) {
				t.Errorf("%d retries: InTx: got %v", retries, err)
			}
			if errors.Is(err, core.ErrCommitUnknown) {
				t.Errorf("%d retries: a deadlock at COMMIT is reported as unknown: %v", retries, err)
			}
			expectLog(t, script, want)
		})
	}
}

func TestInTxRunsAgainAfterADeadlockAtBegin(t *testing.T) {
	script := &scriptedDB{begins: []error{errDeadlock}}
	if err := inTx(t.Context(), openScripted(t, script), 1, place); err != nil {
		t.Errorf("InTx: got %v, want nil", err)
	}
	expectLog(t, script, "BEGIN, BEGIN, ORDER, EVENT event, COMMIT")
}

func TestInTxPausesBetweenRuns(t *testing.T) {
	// The pauses are drawn from 0 to a bound that doubles up to 1 s: half of the bounds is what they come to.
	for _, tt := range []struct {
		calls, retries int
		want           time.Duration
	}{
		{1000, 1, 5 * time.Second},
		{100, 7, 63 * time.Second},
		{1, 200, 97 * time.Second},
	} {
		synctest.Test(t, func(t *testing.T) {
			db := openScripted(t, &scriptedDB{})
			defer db.Close()
			start := time.Now()
			for range tt.calls {
				runs := 0
				err := inTx(t.Context(), db, tt.retries, func(context.Context, *sql.Tx) ([]core.Message, error) {
					runs++
					return nil, errDeadlock
				})
				if !errors.Is(err, errDeadlock) || runs != tt.retries+1 {
					t.Fatalf("InTx: got %v after %d runs, want the deadlock after %d", err, runs, tt.retries+1)
				}
			}
			if took := time.Since(start); took < tt.want*7/10 || took > tt.want*13/10 {
				t.Errorf("%d times %d pauses took %v, want about %v", tt.calls, tt.retries, took, tt.want)
			}
		})
	}
}

func TestInTxPausesNoLongerThanItsContext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		db := openScripted(t, &scriptedDB{})
		defer db.Close()
		ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
		defer cancel()
		start := time.Now()
		err := inTx(ctx, db, 1_000_000, func(context.Context, *sql.Tx) ([]core.Message, error) { return nil, errDeadlock })
		if !errors.Is(err, errDeadlock) && !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("InTx: got %v, want the deadlock or the deadline", err)
		}
		if took := time.Since(start); took != 5*time.Second {
			t.Errorf("InTx returned after %v, want 5 s", took)
		}
	})
}

func TestInTxTellsAnUnknownCommitFromARollback(t *testing.T) {
	tests := []struct {
		answer  error
		unknown bool
	}{
		{errors.New("read: connection reset by peer"), true},
		{driver.ErrBadConn, true},
		{context.DeadlineExceeded, true}, // the driver's, while COMMIT was under way
		{context.Canceled, true},
		{sqlStateError("08006"), true}, // connection failure
		{sqlStateError("40003"), true}, // statement completion unknown
		{sqlStateError("57P01"), true}, // shutdown, possibly after the commit
		{sqlStateError("57014"), true}, // cancelled, possibly after the commit
		{sqlStateError("25P04"), true}, // transaction time-out, possibly after the commit
		{sqlStateError("XX000"), true},
		{sqlStateError(""), true},
		{sqlStateError("23505"), false}, // deferred unique constraint
		{sqlStateError("23503"), false}, // deferred foreign key
		{sqlStateError("22012"), false}, // division by zero in a deferred trigger
		{sqlStateError("P0001"), false}, // raised by a deferred trigger
		{sqlStateError("40001"), false}, // serialisation failure, here one that the dialect does not know
		{fmt.Errorf("wrapped: %w", sqlStateError("23505")), false},
		{errDeadlock, false},
		{sql.ErrTxDone, false},
	}
	for _, tt := range tests {
		t.Run(tt.answer.Error(), func(t *testing.T) {
			script := &scriptedDB{commits: []error{tt.answer}}
			err := inTx(t.Context(), openScripted(t, script), 0, place)
			if !errors.Is(err, tt.answer) {
				t.Errorf("InTx: got %v, which does not wrap %v", err, tt.answer)
			}
			if got := errors.Is(err, core.ErrCommitUnknown); got != tt.unknown {
				t.Errorf("InTx: got %v: unknown is %v, want %v", err, got, tt.unknown)
			}
		})
	}
}

func TestInTxNeverRunsAgainAfterAnUnknownCommit(t *testing.T) {
	unknown := errors.New("connection reset")
	script := &scriptedDB{commits: []error{unknown}}
	err := inTx(t.Context(), openScripted(t, script), 3, place)
	if !errors.Is(err, core.ErrCommitUnknown) || !errors.Is(err, unknown) {
		t.Errorf("InTx: got %v, want ErrCommitUnknown and its cause", err)
	}
	expectLog(t, script, "BEGIN, ORDER, EVENT event, COMMIT")
}

func TestInTxKnowsThatItDidNotSendCommit(t *testing.T) {
	script := &scriptedDB{}
	ctx, cancel := context.WithCancel(t.Context())
	err := inTx(ctx, openScripted(t, script), 3, func(ctx context.Context, tx *sql.Tx) ([]core.Message, error) {
		defer cancel()
		return core.NoEvents, nil
	})
	if !errors.Is(err, context.Canceled) || errors.Is(err, core.ErrCommitUnknown) {
		t.Errorf("InTx: got %v, want the context's error and no doubt", err)
	}
	if log := strings.Join(script.noted(), ", "); strings.Contains(log, "COMMIT") {
		t.Errorf("the database was asked to %s", log)
	}
}

func TestInTxDoesNotTrustADriverThatWasCutOff(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	script := &scriptedDB{commits: []error{context.Canceled}, onCommit: cancel}
	err := inTx(ctx, openScripted(t, script), 3, place)
	if !errors.Is(err, core.ErrCommitUnknown) || !errors.Is(err, context.Canceled) {
		t.Errorf("InTx: got %v, want ErrCommitUnknown and the context's error", err)
	}
}

func TestInTxReportsAFunctionThatEndsTheTransaction(t *testing.T) {
	script := &scriptedDB{}
	err := inTx(t.Context(), openScripted(t, script), 3, func(_ context.Context, tx *sql.Tx) ([]core.Message, error) {
		return core.NoEvents, tx.Rollback()
	})
	if !errors.Is(err, sql.ErrTxDone) || errors.Is(err, core.ErrCommitUnknown) {
		t.Errorf("InTx: got %v, want sql.ErrTxDone and no doubt", err)
	}
}

func TestInTxRefusesNegativeRetries(t *testing.T) {
	script := &scriptedDB{}
	if err := inTx(t.Context(), openScripted(t, script), -1, place); err == nil || !strings.Contains(err.Error(), "Retries") {
		t.Errorf("InTx: got %v, want an error that names Retries", err)
	}
	expectLog(t, script, "")
}

func TestInTxWakesTheRelaysAfterCommit(t *testing.T) {
	tests := map[string]struct {
		commit error
		fn     func(context.Context, *sql.Tx) ([]core.Message, error)
		want   int
	}{
		"committed":    {nil, place, 1},
		"unknown":      {errors.New("connection reset"), place, 1}, // the event may be there
		"rolled back":  {errDeadlock, place, 0},
		"not begun to": {nil, func(context.Context, *sql.Tx) ([]core.Message, error) { return nil, errOfFunction }, 0},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			waker := core.NewWaker()
			wakeups, cancel := waker.Subscribe()
			defer cancel()
			script := &scriptedDB{commits: []error{tt.commit}, onCommit: func() {
				if len(wakeups) != 0 {
					t.Error("the relays were woken before COMMIT: they find nothing")
				}
			}}
			db := openScripted(t, script)
			outbox := core.NewOutbox(statingDialect{}, core.OutboxConfig{Waker: waker})
			if err := outbox.InTx(t.Context(), db, core.InTxOptions{}, tt.fn); (err == nil) != (name == "committed") {
				t.Errorf("InTx: got %v", err)
			}
			if got := len(wakeups); got != tt.want {
				t.Errorf("the relays were woken %d times, want %d", got, tt.want)
			}
		})
	}
}

func TestEnqueueLeavesWakingToTheCaller(t *testing.T) {
	waker := core.NewWaker()
	wakeups, cancel := waker.Subscribe()
	defer cancel()
	outbox := core.NewOutbox(&recordingDialect{}, core.OutboxConfig{Waker: waker})
	if err := outbox.Enqueue(t.Context(), noTx, core.Message{Topic: "t"}); err != nil || len(wakeups) != 0 {
		t.Errorf("Enqueue: got %v and %d wake-ups, want neither: the transaction is open", err, len(wakeups))
	}
	if outbox.Wake(); len(wakeups) != 1 {
		t.Errorf("Wake: got %d wake-ups, want one", len(wakeups))
	}
}
