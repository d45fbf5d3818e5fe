package mysql

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"net"
	"time"

	mysqldriver "github.com/go-sql-driver/mysql"

	"github.com/lockstep-go/lockstep/core"
)

// A peer that is gone is noticed after about 35 s, also in the middle of a statement.
var keepAlive = net.KeepAliveConfig{Enable: true, Idle: 15 * time.Second, Interval: 5 * time.Second, Count: 4}

// Connections are renewed before a load balancer forgets them.
const maxLifetime = 3 * time.Minute

// OpenDB opens a pool for the application's own transactions, from a DSN as in [Open], with what go-sql-driver leaves to its
// user: a limit for dialling (10 s, where the DSN has none), keep-alives that find a dead peer, connections that are renewed
// every 3 minutes, and an error for a server that was demoted, which makes the pool dial again. The driver logs nothing of its
// own: what it would say is in the errors. The isolation level is the
// server's or the DSN's: the outbox works under each.
func OpenDB(dsn string) (*sql.DB, error) {
	c, err := parseDSN(dsn)
	if err != nil {
		return nil, fmt.Errorf("mysql: %w", err)
	}
	if c.Timeout == 0 {
		c.Timeout = dialTimeout
	}
	c.RejectReadOnly = true
	c.Logger = &mysqldriver.NopLogger{} // what it would log is in the error that is returned
	if c.DialFunc == nil && (c.Net == "tcp" || c.Net == "tcp4" || c.Net == "tcp6") {
		dialer := net.Dialer{Timeout: c.Timeout, KeepAliveConfig: keepAlive}
		c.DialFunc = dialer.DialContext
	}
	connector, err := mysqldriver.NewConnector(c)
	if err != nil {
		return nil, fmt.Errorf("mysql: %w", errDSN)
	}
	db := sql.OpenDB(connector)
	db.SetConnMaxLifetime(maxLifetime)
	return db, nil
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
