package mysql

import (
	"context"
	"time"

	"github.com/jmoiron/sqlx"

	"github.com/lockstep-go/lockstep/core"
)

// Ask runs statements over the session's connection, with its settings, and returns the columns of the rows.
func Ask(ctx context.Context, s core.Session, statements string) (rows [][]any, err error) {
	err = s.(*session).ask(ctx, statements, func(r *sqlx.Rows) error {
		row, err := r.SliceScan()
		rows = append(rows, row)
		return err
	})
	return rows, err
}

// PromoteDue is a promotion that has all the time that it needs.
func PromoteDue(ctx context.Context, s core.Session, epoch int64, limit int) (core.Promotion, error) {
	return s.(*session).promoteDue(ctx, epoch, limit, time.Hour)
}

// Broken resolvers, to see that they are noticed.

// ResolveAtOnce asks nothing.
func ResolveAtOnce(_ context.Context, _ core.Session, gaps []core.Gap) error {
	for i := range gaps {
		gaps[i].Dead = true
	}
	return nil
}

// ResolveByLocks asks only whether a position is locked.
func ResolveByLocks(ctx context.Context, s core.Session, gaps []core.Gap) error {
	var all []*core.Gap
	for i := range gaps {
		all = append(all, &gaps[i])
	}
	probes := 1000
	return s.(*session).probe(ctx, all, &probes)
}

// ResolveByStatements asks only whether a statement runs.
func ResolveByStatements(ctx context.Context, s core.Session, gaps []core.Gap) error {
	err := s.(*session).look(ctx, gaps)
	for i := range gaps {
		w, ok := gaps[i].Witness.(*witness)
		gaps[i].Dead = ok && w.finished
	}
	return err
}

// PoolLimits are the bounds that OpenDB gives to reads and writes.
func PoolLimits(dsn string) (read, write time.Duration, err error) {
	c, err := ofPools(dsn)
	if err != nil {
		return 0, 0, err
	}
	return c.ReadTimeout, c.WriteTimeout, nil
}

// Faults is what is wrong with a server that has these variables.
func Faults(variables map[string]string) error { return server(variables).faults() }

// Bucket is the row that stands for a key.
func Bucket(topic, key string) uint32 { return bucket(topic, key) }
