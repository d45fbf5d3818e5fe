package ormtest

import (
	"cmp"
	"context"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/lockstep-go/lockstep/core"
)

// pgx's own interface, without database/sql: the three lines that ExecFunc's documentation shows.
func TestPGX(t *testing.T) {
	for name, mode := range map[string]pgx.QueryExecMode{
		"cached statements": pgx.QueryExecModeCacheStatement,
		"cached describe":   pgx.QueryExecModeCacheDescribe,
		"exec":              pgx.QueryExecModeExec,
		"simple protocol":   pgx.QueryExecModeSimpleProtocol, // what is used behind PgBouncer
	} {
		t.Run(name, func(t *testing.T) {
			s := newPostgres(t)
			pool := pgxPool(t, s.dsn, mode)
			s.testPlace(t, func(ctx context.Context, id string, end error) error {
				return pgx.BeginFunc(ctx, pool, func(tx pgx.Tx) error {
					if _, err := tx.Exec(ctx, `INSERT INTO orders (id) VALUES ($1)`, id); err != nil {
						return err
					}
					err := s.outbox.Enqueue(ctx, core.ExecFunc(func(ctx context.Context, query string, args ...any) error {
						_, err := tx.Exec(ctx, query, args...)
						return err
					}), event(id))
					return cmp.Or(err, end)
				})
			})
		})
	}
}

// A savepoint of pgx's: a nested Begin.
func TestPGXSavepoint(t *testing.T) {
	s := newPostgres(t)
	pool := pgxPool(t, s.dsn, pgx.QueryExecModeCacheStatement)
	err := pgx.BeginFunc(t.Context(), pool, func(outer pgx.Tx) error {
		for _, id := range []string{"kept", "undone"} {
			end := map[string]error{"undone": errUndo}[id]
			err := pgx.BeginFunc(t.Context(), outer, func(tx pgx.Tx) error {
				if _, err := tx.Exec(t.Context(), `INSERT INTO orders (id) VALUES ($1)`, id); err != nil {
					return err
				}
				return cmp.Or(s.outbox.Enqueue(t.Context(), pgxTx(tx), event(id)), end)
			})
			if err != end { //nolint:errorlint // BeginFunc returns the function's error as it is
				return err
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	s.expectKept(t)
}

func pgxTx(tx pgx.Tx) core.Execer {
	return core.ExecFunc(func(ctx context.Context, query string, args ...any) error {
		_, err := tx.Exec(ctx, query, args...)
		return err
	})
}

func pgxPool(t *testing.T, dsn string, mode pgx.QueryExecMode) *pgxpool.Pool {
	t.Helper()
	config, err := pgxpool.ParseConfig(dsn)
	if err != nil {
		t.Fatal(err)
	}
	config.ConnConfig.DefaultQueryExecMode = mode
	pool, err := pgxpool.NewWithConfig(t.Context(), config)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(pool.Close)
	return pool
}
