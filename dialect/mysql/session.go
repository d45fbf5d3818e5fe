package mysql

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"strconv"
	"time"

	mysqldriver "github.com/go-sql-driver/mysql"
	"github.com/jmoiron/sqlx"

	"github.com/lockstep-go/lockstep/core"
)

// session is one connection, with settings of its own. Each method sends its statements as one packet, and the server runs
// them to the end whether the relay lives or not: no lock waits for the network. Nothing is repeated by database/sql, which
// does that on a pool and not on a *sql.Conn.
type session struct {
	dialect *Dialect
	server  server
	db      *sqlx.DB // holds conn and no other
	conn    *sqlx.Conn

	// blind is set once the server refused to show the transactions of others.
	blind bool

	large   int // how many fetches are still to expect large payloads
	fetched int // records of the last fetch

	lists    int       // how often the list of transactions was asked for
	nextList time.Time // not before
}

// Open implements [core.Dialect].
func (d *Dialect) Open(ctx context.Context) (core.Session, error) {
	s, err := d.connect(ctx)
	if err != nil {
		return nil, err
	}
	if err := errors.Join(s.server.faults(), s.checkVersion(ctx)); err != nil {
		return nil, errors.Join(err, s.Close())
	}
	return s, nil
}

// settings makes a connection mean the same on every server and under every DSN. A wait for a row, or for a table that is
// being altered, ends by itself on the server soon after the session has given up. The optimizer's switches keep what is
// found by key from being found by reading everything.
const settings = `SET SESSION TRANSACTION ISOLATION LEVEL READ COMMITTED, READ WRITE;
SET SESSION autocommit = 1, completion_type = 0, time_zone = '+00:00',
  sql_mode = 'STRICT_ALL_TABLES,NO_ENGINE_SUBSTITUTION,NO_AUTO_VALUE_ON_ZERO',
  innodb_lock_wait_timeout = 1, lock_wait_timeout = 1,
  sql_select_limit = 18446744073709551615, sql_safe_updates = 0, sql_big_selects = 1,
  optimizer_switch = 'materialization=off'
  /*!80017 , range_optimizer_max_mem_size = 0, information_schema_stats_expiry = 0, max_execution_time = 0 */
  /*M!100600 , in_predicate_conversion_threshold = 0, max_statement_time = 0 */;
`

func (d *Dialect) connect(ctx context.Context) (*session, error) {
	connector, err := mysqldriver.NewConnector(d.source)
	if err != nil {
		return nil, errDSN // whose own words may hold the password
	}
	s := &session{dialect: d, db: sqlx.NewDb(sql.OpenDB(connector), "mysql")}
	err = d.bound(ctx, func(ctx context.Context) (err error) {
		s.conn, err = s.db.Connx(ctx)
		return err
	})
	if err != nil {
		return nil, errors.Join(fmt.Errorf("connect: %w", explained(err)), s.Close())
	}
	s.server = server{}
	err = s.read(ctx, settings+askServer, func(rows *sqlx.Rows) error { return s.server.add(rows) })
	if err != nil {
		return nil, errors.Join(fmt.Errorf("set up the connection: %w", err), s.Close())
	}
	if packet, err := strconv.ParseInt(s.server["max_allowed_packet"], 10, 64); err == nil {
		d.packet.Store(packet)
	}
	return s, nil
}

// Close implements [core.Session].
func (s *session) Close() error {
	var errs []error
	if s.conn != nil {
		if err := s.conn.Close(); !errors.Is(err, sql.ErrConnDone) { // after an error the connection is gone
			errs = append(errs, err)
		}
	}
	errs = append(errs, s.db.Close())
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("close: %w", err)
	}
	return nil
}

// bound runs call with a context that ends with the dialect as well. The driver closes the connection when the context
// ends, so that a silent server holds up nobody.
func (d *Dialect) bound(ctx context.Context, call func(ctx context.Context) error) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	if d.closed.Err() != nil {
		return errors.New("the dialect is closed")
	}
	limited, cancel := context.WithCancel(ctx)
	defer cancel()
	stop := context.AfterFunc(d.closed, cancel)
	defer stop()
	return because(ctx, call(limited))
}

// because adds to err that ctx has ended, which is then the reason for it.
func because(ctx context.Context, err error) error {
	if ended := context.Cause(ctx); err != nil && ended != nil && !errors.Is(err, ended) {
		return fmt.Errorf("%w (%w)", ended, err)
	}
	return err
}

// end closes the connection, and with it what it may have left open on the server.
func (s *session) end() {
	_ = s.conn.Raw(func(any) error { return driver.ErrBadConn }) // what database/sql closes a connection for
}

// sql puts the tables' names into a statement. It must not see values.
func (s *session) sql(statement string) string { return s.dialect.names.Replace(statement) }

// ask runs statements, and hands each row of the one that returns rows to scan. An error leaves the session as it is.
func (s *session) ask(ctx context.Context, statements string, scan func(*sqlx.Rows) error) error {
	return s.dialect.bound(ctx, func(ctx context.Context) error {
		if scan == nil {
			_, err := s.conn.ExecContext(ctx, statements)
			return err
		}
		rows, err := s.conn.QueryxContext(ctx, statements)
		if err != nil {
			return err
		}
		defer rows.Close()
		for rows.Next() {
			if err := scan(rows); err != nil {
				return err
			}
		}
		for rows.NextResultSet() { // a later statement's error is found there
		}
		return errors.Join(rows.Err(), rows.Close()) //nolint:sqlclosecheck // its error is wanted
	})
}

// read runs statements that change nothing. An error ends the session.
func (s *session) read(ctx context.Context, statements string, scan func(*sqlx.Rows) error) error {
	err := s.ask(ctx, statements, scan)
	if err != nil {
		s.end()
	}
	return explained(err)
}

// readRow reads the one row of the last statement.
func (s *session) readRow(ctx context.Context, statements string, into ...any) error {
	found := false
	err := s.read(ctx, statements, func(rows *sqlx.Rows) error {
		found = true
		return rows.Scan(into...)
	})
	if err == nil && !found {
		err = s.dialect.notMigrated() // each such statement reads the control or the lease row
	}
	return err
}

// maxTries is how often a write is run that meets the locks of others.
const maxTries = 10

// write runs statements as one transaction, as often as it is rolled back for the locks of others, and then reads the
// values of result, which are the session's variables, into into. An error ends the session.
func (s *session) write(ctx context.Context, statements, result string, into ...any) error {
	return s.writeWithin(ctx, math.MaxInt64, statements, result, into...)
}

// writeWithin is write, but begins with no further try after patience.
func (s *session) writeWithin(ctx context.Context, patience time.Duration, statements, result string, into ...any) error {
	// ROLLBACK first: a statement that failed leaves its transaction open, which START TRANSACTION would commit.
	script := "ROLLBACK; START TRANSACTION; " + statements + "; COMMIT; SELECT " + result
	return s.persist(ctx, patience, func() error {
		return s.ask(ctx, script, func(rows *sqlx.Rows) error { return rows.Scan(into...) })
	})
}

// change runs one statement, which is a transaction by itself, as write does.
func (s *session) change(ctx context.Context, statement string) error {
	return s.persist(ctx, math.MaxInt64, func() error { return s.ask(ctx, statement, nil) })
}

// persist calls attempt until it does something else than to meet the locks of others, or patience is over.
func (s *session) persist(ctx context.Context, patience time.Duration, attempt func() error) error {
	begun := time.Now()
	err := attempt()
	for tries := 1; tries < maxTries && s.dialect.Retryable(err) && ctx.Err() == nil && time.Since(begun) < patience; tries++ {
		if s.ask(ctx, "ROLLBACK", nil) != nil {
			break
		}
		jitter := time.NewTimer(rand.N(time.Duration(tries) * 10 * time.Millisecond))
		select {
		case <-jitter.C:
			err = attempt()
		case <-ctx.Done():
			jitter.Stop()
		}
	}
	if err != nil {
		s.end()
	}
	return explained(because(ctx, err))
}
