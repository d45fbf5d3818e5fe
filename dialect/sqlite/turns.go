package sqlite

import (
	"context"
	"database/sql/driver"
	"errors"
	"fmt"
	"time"
)

// Processes that write to one file wait for each other by asking again and again. SQLite asks less and less often, so one
// that writes without a pause kept another waiting for six seconds, longer than a lease lasts.
// Here whoever waits asks at an even rate, until its context ends; and whoever had to wait lately leaves the file alone
// for a moment after each transaction, in which the others' next question falls.
const (
	askAgain = time.Millisecond
	yield    = 2 * askAgain
	lately   = time.Second
)

// errHeld is why a context ended before a transaction began.
var errHeld = errors.New("another process has a write transaction open")

// turns makes connections that take turns.
type turns struct{ driver.Connector }

// Connect implements [driver.Connector].
func (t turns) Connect(ctx context.Context) (driver.Conn, error) {
	conn, err := t.Connector.Connect(ctx)
	if err != nil {
		return nil, err
	}
	native, ok := conn.(nativeConn)
	if !ok {
		return nil, errors.Join(fmt.Errorf("the SQLite driver's connection, a %T, lacks methods: use the driver's version in go.mod", conn), conn.Close())
	}
	return &turnConn{nativeConn: native}, nil
}

// nativeConn is what the driver's connections can do, as far as database/sql asks.
type nativeConn interface {
	driver.Conn
	driver.ConnBeginTx
	driver.ConnPrepareContext
	driver.ExecerContext
	driver.QueryerContext
	driver.Pinger
	driver.SessionResetter
	driver.Validator
}

// turnConn is used by one goroutine at a time, as database/sql promises.
type turnConn struct {
	nativeConn
	waited time.Time // when another process last had the file
	ended  time.Time // when the last transaction ended
}

// BeginTx implements [driver.ConnBeginTx].
func (c *turnConn) BeginTx(ctx context.Context, opts driver.TxOptions) (tx driver.Tx, err error) {
	if opts.ReadOnly {
		return c.nativeConn.BeginTx(ctx, opts)
	}
	if time.Since(c.waited) < lately {
		if err := pause(ctx, time.Until(c.ended.Add(yield))); err != nil {
			return nil, err
		}
	}
	if err := c.set("0"); err != nil {
		return nil, err
	}
	tx, err = c.ask(ctx, opts)
	if restored := c.set(busyTimeout); restored != nil {
		if tx != nil {
			restored = errors.Join(restored, tx.Rollback())
		}
		return nil, errors.Join(err, restored)
	}
	if err != nil {
		return nil, err
	}
	return turnTx{tx, c}, nil
}

// set sets how long other statements than BEGIN wait: SQLite's own way ends with no context.
func (c *turnConn) set(milliseconds string) error {
	_, err := c.ExecContext(context.Background(), "PRAGMA busy_timeout = "+milliseconds, nil)
	return err
}

func (c *turnConn) ask(ctx context.Context, opts driver.TxOptions) (driver.Tx, error) {
	patience := time.Now().Add(busyPatience)
	for {
		tx, err := c.nativeConn.BeginTx(ctx, opts)
		if code(err) != codeBusy || time.Now().After(patience) {
			return tx, err
		}
		c.waited = time.Now()
		if ended := pause(ctx, askAgain); ended != nil {
			return nil, fmt.Errorf("%w: %w", errHeld, ended)
		}
	}
}

type turnTx struct {
	driver.Tx
	conn *turnConn
}

// Commit implements [driver.Tx].
func (t turnTx) Commit() error {
	err := t.Tx.Commit()
	t.conn.ended = time.Now()
	return err
}

// Rollback implements [driver.Tx].
func (t turnTx) Rollback() error {
	err := t.Tx.Rollback()
	t.conn.ended = time.Now()
	return err
}

// pause lets d pass, or ctx end.
func pause(ctx context.Context, d time.Duration) error {
	if d <= 0 {
		return nil
	}
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
