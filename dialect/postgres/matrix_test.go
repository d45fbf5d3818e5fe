package postgres_test

import (
	"context"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/lockstep-go/lockstep/conformance"
	"github.com/lockstep-go/lockstep/dialect/postgres"
	"github.com/lockstep-go/lockstep/internal/dialecttest"
	"github.com/lockstep-go/lockstep/internal/dose"
	"github.com/lockstep-go/lockstep/internal/servers"
)

// The conformance suite on the servers, through the ways to connect, and with the settings that change what statements
// and values mean.
//
//   - Both of lib/pq's ways to send arguments: as text, and as bytes in one round trip.
//   - Time zones on both sides of UTC, and one that is off by minutes.
//   - The roles that Grants describes: the application may INSERT, and the relay what its statements need.
//   - A pooler that gives each transaction another server connection.
//
// Each outbox is emptied between two checks, directly and as its owner; the checks have a proxy before the server.
func TestConformance(t *testing.T) {
	const unusual = `-c standard_conforming_strings=off -c default_transaction_isolation=repeatable\ read ` +
		`-c TimeZone=Asia/Kathmandu -c IntervalStyle=iso_8601 -c bytea_output=escape`
	for name, open := range map[string]func(t *testing.T) (f, owner conformance.DialectFixture){
		"15, binary parameters, Tokyo": func(t *testing.T) (f, owner conformance.DialectFixture) {
			return openProxied(t, with(t, with(t, servers.PostgresSchema(t), "binary_parameters", "yes"), "TimeZone", "Asia/Tokyo"))
		},
		"15, unusual settings": func(t *testing.T) (f, owner conformance.DialectFixture) {
			return openProxied(t, with(t, servers.PostgresSchema(t), "options", unusual))
		},
		"18, least privilege, New York": func(t *testing.T) (f, owner conformance.DialectFixture) {
			return openAsRoles(t, with(t, servers.Postgres18Schema(t), "TimeZone", "America/New_York"))
		},
		"PgBouncer": func(t *testing.T) (f, owner conformance.DialectFixture) {
			pooled, proxy := through(t, servers.PgBouncer(t))
			f, owner = openPooled(t, pooled, prefix)
			return f.Through(proxy), owner
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f, owner := open(t)
			f.Patience = dose.Of(t, 300*time.Millisecond, 3*time.Second)
			conformance.TestDialect(t, func(t *testing.T) conformance.DialectFixture {
				dialecttest.Emptied(t, owner, prefix, "DEFAULT VALUES")
				return f
			})
		})
	}
}

// prefix is that of the conformance suite's outboxes.
const prefix = "shop_"

// openProxied returns an outbox through a proxy, and as it is directly.
func openProxied(t *testing.T, direct string) (f, owner conformance.DialectFixture) {
	t.Helper()
	dsn, proxy := through(t, direct)
	owner = open(t, direct, postgres.Config{Prefix: prefix})
	return fixture(t, dsn, dsn, postgres.Config{Prefix: prefix}).Through(proxy), owner
}

func with(t testing.TB, dsn, name, value string) string {
	t.Helper()
	u, err := url.Parse(dsn)
	if err != nil {
		t.Fatal(err)
	}
	query := u.Query()
	query.Set(name, value)
	u.RawQuery = query.Encode()
	return u.String()
}

// openAsRoles connects as the application and as the relay, through a proxy, to what its owner has migrated.
func openAsRoles(t *testing.T, direct string) (f, owner conformance.DialectFixture) {
	t.Helper()
	dsn, proxy := through(t, direct)
	config := postgres.Config{Prefix: prefix}
	owner = open(t, direct, config)
	application, relay := role(t, owner, "app"), role(t, owner, "relay")
	execute(t, owner, owner.Dialect.(*postgres.Dialect).Grants(application, relay))
	return fixture(t, as(t, dsn, relay), as(t, dsn, application), config).Through(proxy), owner
}

// role creates a role that ends with the test, named after the schema and its part.
func role(t testing.TB, f conformance.DialectFixture, part string) string {
	t.Helper()
	var schema string
	if err := f.DB.QueryRowContext(t.Context(), `SELECT current_schema`).Scan(&schema); err != nil {
		t.Fatal(err)
	}
	name := strings.Replace(schema, "test", part, 1)
	execute(t, f, `CREATE ROLE `+name+` LOGIN PASSWORD 'x'`)
	t.Cleanup(func() {
		for _, statement := range []string{`DROP OWNED BY ` + name, `DROP ROLE ` + name} {
			if _, err := f.DB.ExecContext(context.Background(), statement); err != nil {
				t.Error(err)
			}
		}
	})
	return name
}

// as returns dsn for a role that role made.
func as(t testing.TB, dsn, role string) string {
	t.Helper()
	u, err := url.Parse(dsn)
	if err != nil {
		t.Fatal(err)
	}
	u.User = url.UserPassword(role, "x")
	return u.String()
}

// openBehindPooler has the pooler between what it returns and the server.
func openBehindPooler(t *testing.T) conformance.DialectFixture {
	t.Helper()
	f, _ := openPooled(t, servers.PgBouncer(t), "")
	return f
}

// openPooled migrates directly, and then has the pooler between, which passes no search_path on. LISTEN goes directly.
func openPooled(t *testing.T, pooled, prefix string) (f, owner conformance.DialectFixture) {
	t.Helper()
	direct := servers.PostgresSchema(t)
	u, err := url.Parse(direct)
	if err != nil {
		t.Fatal(err)
	}
	config := postgres.Config{Schema: u.Query().Get("search_path"), Prefix: prefix, ListenDSN: direct}
	owner = open(t, direct, config)
	return fixture(t, pooled, pooled, config), owner
}
