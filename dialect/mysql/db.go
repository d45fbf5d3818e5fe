package mysql

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"net"
	"strings"
	"time"

	mysqldriver "github.com/go-sql-driver/mysql"

	"github.com/lockstep-go/lockstep/core"
)

// A peer that is gone is noticed after about 35 s, also in the middle of a statement.
var keepAlive = net.KeepAliveConfig{Enable: true, Idle: 15 * time.Second, Interval: 5 * time.Second, Count: 4}

// silence is how long a pool waits for a server that says nothing. A server lets a statement wait for one row for 50 s
// (innodb_lock_wait_timeout) and then says so, which is worth more to the application than a connection that was cut.
const silence = 2 * time.Minute

// Connections are renewed before a load balancer forgets them.
const maxLifetime = 3 * time.Minute

// OpenDB opens a pool for the application's own transactions, from a DSN as in [Open], with what go-sql-driver leaves to its
// user, so that nothing in it waits for ever. Any other pool does as well: see [Dialect.CheckDB].
//
//   - A server that is silent for 2 minutes is given up, whatever the context says: in a statement, in COMMIT (whose outcome is
//     unknown then), and while a connection is opened. MySQL has no limit of its own for a statement that writes, so one that
//     takes longer than that is cut, and the server rolls it back when it notices. A pool for such statements has a
//     readTimeout of its own in its DSN; readTimeout=0 and writeTimeout=0 are no bound. A context ends a call at any time.
//   - A connection is dialled within 10 s, unless the DSN has a timeout. Keep-alives find a dead peer after about 35 s, also
//     where the silence has no bound.
//   - Connections are renewed every 3 minutes. An error for a server that was demoted makes the pool dial again.
//   - The isolation level is the server's or the DSN's: the outbox works under each. Under REPEATABLE READ, the usual one, a
//     transaction that has read something and waits for a key lock then goes on with what it saw before it waited: read what
//     the key lock protects after it was taken, or FOR UPDATE, or use transaction_isolation=%27READ-COMMITTED%27.
//
// The driver logs nothing of its own: what it would say is in the errors.
func OpenDB(dsn string) (*sql.DB, error) {
	c, err := ofPools(dsn)
	if err != nil {
		return nil, fmt.Errorf("mysql: %w", err)
	}
	connector, err := mysqldriver.NewConnector(c)
	if err != nil {
		return nil, fmt.Errorf("mysql: %w", errDSN)
	}
	db := sql.OpenDB(connector)
	db.SetConnMaxLifetime(maxLifetime)
	return db, nil
}

// ofPools returns the settings of a pool's connections.
func ofPools(dsn string) (*mysqldriver.Config, error) {
	c, err := parseDSN(dsn)
	if err != nil {
		return nil, err
	}
	if c.Timeout == 0 {
		c.Timeout = dialTimeout
	}
	// The driver does not tell a 0 from a limit that nobody set.
	if c.ReadTimeout == 0 && !strings.Contains(dsn, "readTimeout=0") {
		c.ReadTimeout = silence
	}
	if c.WriteTimeout == 0 && !strings.Contains(dsn, "writeTimeout=0") {
		c.WriteTimeout = silence
	}
	c.RejectReadOnly = true
	c.Logger = &mysqldriver.NopLogger{} // what it would log is in the error that is returned
	if c.DialFunc == nil && (c.Net == "tcp" || c.Net == "tcp4" || c.Net == "tcp6") {
		dialer := net.Dialer{Timeout: c.Timeout, KeepAliveConfig: keepAlive}
		c.DialFunc = dialer.DialContext
	}
	return c, nil
}

// CheckDB reports why the application cannot enqueue over db, a pool of its own, as [core.SetupError]s: it reaches another
// server than the dialect, the server is too old or a replica, the pool's connections take positions in steps, or their user
// may not insert. It changes nothing.
func (d *Dialect) CheckDB(ctx context.Context, db *sql.DB) error {
	own, err := d.serverName(ctx)
	if err != nil {
		return fmt.Errorf("check the pool: %w", err)
	}
	tx, err := db.BeginTx(ctx, nil)
	if err != nil {
		return fmt.Errorf("check the pool: %w", explained(err))
	}
	defer tx.Rollback() // nothing was done
	found, err := askVariables(ctx, tx)
	if err != nil {
		return fmt.Errorf("check the pool: %w", explained(err))
	}
	if err := errors.Join(found.faults(), d.checkServer(ctx, tx, found, own), d.checkInserts(ctx, tx)); err != nil {
		return fmt.Errorf("check the pool: %w", err)
	}
	return nil
}

func (d *Dialect) serverName(ctx context.Context) (name string, err error) {
	opened, err := d.Open(ctx)
	if err != nil {
		return "", err
	}
	defer opened.Close()
	s := opened.(*session)
	err = s.readRow(ctx, "SELECT CONCAT_WS(' ', "+s.server.name()+")", &name)
	return name, err
}

// checkServer compares the pool's server with the dialect's: an event that is committed on another one is never found.
func (d *Dialect) checkServer(ctx context.Context, tx *sql.Tx, found server, own string) error {
	var name string
	if err := tx.QueryRowContext(ctx, "SELECT CONCAT_WS(' ', "+found.name()+")").Scan(&name); err != nil {
		return explained(err)
	}
	if name != own {
		return &core.SetupError{
			Problem: "the pool reaches another server than the dialect, whose outbox no relay reads",
			Cure:    "give both the same host and port",
		}
	}
	return nil
}

func askVariables(ctx context.Context, tx *sql.Tx) (server, error) {
	rows, err := tx.QueryContext(ctx, askServer)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	found := server{}
	for rows.Next() {
		var name, value string
		if err := rows.Scan(&name, &value); err != nil {
			return nil, err
		}
		found[name] = value
	}
	return found, rows.Err()
}

// checkInserts tries what Enqueue and LockKeys do, without rows.
func (d *Dialect) checkInserts(ctx context.Context, tx core.Execer) error {
	var faults []error
	for _, statement := range []string{
		`INSERT INTO {outbox} (topic, payload) SELECT '', '' FROM DUAL WHERE FALSE`,
		`INSERT INTO {delayed} (topic, payload, not_before) SELECT '', '', '1970-01-01' FROM DUAL WHERE FALSE`,
		`SELECT bucket FROM {key_lock} WHERE bucket < 0 FOR UPDATE`,
	} {
		if _, err := tx.ExecContext(ctx, d.names.Replace(statement)); err != nil {
			faults = append(faults, explained(err))
		}
	}
	return errors.Join(faults...)
}
