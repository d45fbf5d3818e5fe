// Package mysql keeps a Lockstep outbox in MySQL (8.0.17 or newer) or MariaDB (10.6 or newer), in InnoDB tables, through
// go-sql-driver/mysql.
//
// The application's transactions come from its own pool, whatever its settings, isolation level and character set are.
// What a relay does goes over sessions, each a connection of its own with settings of its own. A session's statements carry
// their values in their text and travel together: one round trip each, one transaction each, and no lock is ever held
// while the server waits for the relay.
//
// Programs in any language may insert into the outbox. A row whose headers are no JSON object, which a CHECK refuses, is
// delivered all the same: with one header, lockstep-undecodable-headers, that holds the column's text.
//
// Neither database tells of commits in other processes: relays poll.
//
// Galera and Group Replication are out of scope: they hand out positions in steps, and several of their servers write.
package mysql

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync/atomic"

	mysqldriver "github.com/go-sql-driver/mysql"

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
	// Database holds the tables. Letters, digits and underscores. Defaults to the DSN's database.
	Database string
	// Prefix is put before the name of each table: with "shop_" the outbox is shop_outbox. Letters, digits and
	// underscores. Defaults to none.
	Prefix string
	// Archive names the topics whose events are kept in the archive once they are delivered; "*" is all of them. Defaults
	// to none: what is delivered is deleted.
	Archive []string
}

// Validate reports every field that is out of range.
func (c Config) Validate() error {
	errs := []error{sqlname.Check("Database", c.Database), sqlname.Check("Prefix", c.Prefix)}
	if slices.Contains(c.Archive, "") {
		errs = append(errs, errors.New("Archive has an empty topic: name topics, or give \"*\" for all"))
	}
	return errors.Join(errs...)
}

// Dialect is a MySQL or MariaDB database with an outbox in it. Safe for concurrent use.
type Dialect struct {
	source   *mysqldriver.Config // of the sessions; never changed
	database string              // of the tables; empty where a DSN names none
	prefix   string
	archive  []string
	names    *strings.Replacer

	// packet is the server's max_allowed_packet; 0 until a session asked for it.
	packet atomic.Int64

	promotions pace.Batch

	closed context.Context // done once the dialect is closed: it ends what sessions do
	close  context.CancelFunc
}

// Open returns the dialect for the database that dsn names: a mysql:// or mariadb:// URL, or the driver's own form
// (user:password@tcp(host:port)/database). It connects when first used; an application that only enqueues, in
// transactions of its own pool, never does. Call [Dialect.Migrate] before the first use, and Close at the end.
func Open(dsn string, config Config) (*Dialect, error) {
	if err := config.Validate(); err != nil {
		return nil, fmt.Errorf("mysql config: %w", err)
	}
	source, err := parseDSN(dsn)
	if err != nil {
		return nil, fmt.Errorf("mysql: %w", err)
	}
	d := &Dialect{prefix: config.Prefix, archive: slices.Clone(config.Archive), database: config.Database}
	if d.database == "" {
		d.database = source.DBName
	}
	if d.database == "" {
		return nil, errors.New("mysql: neither the DSN nor Config.Database names a database: add /NAME to the DSN")
	}
	if d.source, err = ofSessions(source); err != nil {
		return nil, fmt.Errorf("mysql: %w", err)
	}
	d.names = tableNames(d.database, d.prefix)
	d.closed, d.close = context.WithCancel(context.Background())
	return d, nil
}

// tables are all of the outbox's, without the prefix.
var tables = []string{
	"outbox", "outbox_dead", "outbox_archive", "outbox_delayed", "outbox_blocked", "outbox_control", "outbox_lease", "outbox_key_lock",
}

// tableNames puts the quoted names of the tables in the place of {outbox}, {dead} and so on.
func tableNames(database, prefix string) *strings.Replacer {
	pairs := []string{"{inbox}", identifier(database) + "." + identifier(prefix+"inbox")}
	for _, table := range tables {
		placeholder := strings.TrimPrefix(table, "outbox_")
		pairs = append(pairs, "{"+placeholder+"}", identifier(database)+"."+identifier(prefix+table))
	}
	return strings.NewReplacer(pairs...)
}

// identifier quotes a name. The database's may come from a DSN, and be any.
func identifier(name string) string { return "`" + strings.ReplaceAll(name, "`", "``") + "`" }

// Close ends what the sessions that are still open do.
func (d *Dialect) Close() error {
	d.close()
	return nil
}

// Retryable implements [core.Dialect]. A lock wait that timed out leaves the transaction open: it is rolled back before it
// is run again, like any other.
func (d *Dialect) Retryable(err error) bool {
	return slices.Contains([]uint16{codeDeadlock, codeLockWaitTimeout, codeRecordChanged, codeNoWait}, code(err))
}
