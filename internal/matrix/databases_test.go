package matrix

import (
	"context"
	"database/sql"
	"net/url"
	"path/filepath"
	"testing"

	mysqldriver "github.com/go-sql-driver/mysql"

	"github.com/lockstep-go/lockstep/conformance"
	"github.com/lockstep-go/lockstep/dialect/mysql"
	"github.com/lockstep-go/lockstep/dialect/postgres"
	"github.com/lockstep-go/lockstep/dialect/sqlite"
	"github.com/lockstep-go/lockstep/internal/dose"
	"github.com/lockstep-go/lockstep/internal/servers"
)

// database is a row of the matrix.
type database struct {
	name string
	open func(t *testing.T) conformance.DialectFixture
}

var databases = []database{
	{name: "PostgreSQL", open: openPostgres},
	{name: "MySQL", open: func(t *testing.T) conformance.DialectFixture { return openMySQL(t, servers.MySQLDatabase(t), "mysql") }},
	{name: "MariaDB", open: func(t *testing.T) conformance.DialectFixture {
		return openMySQL(t, servers.MariaDBDatabase(t), "mariadb")
	}},
	{name: "SQLite", open: openSQLite},
}

// restart kills a server and brings it up again.
func restart(t *testing.T, name string) func() error {
	return func() error {
		servers.Control(t, "kill", name)
		servers.Control(t, "up", name)
		return nil
	}
}

// migrated is what our dialects are beyond core.Dialect.
type migrated interface {
	Migrate(ctx context.Context) error
	Close() error
}

func migrate(t *testing.T, d migrated, err error) {
	t.Helper()
	opened(t, d, err)
	if err := d.Migrate(t.Context()); err != nil {
		t.Fatal(err)
	}
}

// opened is for one on an outbox that is there.
func opened(t *testing.T, d migrated, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { d.Close() })
}

// pool is an application's.
func pool(t *testing.T, driver, dsn string) *sql.DB {
	t.Helper()
	db, err := sql.Open(driver, dsn)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { db.Close() })
	return db
}

// openPostgres opens a schema of its own, through a proxy.
func openPostgres(t *testing.T) conformance.DialectFixture {
	t.Helper()
	dsn, err := url.Parse(servers.PostgresSchema(t))
	if err != nil {
		t.Fatal("the server's address cannot be parsed")
	}
	proxy := servers.Proxy(t, dsn.Host, conformance.ProxyConfig{})
	dsn.Host = proxy.Addr()
	dialect, err := postgres.Open(dsn.String(), postgres.Config{})
	migrate(t, dialect, err)
	f := conformance.SQLFixture(dialect, pool(t, "postgres", dsn.String())).Through(proxy)
	f.ConcurrentWriters = true
	other, err := postgres.Open(dsn.String(), postgres.Config{})
	opened(t, other, err)
	f.Elsewhere = other
	f.Restart = restart(t, "postgres")
	return scaled(t, f)
}

// openMySQL opens a database of its own, through a proxy.
func openMySQL(t *testing.T, dsn, server string) conformance.DialectFixture {
	t.Helper()
	config, err := mysqldriver.ParseDSN(dsn)
	if err != nil {
		t.Fatal("the server's address cannot be parsed")
	}
	proxy := servers.Proxy(t, config.Addr, conformance.ProxyConfig{})
	config.Addr = proxy.Addr()
	dsn = config.FormatDSN()
	dialect, err := mysql.Open(dsn, mysql.Config{})
	migrate(t, dialect, err)
	db, err := mysql.OpenDB(dsn)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { db.Close() })
	f := conformance.SQLFixture(dialect, db).Through(proxy)
	f.ConcurrentWriters = true
	other, err := mysql.Open(dsn, mysql.Config{})
	opened(t, other, err)
	f.Elsewhere = other
	f.Restart = restart(t, server)
	return scaled(t, f)
}

// openSQLite opens a file of its own, which the application has open in another process than the relay. Its outage is the one
// that SQLite has: another process holds the write lock. What breaks is the application's process, with SIGKILL: that is how
// it loses its connection, and the answer to a COMMIT. Its restart is that all processes lose the file: see file_test.go.
func openSQLite(t *testing.T) conformance.DialectFixture {
	t.Helper()
	path := filepath.Join(t.TempDir(), "shop.db")
	relays := &file{path: path}
	if err := relays.open(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := relays.close(); err != nil {
			t.Errorf("close the file: %v", err)
		}
	})
	if err := relays.current().Migrate(t.Context()); err != nil {
		t.Fatal(err)
	}
	db := pool(t, "sqlite", "file:"+path+"?_txlock=immediate&_pragma=busy_timeout(10000)")
	db.SetMaxIdleConns(-1) // so that it does not have the file open when that is lost
	f := conformance.SQLFixture(relays, db)
	f.NoServer = true
	writes := &application{path: path}
	t.Cleanup(func() { writes.close(t) })
	f.Begin, f.Cut, f.LoseAnswers = writes.begin, writes.cut, writes.loseAnswers
	f.Restart = func() error { return restartFile(relays, writes) }
	other, err := sqlite.Open(path, sqlite.Config{})
	opened(t, other, err)
	f.Elsewhere = other
	f.Outage = func() (heal func(), err error) {
		tx, err := pool(t, "sqlite", "file:"+path+"?_txlock=immediate&_pragma=busy_timeout(10000)").Begin()
		if err != nil {
			return nil, err
		}
		return func() {
			if err := tx.Rollback(); err != nil {
				t.Error(err)
			}
		}, nil
	}
	return scaled(t, f)
}

// scaled sets how much a check writes and how often it does harm.
func scaled(t *testing.T, f conformance.DialectFixture) conformance.DialectFixture {
	t.Helper()
	f.Scale = dose.Of(t, 1, 10)
	return f
}
