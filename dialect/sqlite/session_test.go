package sqlite_test

import (
	"context"
	"database/sql"
	"errors"
	"path/filepath"
	"testing"
	"time"

	"github.com/lockstep-go/lockstep/core"
	"github.com/lockstep-go/lockstep/dialect/sqlite"
)

func openSession(t *testing.T, d *sqlite.Dialect) core.Session {
	t.Helper()
	s, err := d.Open(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s
}

func enqueued(t *testing.T, d *sqlite.Dialect, msgs ...core.Message) {
	t.Helper()
	tx, err := d.DB().BeginTx(t.Context(), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer tx.Rollback()
	if err := core.NewOutbox(d, core.OutboxConfig{}).Enqueue(t.Context(), tx, msgs...); err != nil {
		t.Fatal(err)
	}
	if err := tx.Commit(); err != nil {
		t.Fatal(err)
	}
}

func query(t *testing.T, db *sql.DB, statement string, args ...any) []string {
	t.Helper()
	rows, err := db.QueryContext(t.Context(), statement, args...)
	if err != nil {
		t.Fatal(err)
	}
	defer rows.Close()
	columns, err := rows.Columns()
	if err != nil {
		t.Fatal(err)
	}
	var last []string
	for rows.Next() {
		into, values := make([]any, len(columns)), make([]sql.NullString, len(columns))
		for i := range values {
			into[i] = &values[i]
		}
		if err := rows.Scan(into...); err != nil {
			t.Fatal(err)
		}
		last = append(last, values[len(values)-1].String)
	}
	if err := rows.Err(); err != nil {
		t.Fatal(err)
	}
	return last
}

// Another process writes for as long as it likes. A relay's call ends with its context, and the application's own
// patience is what it was.
func TestWaitingForAnotherProcessEndsWithTheContext(t *testing.T) {
	path := filepath.Join(t.TempDir(), "outbox.db")
	d, other := open(t, path, sqlite.Config{}), open(t, path, sqlite.Config{})
	s := openSession(t, d)
	held, err := other.DB().BeginTx(t.Context(), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer held.Rollback()
	for name, call := range map[string]func(ctx context.Context) error{
		"Acknowledge": func(ctx context.Context) error { return s.Acknowledge(ctx, []core.Ref{{Position: 1, ID: "a"}}) },
		"TakeLease": func(ctx context.Context) error {
			_, err := s.TakeLease(ctx, core.Lease{}, "me", time.Second)
			return err
		},
		"Migrate": d.Migrate,
	} {
		ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
		begun := time.Now()
		err := call(ctx)
		cancel()
		if took := time.Since(begun); err == nil || took > 8*time.Second { // the application's patience would be 10 s
			t.Errorf("%s beside another writer: got %v after %v, want an error soon after 200 ms", name, err, took)
		}
	}
	if got := query(t, d.DB(), `PRAGMA busy_timeout`); got[0] != "10000" {
		t.Errorf("the application's busy_timeout is %s afterwards, want 10000", got[0])
	}
	if err := held.Rollback(); err != nil {
		t.Fatal(err)
	}
	if took, err := openSession(t, d).TakeLease(t.Context(), core.Lease{}, "me", time.Second); err != nil || !took {
		t.Errorf("TakeLease once the other is done: got %v, %v, want true", took, err)
	}
}

// A transaction that has read and then writes, while another has written in between, gets SQLITE_BUSY_SNAPSHOT: no
// waiting helps it.
func TestBusySnapshotIsRetryable(t *testing.T) {
	path := filepath.Join(t.TempDir(), "outbox.db")
	d := open(t, path, sqlite.Config{})
	deferred, err := sql.Open("sqlite", "file:"+path+"?_pragma=busy_timeout(10000)")
	if err != nil {
		t.Fatal(err)
	}
	defer deferred.Close()
	tx, err := deferred.BeginTx(t.Context(), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer tx.Rollback()
	if _, err := tx.ExecContext(t.Context(), `SELECT count(*) FROM outbox`); err != nil {
		t.Fatal(err)
	}
	enqueued(t, d, core.Message{ID: "a", Topic: "t"})
	err = core.NewOutbox(d, core.OutboxConfig{}).Enqueue(t.Context(), tx, core.Message{ID: "b", Topic: "t"})
	if err == nil || !d.Retryable(err) {
		t.Errorf("Retryable(%v): got false, want true", err)
	}
	if d.Retryable(nil) || d.Retryable(errors.New("other")) || d.Retryable(sql.ErrConnDone) {
		t.Error("Retryable is true for other errors")
	}
}

// An error's text is whatever a broker sent.
func TestACauseThatIsNoText(t *testing.T) {
	d := open(t, filepath.Join(t.TempDir(), "outbox.db"), sqlite.Config{})
	enqueued(t, d, core.Message{ID: "a", Topic: "t"})
	s := openSession(t, d)
	const cause = "bytes \xff\x00 end"
	if err := s.Fail(t.Context(), []core.Failure{{Ref: core.Ref{Position: 1, ID: "a"}, Attempts: 1, Cause: cause}}); err != nil {
		t.Error(err)
	}
	if err := s.Bury(t.Context(), []core.Burial{{Ref: core.Ref{Position: 1, ID: "a"}, Attempts: 2, Cause: cause}}); err != nil {
		t.Error(err)
	}
	letters, err := s.ListDead(t.Context(), core.DeadFilter{CauseContains: "end"}, core.Ref{}, 10)
	if err != nil || len(letters) != 1 {
		t.Errorf("ListDead: got %v, %v, want one letter", letters, err)
	}
}
