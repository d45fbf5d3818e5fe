package all

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/lockstep-go/lockstep/config"
	"github.com/lockstep-go/lockstep/core"
)

// makeWithin bounds the making of a thing.
const makeWithin = 20 * time.Second

// otherTopic ends the name of the second of two throw-away topics.
const otherTopic = "other"

// scratchTable returns the name of the application's table beside a throw-away outbox, in the outbox's schema.
func scratchTable(schema, name string, quote func(name string) string) string {
	table := quote(name + "application")
	if schema != "" {
		table = quote(schema) + "." + table
	}
	return table
}

// everyTopic archives all.
var everyTopic = []string{"*"}

// scratchDialects opens what one throw-away outbox needs: two dialects, of which one archives, and the application's pool.
// drop is what removes the tables afterwards.
func scratchDialects(
	ctx context.Context, where, table string, open func(archive []string) (config.Dialect, error), pool func() (*sql.DB, error),
	drop func(ctx context.Context) error,
) (_ *config.ScratchOutbox, err error) {
	var closers []io.Closer
	s := &config.ScratchOutbox{ConcurrentWriters: true, Where: where, Table: table}
	s.Remove = func(ctx context.Context) error {
		var errs []error
		for _, c := range closers {
			errs = append(errs, c.Close())
		}
		closers = nil
		if err := drop(ctx); err != nil {
			errs = append(errs, fmt.Errorf("remove %s: %w", where, err))
		}
		return errors.Join(errs...)
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, s.Remove(context.WithoutCancel(ctx)))
		}
	}()
	dialect, err := open(nil)
	if err != nil {
		return nil, err
	}
	closers = append(closers, dialect)
	if err := toTheEnd(ctx, dialect.Migrate); err != nil {
		return nil, fmt.Errorf("make a throw-away outbox: %w", err)
	}
	archiving, err := open(everyTopic)
	if err != nil {
		return nil, err
	}
	closers = append(closers, archiving)
	if s.DB, err = pool(); err != nil {
		return nil, err
	}
	closers = append(closers, s.DB)
	s.Dialect, s.Archiving, s.Elsewhere = dialect, archiving, archiving
	return s, nil
}

// toTheEnd runs what has a server make something, and does not end before the server did, though ctx does: what is abandoned
// may be carried out after it was removed.
func toTheEnd(ctx context.Context, something func(ctx context.Context) error) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), makeWithin)
	defer cancel()
	return something(ctx)
}

// dropAll drops every table that find, a query for schemas and names, returns. prepare sets what bounds the waiting.
func dropAll(ctx context.Context, open func() (*sql.DB, error), prepare, find string, quote func(name string) string) (err error) {
	db, err := open()
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, db.Close()) }()
	conn, err := db.Conn(ctx)
	if err != nil {
		return err
	}
	defer conn.Close()
	rows, err := conn.QueryContext(ctx, find)
	if err != nil {
		return err
	}
	defer rows.Close()
	var tables []string
	for rows.Next() {
		var schema, table string
		if err := rows.Scan(&schema, &table); err != nil {
			return err
		}
		tables = append(tables, quote(schema)+"."+quote(table))
	}
	if err := rows.Err(); err != nil || len(tables) == 0 {
		return err
	}
	if _, err := conn.ExecContext(ctx, prepare); err != nil {
		return err
	}
	_, err = conn.ExecContext(ctx, "DROP TABLE "+strings.Join(tables, ", "))
	return err
}

// redirected returns address, or the way to it.
func redirected(through config.Through, address string) (string, error) {
	if through == nil {
		return address, nil
	}
	return through(address)
}

// setHeader adds a header that is the message's own.
func setHeader(m *core.Message, name, value string) {
	if strings.HasPrefix(name, core.ReservedHeaderPrefix) {
		return
	}
	if m.Headers == nil {
		m.Headers = map[string]string{}
	}
	m.Headers[name] = value
}
