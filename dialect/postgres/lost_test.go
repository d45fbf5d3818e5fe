package postgres_test

import (
	"database/sql"
	"fmt"
	"testing"

	"github.com/lockstep-go/lockstep/conformance"
	"github.com/lockstep-go/lockstep/dialect/postgres"
	"github.com/lockstep-go/lockstep/internal/dialecttest"
	"github.com/lockstep-go/lockstep/internal/dose"
	"github.com/lockstep-go/lockstep/internal/servers"
)

// reached is an empty outbox, and a proxied way to it.
func reached(t *testing.T, config postgres.Config) dialecttest.Outbox {
	t.Helper()
	direct := servers.PostgresSchema(t)
	f := open(t, direct, config)
	dsn, proxy := through(t, direct)
	return dialecttest.Outbox{DialectFixture: f, Through: dialect(t, dsn, config), Proxy: proxy}
}

// A session's call whose answer is lost was done, and is made again over another session: what it changes is changed
// once.
func TestALostAnswerChangesNothingTwice(t *testing.T) {
	dialecttest.LostAnswerChangesNothingTwice(t, func(t *testing.T) (dialecttest.Outbox, func()) {
		o := reached(t, postgres.Config{Archive: []string{"t"}})
		return o, func() { dialecttest.Emptied(t, o.DialectFixture, "", "DEFAULT VALUES") }
	})
}

func TestALostAnswerBreaksNoMigration(t *testing.T) {
	t.Parallel()
	dialecttest.LostAnswerBreaksNoMigration(t, 8, func(t *testing.T) (dialecttest.Migrator, *conformance.Proxy) {
		dsn, proxy := through(t, servers.PostgresSchema(t))
		return dialect(t, dsn, postgres.Config{}), proxy
	})
}

// In both of the driver's ways to send arguments.
func TestALostAnswerKeepsOrderAndEventTogether(t *testing.T) {
	for _, binary := range []string{"yes", "no"} {
		t.Run("binary_parameters="+binary, func(t *testing.T) {
			t.Parallel()
			direct := servers.PostgresSchema(t)
			dsn, proxy := through(t, with(t, direct, "binary_parameters", binary))
			dialecttest.LostAnswerKeepsOrderAndEventTogether(t, open(t, direct, postgres.Config{}), proxy, `INSERT INTO orders VALUES ($1)`,
				func() *sql.DB { return pool(t, dsn) })
		})
	}
}

func TestARelayOnABadNetwork(t *testing.T) {
	t.Parallel()
	n := dose.Of(t, 300, 3000)
	o := reached(t, postgres.Config{})
	execute(t, o.DialectFixture, fmt.Sprintf(`INSERT INTO outbox (id, topic, key, payload) SELECT i, 't', i %% 20, '' FROM generate_series(1, %d) AS i`, n))
	dialecttest.BadNetwork(t, o, n)
}
