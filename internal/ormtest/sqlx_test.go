package ormtest

import (
	"cmp"
	"context"
	"database/sql"
	"testing"

	"github.com/jmoiron/sqlx"
)

func TestSQLX(t *testing.T) {
	t.Run("SQLite", func(t *testing.T) { testSQLX(t, newSQLite, "sqlite3", `INSERT INTO orders (id) VALUES (?)`) })
	t.Run("PostgreSQL", func(t *testing.T) { testSQLX(t, newPostgres, "postgres", `INSERT INTO orders (id) VALUES ($1)`) })
}

func testSQLX(t *testing.T, open func(*testing.T) shop, driver, insert string) {
	t.Run("Enqueue", func(t *testing.T) {
		s := open(t)
		db := sqlx.NewDb(s.db, driver)
		s.expectPoolRefused(t, db)
		s.testPlace(t, func(ctx context.Context, id string, end error) error {
			tx, err := db.BeginTxx(ctx, nil)
			if err != nil {
				return err
			}
			defer tx.Rollback()
			if _, err := tx.ExecContext(ctx, insert, id); err != nil {
				return err
			}
			if err := s.outbox.Enqueue(ctx, tx, event(id)); err != nil || end != nil {
				return cmp.Or(err, end)
			}
			return tx.Commit()
		})
	})
	t.Run("InTx", func(t *testing.T) {
		s := open(t)
		s.testInTx(t, func(ctx context.Context, tx *sql.Tx, id string) error {
			x := &sqlx.Tx{Tx: tx, Mapper: sqlx.NewDb(s.db, driver).Mapper}
			if _, err := x.ExecContext(ctx, insert, id); err != nil {
				return err
			}
			var order Order
			return x.GetContext(ctx, &order, `SELECT id FROM orders WHERE id = '`+id+`'`)
		})
	})
}
