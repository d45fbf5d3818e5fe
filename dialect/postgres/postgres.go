// Package postgres keeps a Lockstep outbox in PostgreSQL (14 or newer), through lib/pq.
//
// The application's transactions come from its own pool, of any driver. What a relay does goes over sessions, each a
// connection of its own. A session's statements carry their values in their text and travel as one message of the
// simple protocol: one round trip each, one transaction each, and whole behind a pooler that hands every transaction to
// another server connection.
//
// Programs in any language may insert into the outbox. A row whose headers are no JSON object, which a CHECK refuses, is
// delivered all the same: with one header, lockstep-undecodable-headers, that holds the column's text. A
// creation time beyond the years 1 to 9999 is brought to their end.
package postgres

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"

	"github.com/lib/pq"

	"github.com/lockstep-go/lockstep/core"
	"github.com/lockstep-go/lockstep/internal/pace"
	"github.com/lockstep-go/lockstep/internal/sqlname"
)

var (
	_ core.Dialect   = (*Dialect)(nil)
	_ core.KeyLocker = (*Dialect)(nil)
)

// Config sets where the outbox is. Its zero value works.
type Config struct {
	// Schema is the PostgreSQL schema of the tables, which must exist. Defaults to the first of the search_path.
	Schema string
	// Prefix is put before the name of each table: with "shop_" the outbox is shop_outbox. Letters, digits and
	// underscores. Defaults to none.
	Prefix string
	// Archive names the topics whose delivered events are kept in the table outbox_archive, until they are purged; "*" is
	// every topic. All relays of an outbox need the same. Defaults to none: what is delivered is deleted.
	Archive []string
	// ListenDSN is the address for LISTEN, where the DSN is that of a pooler: what hands each transaction to another
	// server connection has none that listens. Defaults to the DSN.
	ListenDSN string
}

// Validate reports every field that is out of range.
func (c Config) Validate() error {
	errs := []error{sqlname.Check("Schema", c.Schema), sqlname.Check("Prefix", c.Prefix)}
	for _, topic := range c.Archive {
		if topic == "" {
			errs = append(errs, errors.New(`Archive holds an empty topic: name topics, or "*" for all`))
		}
	}
	if c.ListenDSN != "" && !acceptable(c.ListenDSN) {
		errs = append(errs, errors.New("ListenDSN: "+badDSN))
	}
	return errors.Join(errs...)
}

// The parser's own error quotes what it could not read, which may be the password.
const badDSN = "the DSN is neither a postgres:// URL nor key=value pairs, or has a wrong value: " +
	"percent-encode special characters in a URL, quote them in pairs"

func acceptable(dsn string) bool {
	_, err := pq.NewConnector(dsn)
	return err == nil
}

// Dialect is a PostgreSQL database with an outbox in it. Safe for concurrent use.
type Dialect struct {
	dsn, listenDSN string
	schema         string
	names          *strings.Replacer
	archive        []string // topics
	migrations     []string // from version 1 on
	promotions     pace.Batch

	mu   sync.Mutex
	open map[*wire]bool // the sessions' connections; nil once the dialect is closed
}

// Open returns the dialect for the database that dsn names (a postgres:// URL or lib/pq's key=value form). It connects
// when first used; an application that only enqueues, in transactions of its own pool, never does. Call
// [Dialect.Migrate] before the first use, and Close at the end.
func Open(dsn string, config Config) (*Dialect, error) {
	if err := config.Validate(); err != nil {
		return nil, fmt.Errorf("postgres config: %w", err)
	}
	if !acceptable(dsn) {
		return nil, errors.New("postgres: " + badDSN)
	}
	return &Dialect{
		dsn: dsn, listenDSN: cmp.Or(config.ListenDSN, dsn), names: tableNames(config),
		schema: config.Schema, archive: slices.Clone(config.Archive), migrations: migrations, open: map[*wire]bool{},
	}, nil
}

// Close cuts the connections of sessions that are still open.
func (d *Dialect) Close() error {
	d.mu.Lock()
	defer d.mu.Unlock()
	for w := range d.open {
		w.cut()
	}
	d.open = nil
	return nil
}

// Retryable implements [core.Dialect], for the errors of any driver that tells the SQLSTATE.
func (d *Dialect) Retryable(err error) bool {
	var coded interface{ SQLState() string }
	if !errors.As(err, &coded) {
		return false
	}
	state := coded.SQLState()
	return state == "40001" || state == "40P01"
}
