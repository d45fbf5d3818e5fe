package conformance

import (
	"context"
	"database/sql"
	"time"

	"github.com/lockstep-go/lockstep/core"
)

// Tx is a transaction of the application. *sql.Tx is one.
type Tx interface {
	core.Execer
	Commit() error
	Rollback() error
}

// Savepointer is implemented by a [Tx] whose savepoints are not SQL statements.
type Savepointer interface {
	// Savepoint sets a savepoint.
	Savepoint(ctx context.Context) error
	// RollbackTo undoes what was done since the latest savepoint.
	RollbackTo(ctx context.Context) error
}

// SQLFixture returns a fixture whose transactions are begun on db, the application's way to the database of dialect.
func SQLFixture(dialect core.Dialect, db *sql.DB) DialectFixture {
	return DialectFixture{
		Dialect: dialect,
		DB:      db,
		Begin: func(ctx context.Context) (Tx, error) {
			tx, err := db.BeginTx(ctx, nil)
			if err != nil {
				return nil, err
			}
			return tx, nil
		},
	}
}

// savepointer returns tx's savepoints.
func savepointer(tx Tx) Savepointer {
	if own, ok := tx.(Savepointer); ok {
		return own
	}
	return sqlSavepoints{tx}
}

type sqlSavepoints struct{ tx core.Execer }

func (s sqlSavepoints) Savepoint(ctx context.Context) error {
	_, err := s.tx.ExecContext(ctx, "SAVEPOINT conformance")
	return err
}

func (s sqlSavepoints) RollbackTo(ctx context.Context) error {
	_, err := s.tx.ExecContext(ctx, "ROLLBACK TO SAVEPOINT conformance")
	return err
}

// waitLimit is how long a call that must not wait may take. It is far more than a slow machine needs.
const waitLimit = 5 * time.Second
