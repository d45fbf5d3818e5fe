package mysql_test

import (
	"database/sql"
	"testing"

	mysqldriver "github.com/go-sql-driver/mysql"
	"go.uber.org/goleak"

	"github.com/lockstep-go/lockstep/conformance"
	"github.com/lockstep-go/lockstep/dialect/mysql"
	"github.com/lockstep-go/lockstep/internal/servers"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// flavour is a kind of server.
type flavour struct {
	name, server string
	database     func(servers.TB) string // a new one's DSN
}

var flavours = []flavour{
	{"MySQL", "mysql", servers.MySQLDatabase},
	{"MariaDB", "mariadb", servers.MariaDBDatabase},
}

// onBoth runs test for each flavour, in parallel with others.
func onBoth(t *testing.T, test func(t *testing.T, f flavour)) {
	t.Helper()
	for _, f := range flavours {
		t.Run(f.name, func(t *testing.T) {
			t.Parallel()
			test(t, f)
		})
	}
}

// open returns a migrated dialect, and the application's pool on the same database.
func open(t *testing.T, dsn string, config mysql.Config) conformance.DialectFixture {
	t.Helper()
	d, err := mysql.Open(dsn, config)
	if err != nil {
		t.Fatal(err)
	}
	db, err := sql.Open("mysql", dsn)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		d.Close()
		db.Close()
	})
	if err := d.Migrate(t.Context()); err != nil {
		t.Fatal(err)
	}
	f := conformance.SQLFixture(d, db)
	f.ConcurrentWriters = true
	return f
}

// with returns dsn with its settings changed.
func with(t *testing.T, dsn string, change func(c *mysqldriver.Config)) string {
	t.Helper()
	c, err := mysqldriver.ParseDSN(dsn)
	if err != nil {
		t.Fatal(err)
	}
	if c.Params == nil {
		c.Params = map[string]string{}
	}
	change(c)
	return c.FormatDSN()
}

func TestConformance(t *testing.T) {
	onBoth(t, func(t *testing.T, f flavour) {
		conformance.TestDialect(t, func(t *testing.T) conformance.DialectFixture {
			return open(t, f.database(t), mysql.Config{Prefix: "shop_"})
		})
	})
}
