package ormtest

import (
	"database/sql"
	"testing"
	"time"

	_ "github.com/jackc/pgx/v5/stdlib" // the driver "pgx"

	"github.com/lockstep-go/lockstep/conformance"
	"github.com/lockstep-go/lockstep/dialect/postgres"
	"github.com/lockstep-go/lockstep/internal/servers"
)

// The suite with pgx under the application's database/sql, beside the dialect's own lib/pq.
func TestConformanceOverPGX(t *testing.T) {
	conformance.TestDialect(t, func(t *testing.T) conformance.DialectFixture {
		dsn := servers.PostgresSchema(t)
		d, err := postgres.Open(dsn, postgres.Config{Archive: []string{"*"}})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { d.Close() })
		if err := d.Migrate(t.Context()); err != nil {
			t.Fatal(err)
		}
		db, err := sql.Open("pgx", dsn)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { db.Close() })
		if err := d.CheckDB(t.Context(), db); err != nil {
			t.Fatal(err)
		}
		f := conformance.SQLFixture(d, db)
		f.ConcurrentWriters, f.Patience, f.Archiving = true, 300*time.Millisecond, d
		return f
	})
}
