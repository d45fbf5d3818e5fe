package postgres_test

import (
	"context"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/lockstep-go/lockstep/conformance"
	"github.com/lockstep-go/lockstep/dialect/postgres"
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
func TestConformance(t *testing.T) {
	const unusual = `-c standard_conforming_strings=off -c default_transaction_isolation=repeatable\ read ` +
		`-c TimeZone=Asia/Kathmandu -c IntervalStyle=iso_8601 -c bytea_output=escape`
	for name, open := range map[string]func(t *testing.T) conformance.DialectFixture{
		"15, binary parameters, Tokyo": func(t *testing.T) conformance.DialectFixture {
			dsn := with(t, with(t, servers.PostgresSchema(t), "binary_parameters", "yes"), "TimeZone", "Asia/Tokyo")
			return open(t, dsn, postgres.Config{Prefix: "shop_"})
		},
		"15, unusual settings": func(t *testing.T) conformance.DialectFixture {
			return open(t, with(t, servers.PostgresSchema(t), "options", unusual), postgres.Config{Prefix: "shop_"})
		},
		"18, least privilege, New York": func(t *testing.T) conformance.DialectFixture {
			return openAsRoles(t, with(t, servers.Postgres18Schema(t), "TimeZone", "America/New_York"), postgres.Config{})
		},
		"PgBouncer": openBehindPooler,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			conformance.TestDialect(t, func(t *testing.T) conformance.DialectFixture {
				f := open(t)
				f.Patience = dose.Of(t, 300*time.Millisecond, 3*time.Second)
				return f
			})
		})
	}
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

// openAsRoles migrates as the owner, and then connects as the application and as the relay.
func openAsRoles(t testing.TB, dsn string, config postgres.Config) conformance.DialectFixture {
	t.Helper()
	owner := open(t, dsn, config)
	application, relay := role(t, owner, "app"), role(t, owner, "relay")
	execute(t, owner, owner.Dialect.(*postgres.Dialect).Grants(application, relay))
	return fixture(t, as(t, dsn, relay), as(t, dsn, application), config)
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

// openBehindPooler migrates directly, and then has the pooler between, which passes no search_path on. LISTEN goes
// directly.
func openBehindPooler(t *testing.T) conformance.DialectFixture {
	t.Helper()
	pooled, direct := servers.PgBouncer(t), servers.PostgresSchema(t)
	u, err := url.Parse(direct)
	if err != nil {
		t.Fatal(err)
	}
	config := postgres.Config{Schema: u.Query().Get("search_path"), ListenDSN: direct}
	if err := dialect(t, direct, config).Migrate(t.Context()); err != nil {
		t.Fatal(err)
	}
	return fixture(t, pooled, pooled, config)
}
