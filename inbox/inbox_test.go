package inbox_test

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"math"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/lockstep-go/lockstep/conformance"
	"github.com/lockstep-go/lockstep/core"
	"github.com/lockstep-go/lockstep/inbox"
)

const day = 24 * time.Hour

func TestRetentionCoversBrokerAndOutage(t *testing.T) {
	for name, tt := range map[string]struct {
		config inbox.Config
		says   string // empty: accepted
	}{
		"defaults":                {inbox.Config{}, ""},
		"more":                    {inbox.Config{Retention: 90 * day}, ""},
		"less than the defaults":  {inbox.Config{Retention: 13 * day}, "BrokerRetention 168h0m0s + LongestOutage 168h0m0s"},
		"less, and why":           {inbox.Config{BrokerRetention: day, LongestOutage: 2 * day, Retention: 3 * day}, ""},
		"less than it says":       {inbox.Config{BrokerRetention: day, LongestOutage: 2 * day, Retention: 3*day - 1}, "Retention"},
		"a broker that keeps":     {inbox.Config{BrokerRetention: 30 * day, Retention: 30 * day}, "Retention"},
		"negative":                {inbox.Config{Retention: -1}, "Retention is -1ns"},
		"for good, a broker":      {inbox.Config{BrokerRetention: math.MaxInt64}, "BrokerRetention is 2562047h47m16.854775807s: it must be at most"},
		"for good, an outage":     {inbox.Config{LongestOutage: math.MaxInt64}, "LongestOutage is"},
		"for good":                {inbox.Config{Retention: math.MaxInt64}, "never purge"},
		"a sum that overflows":    {inbox.Config{BrokerRetention: 100_000 * day, LongestOutage: 100_000 * day, Retention: 1}, "BrokerRetention"},
		"the most of both":        {inbox.Config{BrokerRetention: 36_500 * day, LongestOutage: 36_500 * day}, ""},
		"several, all at a time":  {inbox.Config{BrokerRetention: -1, LongestOutage: -1}, "LongestOutage"},
		"several, the first also": {inbox.Config{BrokerRetention: -1, LongestOutage: -1}, "BrokerRetention"},
	} {
		err := tt.config.Validate()
		if tt.says == "" && err != nil || tt.says != "" && (err == nil || !strings.Contains(err.Error(), tt.says)) {
			t.Errorf("%s: got %v, want an error that says %q", name, err, tt.says)
		}
	}
}

func TestOnceRefusesWhatItCannotTellApart(t *testing.T) {
	l := newLedger(t)
	db := l.dialect.DB()
	if _, err := l.box.Once(t.Context(), db, "c", "a"); !errors.Is(err, core.ErrNotInTransaction) {
		t.Errorf("Once on a pool: got %v, want ErrNotInTransaction", err)
	}
	if _, err := l.box.Once(t.Context(), nil, "c", "a"); !errors.Is(err, core.ErrNotInTransaction) {
		t.Errorf("Once without a transaction: got %v, want ErrNotInTransaction", err)
	}
	tx, err := db.BeginTx(t.Context(), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer tx.Rollback()
	for name, tt := range map[string]struct {
		consumer, id string
		idFault      bool
	}{
		"no id":       {"c", "", true},
		"long id":     {"c", strings.Repeat("x", 256), true},
		"NUL":         {"c", "a\x00", true},
		"no UTF-8":    {"c", "a\xff", true},
		"no consumer": {"", "a", false},
		"a long one":  {strings.Repeat("x", 256), "a", false},
	} {
		first, err := l.box.Once(t.Context(), tx, tt.consumer, tt.id)
		if err == nil || first || errors.Is(err, inbox.ErrID) != tt.idFault {
			t.Errorf("%s: got %t, %v, want an error, and ErrID = %t", name, first, err, tt.idFault)
		}
	}
	if first, err := l.box.Once(t.Context(), tx, "c", "a"); err != nil || !first {
		t.Errorf("after what was refused: got %t, %v, want true", first, err)
	}
}

// Names and ids reach the dialect as they are: each pair is a message of its own.
func TestOnceTellsNamesAndIDsApart(t *testing.T) {
	l := newLedger(t)
	tx, err := l.dialect.DB().BeginTx(t.Context(), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer tx.Rollback()
	for _, want := range []bool{true, false} {
		for _, consumer := range []string{"billing", "Billing", "billing ", "shipping"} {
			for _, id := range []string{"a", "A", "a ", " a"} {
				if first, err := l.box.Once(t.Context(), tx, consumer, id); err != nil || first != want {
					t.Errorf("Once for %q and %q: got %t, %v, want %t", consumer, id, first, err, want)
				}
			}
		}
	}
}

func TestNewRefusesTooShortARetention(t *testing.T) {
	memory := conformance.NewMemory(conformance.MemoryConfig{})
	if _, err := inbox.New(memory, inbox.Config{Retention: time.Hour}); err == nil || !strings.Contains(err.Error(), "Retention is 1h0m0s") {
		t.Errorf("got %v, want an error about the retention", err)
	}
}

func TestNewRefusesADialectWithoutAnInbox(t *testing.T) {
	if _, err := inbox.New(struct{ core.Dialect }{}, inbox.Config{}); err == nil || !strings.Contains(err.Error(), "InboxStore") {
		t.Errorf("got %v, want an error that says what is missing", err)
	}
	if _, err := inbox.New(wrapper{conformance.NewMemory(conformance.MemoryConfig{})}, inbox.Config{}); err != nil {
		t.Errorf("a wrapper of a dialect with an inbox: %v", err)
	}
}

type wrapper struct{ core.Dialect }

func (w wrapper) Unwrap() core.Dialect { return w.Dialect }

func TestHandleCommitsOnceOrNothing(t *testing.T) {
	l := newLedger(t)
	db := l.dialect.DB()
	fault := errors.New("out of stock")
	var failed *inbox.EffectError
	err := l.box.Handle(t.Context(), db, "c", "a", func(ctx context.Context, tx *sql.Tx) error {
		return errors.Join(add(ctx, tx, "a"), fault)
	})
	if !errors.Is(err, fault) || !errors.As(err, &failed) {
		t.Errorf("a failed effect: got %v, want it in an EffectError", err)
	}
	func() {
		defer func() {
			if recover() == nil {
				t.Error("the effect's panic ended in Handle")
			}
		}()
		_ = l.box.Handle(t.Context(), db, "c", "a", func(ctx context.Context, tx *sql.Tx) error {
			if err := add(ctx, tx, "a"); err != nil {
				t.Error(err)
			}
			panic("at the disco")
		})
	}()
	ctx, cancel := context.WithCancel(t.Context())
	err = l.box.Handle(ctx, db, "c", "a", func(ctx context.Context, tx *sql.Tx) error {
		defer cancel()
		return add(ctx, tx, "a")
	})
	if blamed := new(inbox.EffectError); !errors.Is(err, context.Canceled) || errors.As(err, &blamed) {
		t.Errorf("a context that ended before COMMIT: got %v", err)
	}
	if n := l.times(t, "a"); n != 0 {
		t.Fatalf("the effect happened %d times, want none yet", n)
	}
	for range 3 {
		if err := l.box.Handle(t.Context(), db, "c", "a", func(ctx context.Context, tx *sql.Tx) error { return add(ctx, tx, "a") }); err != nil {
			t.Fatal(err)
		}
	}
	if n := l.times(t, "a"); n != 1 {
		t.Errorf("the effect happened %d times, want once", n)
	}
}

// Who begins transactions need not tie them to the context. The fake does not.
func TestHandleCommitsNothingWhenItsContextHasEnded(t *testing.T) {
	l := newLedger(t)
	db := beginner(func(ctx context.Context, opts *sql.TxOptions) (*sql.Tx, error) {
		return l.dialect.DB().BeginTx(context.WithoutCancel(ctx), opts)
	})
	ctx, cancel := context.WithCancel(t.Context())
	err := l.box.Handle(ctx, db, "c", "a", func(ctx context.Context, tx *sql.Tx) error {
		defer cancel()
		return add(ctx, tx, "a")
	})
	if n := l.times(t, "a"); !errors.Is(err, context.Canceled) || n != 0 {
		t.Errorf("got %v and %d effects, want that it is cancelled, and none", err, n)
	}
}

// A COMMIT that fails is no success, and no fault of the message. This one fails because the effect ended the transaction.
func TestHandleReportsACommitThatFailed(t *testing.T) {
	l := newLedger(t)
	var blamed *inbox.EffectError
	err := l.box.Handle(t.Context(), l.dialect.DB(), "c", "a", func(ctx context.Context, tx *sql.Tx) error {
		_, err := tx.ExecContext(ctx, `ROLLBACK`)
		return err
	})
	if err == nil || errors.As(err, &blamed) || !strings.Contains(err.Error(), "commit") {
		t.Errorf("got %v, want the error of COMMIT", err)
	}
}

// Deliveries of the same messages to many at once, on the database that has one writer.
func TestHandleConcurrently(t *testing.T) {
	l := newLedger(t)
	var group sync.WaitGroup
	for range 8 {
		group.Go(func() {
			for i := range 25 {
				id := fmt.Sprint(i)
				if err := l.box.Handle(t.Context(), l.dialect.DB(), "c", id, func(ctx context.Context, tx *sql.Tx) error { return add(ctx, tx, id) }); err != nil {
					t.Error(err)
				}
			}
		})
	}
	group.Wait()
	for i := range 25 {
		if n := l.times(t, fmt.Sprint(i)); n != 1 {
			t.Errorf("the effect of %d happened %d times, want once", i, n)
		}
	}
}

// retryable is an error that the dialect takes for a conflict.
type retrying struct {
	core.Dialect
	core.InboxStore
	conflict error
}

func (r retrying) Retryable(err error) bool { return errors.Is(err, r.conflict) }

func TestHandleRunsConflictsAgain(t *testing.T) {
	l := newLedger(t)
	conflict := errors.New("deadlock")
	box, err := inbox.New(retrying{l.dialect, l.dialect, conflict}, inbox.Config{})
	if err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		id        string
		conflicts int
		times     int
	}{{"some", 9, 1}, {"too many", 10, 0}} {
		runs := 0
		err := box.Handle(t.Context(), l.dialect.DB(), "c", tt.id, func(ctx context.Context, tx *sql.Tx) error {
			if runs++; runs <= tt.conflicts {
				return errors.Join(add(ctx, tx, tt.id), conflict)
			}
			return add(ctx, tx, tt.id)
		})
		if (err == nil) != (tt.times == 1) || runs != 10 || l.times(t, tt.id) != tt.times {
			t.Errorf("%s: %v after %d runs, effect %d times; want 10 runs and %d times", tt.id, err, runs, l.times(t, tt.id), tt.times)
		}
	}
}

func TestPurgeKeepsWhatIsNotOld(t *testing.T) {
	l := newLedger(t)
	const old, recent = 2500, 10 // more than two batches
	_, err := l.dialect.DB().ExecContext(t.Context(), `INSERT INTO inbox (consumer, id, received_at)
WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < ?)
SELECT 'c', i, CAST((julianday('now') - 2440587.5 - CASE WHEN i <= ? THEN 14.1 ELSE 13.9 END) * 86400000 AS INTEGER) FROM n`, old+recent, old)
	if err != nil {
		t.Fatal(err)
	}
	if n, err := l.box.Purge(t.Context()); err != nil || n != old {
		t.Errorf("Purge: got %d, %v, want the %d that are older than 14 days", n, err, old)
	}
	left := 0
	if err := l.dialect.DB().QueryRowContext(t.Context(), `SELECT count(*) FROM inbox`).Scan(&left); err != nil || left != recent {
		t.Errorf("left: got %d, %v, want %d", left, err, recent)
	}
}

func TestRunPurges(t *testing.T) {
	l := newLedger(t)
	if _, err := l.dialect.DB().ExecContext(t.Context(), `INSERT INTO inbox (consumer, id, received_at) VALUES ('c', 'a', 0)`); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan struct{})
	go func() { defer close(ended); l.box.Run(ctx) }()
	for n := 1; n > 0; {
		if err := l.dialect.DB().QueryRowContext(t.Context(), `SELECT count(*) FROM inbox`).Scan(&n); err != nil {
			t.Fatal(err)
		}
	}
	cancel()
	<-ended
}
