package ormtest

import (
	"cmp"
	"context"
	"database/sql"
	"testing"

	"github.com/uptrace/bun"
	"github.com/uptrace/bun/dialect/pgdialect"
	"github.com/uptrace/bun/dialect/sqlitedialect"
	"github.com/uptrace/bun/schema"
)

func TestBun(t *testing.T) {
	t.Run("SQLite", func(t *testing.T) { testBun(t, newSQLite, sqlitedialect.New()) })
	t.Run("PostgreSQL", func(t *testing.T) { testBun(t, newPostgres, pgdialect.New()) })
}

func testBun(t *testing.T, open func(*testing.T) shop, dialect schema.Dialect) {
	t.Run("Enqueue", func(t *testing.T) {
		s := open(t)
		db := bun.NewDB(s.db, dialect)
		s.expectPoolRefused(t, db)
		s.testPlace(t, func(ctx context.Context, id string, end error) error {
			return db.RunInTx(ctx, nil, func(ctx context.Context, tx bun.Tx) error {
				if _, err := tx.NewInsert().Model(&Order{ID: id}).Exec(ctx); err != nil {
					return err
				}
				return cmp.Or(s.outbox.Enqueue(ctx, tx.Tx, event(id)), end)
			})
		})
	})
	t.Run("InTx", func(t *testing.T) {
		s := open(t)
		db := bun.NewDB(s.db, dialect)
		s.testInTx(t, func(ctx context.Context, tx *sql.Tx, id string) error {
			_, err := db.NewInsert().Conn(tx).Model(&Order{ID: id}).Exec(ctx)
			return err
		})
	})
}

// Whoever passes bun.Tx itself gets an error, not a wrong event.
func TestBunTxItselfIsNoExecer(t *testing.T) {
	s := newPostgres(t)
	db := bun.NewDB(s.db, pgdialect.New())
	err := db.RunInTx(t.Context(), nil, func(ctx context.Context, tx bun.Tx) error {
		return s.outbox.Enqueue(ctx, tx, event("wrong"))
	})
	if err == nil {
		t.Error("Enqueue(bun.Tx): got nil, want an error")
	}
}
