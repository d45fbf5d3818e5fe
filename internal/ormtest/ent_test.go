package ormtest

import (
	"cmp"
	"context"
	"database/sql"
	"testing"

	"entgo.io/ent/dialect"
	entsql "entgo.io/ent/dialect/sql"

	"github.com/lockstep-go/lockstep/core"
)

// ent's SQL driver, which is what generated code stands on: the *ent.Tx of code generated with the feature sql/execquery
// passes ExecContext on to the *entsql.Tx, and a generated client takes any driver (ent.NewClient(ent.Driver(…))).
func TestEnt(t *testing.T) {
	t.Run("SQLite", func(t *testing.T) { testEnt(t, newSQLite, dialect.SQLite) })
	t.Run("PostgreSQL", func(t *testing.T) { testEnt(t, newPostgres, dialect.Postgres) })
}

func testEnt(t *testing.T, open func(*testing.T) shop, name string) {
	insert := func(ctx context.Context, conn dialect.ExecQuerier, id string) error {
		query, args := entsql.Dialect(name).Insert("orders").Columns("id").Values(id).Query()
		return conn.Exec(ctx, query, args, nil)
	}
	t.Run("Enqueue", func(t *testing.T) {
		s := open(t)
		driver := entsql.OpenDB(name, s.db)
		s.expectPoolRefused(t, driver.DB())
		s.testPlace(t, func(ctx context.Context, id string, end error) error {
			tx, err := driver.Tx(ctx)
			if err != nil {
				return err
			}
			defer tx.Rollback()
			if err := insert(ctx, tx, id); err != nil {
				return err
			}
			if err := s.outbox.Enqueue(ctx, tx.(core.Execer), event(id)); err != nil || end != nil {
				return cmp.Or(err, end)
			}
			return tx.Commit()
		})
	})
	t.Run("InTx", func(t *testing.T) {
		s := open(t)
		s.testInTx(t, func(ctx context.Context, tx *sql.Tx, id string) error {
			return insert(ctx, entsql.NewDriver(name, entsql.Conn{ExecQuerier: tx}), id)
		})
	})
}
