package mysql_test

import (
	"database/sql"
	"fmt"
	"testing"

	mysqldriver "github.com/go-sql-driver/mysql"

	"github.com/lockstep-go/lockstep/conformance"
	"github.com/lockstep-go/lockstep/dialect/mysql"
	"github.com/lockstep-go/lockstep/internal/dialecttest"
	"github.com/lockstep-go/lockstep/internal/dose"
)

// reached is an empty outbox, and a proxied way to it.
func reached(t *testing.T, flavour flavour, config mysql.Config) dialecttest.Outbox {
	t.Helper()
	direct := flavour.database(t)
	f := open(t, direct, config)
	dsn, proxy := through(t, direct)
	return dialecttest.Outbox{DialectFixture: f, Through: dialect(t, dsn, config), Proxy: proxy}
}

// A session's call whose answer is lost was done, and is made again over another session: what it changes is changed
// once.
func TestALostAnswerChangesNothingTwice(t *testing.T) {
	t.Parallel()
	onBoth(t, func(t *testing.T, flavour flavour) {
		dialecttest.LostAnswerChangesNothingTwice(t, func(t *testing.T) (dialecttest.Outbox, func()) {
			o := reached(t, flavour, mysql.Config{Archive: []string{"t"}})
			return o, func() {
				eventually(t, "the server has done what it was asked, whoever lost the answer", func() bool {
					return dialecttest.Count(t, o.DialectFixture, `SELECT COUNT(*) FROM information_schema.processlist
WHERE db = DATABASE() AND command = 'Query' AND id <> CONNECTION_ID()`) == 0
				})
				emptied(t, o.DialectFixture, "")
			}
		})
	})
}

func TestALostAnswerBreaksNoMigration(t *testing.T) {
	t.Parallel()
	onBoth(t, func(t *testing.T, flavour flavour) {
		dialecttest.LostAnswerBreaksNoMigration(t, 5, func(t *testing.T) (dialecttest.Migrator, *conformance.Proxy) {
			dsn, proxy := through(t, flavour.database(t))
			return dialect(t, dsn, mysql.Config{}), proxy
		})
	})
}

// In both of the driver's ways to send arguments.
func TestALostAnswerKeepsOrderAndEventTogether(t *testing.T) {
	t.Parallel()
	for _, interpolate := range []bool{false, true} {
		each(t, fmt.Sprint("interpolateParams=", interpolate), func(t *testing.T, flavour flavour) {
			direct := flavour.database(t)
			dsn, proxy := through(t, with(t, direct, func(c *mysqldriver.Config) { c.InterpolateParams = interpolate }))
			dialecttest.LostAnswerKeepsOrderAndEventTogether(t, open(t, direct, mysql.Config{}), proxy, `INSERT INTO orders VALUES (?)`,
				func() *sql.DB { return pool(t, dsn) })
		})
	}
}

func TestARelayOnABadNetwork(t *testing.T) {
	t.Parallel()
	onBoth(t, func(t *testing.T, flavour flavour) {
		n := dose.Of(t, 300, 3000)
		o := reached(t, flavour, mysql.Config{})
		fill(t, o.DialectFixture, n, 20, "")
		dialecttest.BadNetwork(t, o, n)
	})
}
