package ormtest

import (
	"cmp"
	"context"
	"errors"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/lockstep-go/lockstep/core"
	"github.com/lockstep-go/lockstep/dialect/postgres"
	"github.com/lockstep-go/lockstep/inbox"
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

// A consumer's effect in pgx's transaction, by what ExecCountFunc's documentation shows. ExecFunc cannot say what was new.
func TestPGXConsumes(t *testing.T) {
	s := newPostgres(t)
	dialect, err := postgres.Open(s.dsn, postgres.Config{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { dialect.Close() })
	if err := dialect.MigrateInbox(t.Context()); err != nil {
		t.Fatal(err)
	}
	box, err := inbox.New(dialect, inbox.Config{})
	if err != nil {
		t.Fatal(err)
	}
	pool := pgxPool(t, s.dsn, pgx.QueryExecModeCacheStatement)
	for i, step := range []struct {
		end  error
		want bool
	}{{errUndo, true}, {nil, true}, {nil, false}} {
		var first bool
		err := pgx.BeginFunc(t.Context(), pool, func(tx pgx.Tx) (err error) {
			first, err = box.Once(t.Context(), core.ExecCountFunc(func(ctx context.Context, query string, args ...any) (int64, error) {
				tag, err := tx.Exec(ctx, query, args...)
				return tag.RowsAffected(), err
			}), "billing", "1")
			return cmp.Or(err, step.end)
		})
		if first != step.want || !errors.Is(err, step.end) {
			t.Errorf("delivery %d: got %t, %v; want %t, %v", i+1, first, err, step.want, step.end)
		}
	}
	err = pgx.BeginFunc(t.Context(), pool, func(tx pgx.Tx) error {
		_, err := box.Once(t.Context(), pgxTx(tx), "billing", "2")
		return err
	})
	if !errors.Is(err, core.ErrNoResult) {
		t.Errorf("by ExecFunc: got %v, want ErrNoResult", err)
	}
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
