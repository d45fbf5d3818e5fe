package ormtest

import (
	"context"
	"database/sql"
	"errors"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/lockstep-go/lockstep/core"
	"github.com/lockstep-go/lockstep/dialect/postgres"
)

// Two transactions that write one key and update no common row: the second waits for the first's end, in whichever
// library each of them is.
func TestKeyLock(t *testing.T) {
	s := newPostgres(t)
	dialect, err := postgres.Open(s.dsn, postgres.Config{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { dialect.Close() })
	outbox := core.NewOutbox(dialect, core.OutboxConfig{LockKeys: true})
	first, err := s.db.BeginTx(t.Context(), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer first.Rollback()
	if err := outbox.Enqueue(t.Context(), first, core.Message{Topic: "t", Key: "k"}, core.Message{Topic: "t", Key: "l"}); err != nil {
		t.Fatal(err)
	}
	second := pgxPool(t, s.dsn, pgx.QueryExecModeCacheStatement)
	enqueue := func(topic, key string) error {
		return pgx.BeginFunc(t.Context(), second, func(tx pgx.Tx) error {
			if _, err := tx.Exec(t.Context(), `SET LOCAL lock_timeout = '200ms'`); err != nil {
				return err
			}
			return outbox.Enqueue(t.Context(), pgxTx(tx), core.Message{Topic: topic, Key: key})
		})
	}
	for _, free := range [][2]string{{"t", "another"}, {"another", "k"}, {"t", ""}} {
		if err := enqueue(free[0], free[1]); err != nil {
			t.Errorf("topic %q, key %q: got %v, want no wait", free[0], free[1], err)
		}
	}
	var coded interface{ SQLState() string }
	if err := enqueue("t", "k"); !errors.As(err, &coded) || coded.SQLState() != "55P03" {
		t.Errorf("the key of an open transaction: got %v, want SQLSTATE 55P03, lock not available", err)
	}
	if err := first.Commit(); err != nil {
		t.Fatal(err)
	}
	if err := enqueue("t", "k"); err != nil {
		t.Errorf("after the first transaction's end: got %v, want no wait", err)
	}
}

// A delayed event goes elsewhere, by the same Enqueue.
func TestDelayedEvents(t *testing.T) {
	for _, driver := range drivers {
		t.Run(driver, func(t *testing.T) {
			direct := newPostgres(t)
			s := direct.through(t, driver, direct.dsn)
			due := time.Date(2200, 12, 31, 23, 59, 59, 999_999_000, time.UTC)
			err := s.outbox.InTx(t.Context(), s.db, core.InTxOptions{}, func(context.Context, *sql.Tx) ([]core.Message, error) {
				return []core.Message{
					{ID: "later", Topic: "t", NotBefore: due},
					{ID: "now", Topic: "t"},
					{ID: "long ago", Topic: "t", NotBefore: time.Unix(0, 0)},
				}, nil
			})
			if err != nil {
				t.Fatal(err)
			}
			var now, delayed string
			var until time.Time
			err = s.db.QueryRowContext(t.Context(), `SELECT (SELECT string_agg(id, ',') FROM outbox),
				(SELECT string_agg(id, ',' ORDER BY id) FROM outbox_delayed), (SELECT max(not_before) FROM outbox_delayed)`).
				Scan(&now, &delayed, &until)
			if err != nil {
				t.Fatal(err)
			}
			if now != "now" || delayed != "later,long ago" || !until.Equal(due) {
				t.Errorf("in the outbox: %s; delayed: %s, until %v", now, delayed, until)
			}
		})
	}
}
