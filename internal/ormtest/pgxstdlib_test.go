package ormtest

import (
	"database/sql"
	"net/url"
	"testing"
	"time"

	_ "github.com/jackc/pgx/v5/stdlib" // the driver "pgx"

	"github.com/lockstep-go/lockstep/conformance"
	"github.com/lockstep-go/lockstep/dialect/postgres"
	"github.com/lockstep-go/lockstep/internal/dialecttest"
	"github.com/lockstep-go/lockstep/internal/dose"
	"github.com/lockstep-go/lockstep/internal/servers"
)

// The suite with pgx under the application's database/sql, beside the dialect's own lib/pq, and a proxy before the server. The
// outbox is emptied between two checks, without the proxy.
func TestConformanceOverPGX(t *testing.T) {
	direct := servers.PostgresSchema(t)
	u, err := url.Parse(direct)
	if err != nil {
		t.Fatal("the server's address cannot be parsed")
	}
	proxy := servers.Proxy(t, u.Host, conformance.ProxyConfig{})
	u.Host = proxy.Addr()
	d, err := postgres.Open(u.String(), postgres.Config{Archive: []string{"*"}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { d.Close() })
	if err := d.Migrate(t.Context()); err != nil {
		t.Fatal(err)
	}
	emptier := openPGX(t, direct)
	if err := d.CheckDB(t.Context(), emptier); err != nil {
		t.Fatal(err)
	}
	conformance.TestDialect(t, func(t *testing.T) conformance.DialectFixture {
		dialecttest.Emptied(t, conformance.SQLFixture(d, emptier), "", "DEFAULT VALUES")
		// A pool for each check: pgx finds out by an error that a check before it broke the pool's connections.
		f := conformance.SQLFixture(d, openPGX(t, u.String())).Through(proxy)
		f.ConcurrentWriters, f.Patience, f.Archiving = true, dose.Of(t, 300*time.Millisecond, 3*time.Second), d
		return f
	})
}

// pgx begins a transaction as the server does by default, where lib/pq asks for one that can write: what the pool says of itself
// is all there is to see.
func TestCheckDBOverPGX(t *testing.T) {
	s := newPostgres(t)
	d, err := postgres.Open(s.dsn, postgres.Config{})
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	u, err := url.Parse(s.dsn)
	if err != nil {
		t.Fatal("the server's address cannot be parsed")
	}
	for setting, says := range map[string][2]string{
		"default_transaction_read_only": {"on", "read-only"},
		"default_transaction_isolation": {"serializable", "serializable"},
	} {
		query := u.Query()
		query.Set(setting, says[0])
		changed := *u
		changed.RawQuery = query.Encode()
		dialecttest.ExpectSetup(t, setting, d.CheckDB(t.Context(), openPGX(t, changed.String())), says[1])
	}
}

func openPGX(t *testing.T, dsn string) *sql.DB {
	t.Helper()
	db, err := sql.Open("pgx", dsn)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { db.Close() })
	return db
}
