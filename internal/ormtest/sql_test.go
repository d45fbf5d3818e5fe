package ormtest

import (
	"cmp"
	"context"
	"database/sql"
	"testing"
)

func TestDatabaseSQL(t *testing.T) {
	t.Run("SQLite", func(t *testing.T) { testDatabaseSQL(t, newSQLite) })
	t.Run("PostgreSQL", func(t *testing.T) { testDatabaseSQL(t, newPostgres) })
}

func testDatabaseSQL(t *testing.T, open func(*testing.T) shop) {
	t.Run("Tx", func(t *testing.T) {
		s := open(t)
		s.expectPoolRefused(t, s.db)
		s.testPlace(t, func(ctx context.Context, id string, end error) error {
			tx, err := s.db.BeginTx(ctx, nil)
			if err != nil {
				return err
			}
			defer tx.Rollback()
			if _, err := tx.ExecContext(ctx, `INSERT INTO orders (id) VALUES ('`+id+`')`); err != nil {
				return err
			}
			if err := s.outbox.Enqueue(ctx, tx, event(id)); err != nil || end != nil {
				return cmp.Or(err, end)
			}
			return tx.Commit()
		})
	})
	t.Run("Conn", func(t *testing.T) {
		s := open(t)
		s.testPlace(t, func(ctx context.Context, id string, end error) error { return placeOnConn(ctx, s, id, end) })
	})
	t.Run("InTx", func(t *testing.T) {
		s := open(t)
		s.testInTx(t, func(ctx context.Context, tx *sql.Tx, id string) error {
			_, err := tx.ExecContext(ctx, `INSERT INTO orders (id) VALUES ('`+id+`')`)
			return err
		})
	})
}

// placeOnConn does by hand, on one connection, what *sql.Tx does: its caller vouches for the transaction.
func placeOnConn(ctx context.Context, s shop, id string, end error) error {
	conn, err := s.db.Conn(ctx)
	if err != nil {
		return err
	}
	defer conn.Close()
	for _, query := range []string{"BEGIN", `INSERT INTO orders (id) VALUES ('` + id + `')`} {
		if _, err := conn.ExecContext(ctx, query); err != nil {
			return err
		}
	}
	err = cmp.Or(s.outbox.Enqueue(ctx, conn, event(id)), end)
	finish := "COMMIT"
	if err != nil {
		finish = "ROLLBACK"
	}
	_, endErr := conn.ExecContext(ctx, finish)
	return cmp.Or(err, endErr)
}
