package postgres

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/jmoiron/sqlx"
	"github.com/lib/pq"

	"github.com/lockstep-go/lockstep/core"
)

// closeTimeout bounds the farewell to the server, which may not be there any more.
const closeTimeout = time.Second

// session is one connection. Each method sends one message of the simple protocol, which is one transaction: that what
// changes something is done wholly or not at all, and never done twice by database/sql, which repeats statements on a
// pool but not on a *sql.Conn.
type session struct {
	dialect  *Dialect
	wire     *wire
	db       *sqlx.DB // holds conn and no other
	conn     *sqlx.Conn
	large    int      // how many fetches are still to expect large payloads
	blocking blocking // blocked keys of the last fetch
	fetched  int      // records of the last fetch
}

// Open implements [core.Dialect].
func (d *Dialect) Open(ctx context.Context) (core.Session, error) {
	s, err := d.connect(ctx)
	if err != nil {
		return nil, err
	}
	if err := s.check(ctx); err != nil {
		return nil, errors.Join(err, s.Close())
	}
	return s, nil
}

func (d *Dialect) connect(ctx context.Context) (*session, error) { return d.dial(ctx, d.dsn, &wire{}) }

func (d *Dialect) dial(ctx context.Context, dsn string, w *wire) (*session, error) {
	connector, err := pq.NewConnector(dsn)
	if err != nil {
		return nil, errors.New("the DSN is not accepted by lib/pq") // whose words may hold the password
	}
	connector.Dialer(w)
	if err := d.register(w); err != nil {
		return nil, err
	}
	s := &session{dialect: d, wire: w, db: sqlx.NewDb(sql.OpenDB(connector), "postgres")}
	stop := context.AfterFunc(ctx, w.cut)
	defer stop()
	if s.conn, err = s.db.Connx(ctx); err != nil {
		return nil, errors.Join(fmt.Errorf("connect: %w", because(ctx, err)), s.Close())
	}
	return s, nil
}

func (d *Dialect) register(w *wire) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.open == nil {
		return errors.New("the dialect is closed")
	}
	d.open[w] = true
	return nil
}

// Close implements [core.Session].
func (s *session) Close() error {
	s.dialect.mu.Lock()
	delete(s.dialect.open, s.wire)
	s.dialect.mu.Unlock()
	s.wire.deadline(closeTimeout)
	severed := s.wire.isCut()
	var errs []error
	if s.conn != nil {
		errs = append(errs, s.conn.Close())
	}
	errs = append(errs, s.db.Close())
	s.wire.cut()
	if err := errors.Join(errs...); err != nil && !severed {
		return fmt.Errorf("close: %w", err)
	}
	return nil // nobody is left to say farewell to
}

// guard runs call so that it returns soon after ctx ends, by cutting the connection. lib/pq is given a context that
// never ends: its own way to cancel dials a second connection, and waits for it without limit. An error ends the
// session.
func (s *session) guard(ctx context.Context, call func(ctx context.Context) error) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	stop := context.AfterFunc(ctx, s.wire.cut)
	defer stop()
	err := call(context.WithoutCancel(ctx))
	if err != nil {
		s.wire.cut()
		return because(ctx, err)
	}
	return nil
}

// because adds to err that ctx has ended, which is then the reason for it.
func because(ctx context.Context, err error) error {
	if ended := context.Cause(ctx); ended != nil {
		return fmt.Errorf("%w (%w)", ended, err)
	}
	return err
}

// prologue begins every message. The isolation level is fixed, because what is written here holds for READ COMMITTED
// and a database can be set to another. The time-out makes the server give up when the session does: without it a
// statement that waits for a lock is executed after its relay is gone.
func prologue(ctx context.Context) string {
	const isolation = "SET TRANSACTION ISOLATION LEVEL READ COMMITTED; "
	deadline, ok := ctx.Deadline()
	if !ok {
		return isolation
	}
	return isolation + timeouts(time.Until(deadline))
}

// timeouts bounds every later statement of the message. The setting has 32 bits of milliseconds, and 0 is no bound.
func timeouts(d time.Duration) string {
	ms := max(1, min(d, 24*time.Hour).Milliseconds())
	return "SET LOCAL statement_timeout = " + integer(ms) + "; "
}

// sql puts the tables' names into a statement. It must not see values.
func (s *session) sql(statement string) string { return s.dialect.names.Replace(statement) }

// exec runs statements as one transaction.
func (s *session) exec(ctx context.Context, statements string) error {
	return s.guard(ctx, func(call context.Context) error {
		_, err := s.conn.ExecContext(call, prologue(ctx)+statements)
		return err
	})
}

// query hands each row of the last statement to scan. The ones before it must return nothing.
func (s *session) query(ctx context.Context, statements string, scan func(*sqlx.Rows) error) error {
	return s.guard(ctx, func(call context.Context) error {
		rows, err := s.conn.QueryxContext(call, prologue(ctx)+statements)
		if err != nil {
			return err
		}
		defer rows.Close()
		for rows.Next() {
			if err := scan(rows); err != nil {
				return err
			}
		}
		// What fails after the last row, COMMIT included, is known once the rows are closed.
		return errors.Join(rows.Err(), rows.Close()) //nolint:sqlclosecheck // its error is wanted
	})
}

// queryBinary hands the bytes of each row of the last statement to scan, which must not keep them. The rows have one column,
// of type bytea. It goes to the driver without database/sql, which would take more time for each row than the driver does.
func (s *session) queryBinary(ctx context.Context, statements string, scan func(row []byte) error) error {
	return s.guard(ctx, func(call context.Context) error {
		return s.conn.Raw(func(native any) (err error) {
			rows, err := native.(driver.QueryerContext).QueryContext(call, prologue(ctx)+statements, nil)
			if err != nil {
				return err
			}
			// What fails after the last row, COMMIT included, is known once the rows are closed.
			defer func() { err = errors.Join(err, rows.Close()) }()
			row := make([]driver.Value, 1)
			for {
				switch err := rows.Next(row); {
				case errors.Is(err, io.EOF):
					return nil
				case err != nil:
					return err
				}
				bytes, ok := row[0].([]byte)
				if !ok {
					return fmt.Errorf("the server sent a %T where bytes were asked for", row[0])
				}
				if err := scan(bytes); err != nil {
					return err
				}
			}
		})
	})
}

// queryRow reads the one row of the last statement.
func (s *session) queryRow(ctx context.Context, statements string, into ...any) error {
	found := false
	err := s.query(ctx, statements, func(rows *sqlx.Rows) error {
		found = true
		return rows.Scan(into...)
	})
	if err == nil && !found {
		return errNotMigrated // each such statement reads the control or the lease row
	}
	return err
}
