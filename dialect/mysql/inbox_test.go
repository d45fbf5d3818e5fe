package mysql_test

import (
	"context"
	"database/sql"
	"errors"
	"strings"
	"testing"
	"time"

	mysqldriver "github.com/go-sql-driver/mysql"

	"github.com/lockstep-go/lockstep/conformance"
	"github.com/lockstep-go/lockstep/core"
	"github.com/lockstep-go/lockstep/dialect/mysql"
	"github.com/lockstep-go/lockstep/inbox"
	"github.com/lockstep-go/lockstep/internal/dose"
)

func TestInbox(t *testing.T) {
	t.Parallel()
	onBoth(t, func(t *testing.T, f flavour) {
		for _, v := range variants {
			t.Run(v.name, func(t *testing.T) {
				t.Parallel()
				dsn := with(t, f.database(t), func(c *mysqldriver.Config) { v.change(t, c) })
				fixture := openThroughProxy(t, dsn)
				fixture.Patience = dose.Of(t, 200*time.Millisecond, 3*time.Second)
				if err := fixture.Dialect.(*mysql.Dialect).MigrateInbox(t.Context()); err != nil {
					t.Fatal(err)
				}
				conformance.TestInbox(t, func(t *testing.T) conformance.DialectFixture {
					direct := fixture
					direct.DB = pool(t, dsn)
					emptied(t, direct, "shop_")
					execute(t, direct, "DELETE FROM shop_inbox")
					return fixture
				})
			})
		}
	})
}

// openThroughProxy has a proxy before the application's pool, and not before the dialect's own connections.
func openThroughProxy(t *testing.T, dsn string) conformance.DialectFixture {
	t.Helper()
	f := open(t, dsn, mysql.Config{Prefix: "shop_"})
	changed, proxy := through(t, dsn)
	proxied := conformance.SQLFixture(f.Dialect, pool(t, changed)).Through(proxy)
	proxied.ConcurrentWriters = true
	return proxied
}

// What an operator can act on says so.
func TestInboxSetupErrors(t *testing.T) {
	onBoth(t, func(t *testing.T, fl flavour) {
		f := open(t, fl.database(t), mysql.Config{})
		box, err := inbox.New(f.Dialect, inbox.Config{})
		if err != nil {
			t.Fatal(err)
		}
		expect := func(what string, err error, says string) {
			t.Helper()
			var setup *core.SetupError
			if !errors.As(err, &setup) || !strings.Contains(err.Error(), says) {
				t.Errorf("%s: got %v, want a SetupError that says %q", what, err, says)
			}
		}
		nothing := func(context.Context, *sql.Tx) error { return nil }
		expect("receive without a table", box.Handle(t.Context(), f.DB, "c", "a", nothing), "migrate --inbox")
		_, err = box.Purge(t.Context())
		expect("purge without a table", err, "migrate --inbox")
		execute(t, f, `CREATE TABLE inbox (subject text)`)
		expect("migrate what is a mailbox", f.Dialect.(*mysql.Dialect).MigrateInbox(t.Context()), "is not an inbox")
	})
}
