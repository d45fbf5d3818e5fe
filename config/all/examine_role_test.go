package all_test

import (
	"database/sql"
	"net/url"
	"slices"
	"strings"
	"testing"

	"github.com/lockstep-go/lockstep/config"
	"github.com/lockstep-go/lockstep/config/all"
	"github.com/lockstep-go/lockstep/dialect/mysql"
	"github.com/lockstep-go/lockstep/internal/servers"
)

// postgresVersions are those that answer differently to who asks for what he may not see.
func postgresVersions(t *testing.T, test func(t *testing.T, address string)) {
	for name, address := range map[string]func(t servers.TB) string{"15": servers.PostgresSchema, "18": servers.Postgres18Schema} {
		t.Run(name, func(t *testing.T) { test(t, address(t)) })
	}
}

func number(t *testing.T, db *sql.DB, query string) (n int64) {
	t.Helper()
	if err := db.QueryRowContext(t.Context(), query).Scan(&n); err != nil {
		t.Fatalf("%s: %v", query, err)
	}
	return n
}

// A sequence behind its table is found, and one that was set to the next position is none. The cure, carried out as it is
// printed, takes it past what is known to be taken, and never back.
func TestAPostgresSequenceIsMovedForwardOnly(t *testing.T) {
	postgresVersions(t, func(t *testing.T, address string) {
		examined(t, address) // migrates
		db := pool(t, "postgres", address)
		const words, setval = "the sequence of positions", `SELECT setval(pg_get_serial_sequence('"Shop_outbox"', 'position'), `
		const next = `SELECT nextval(pg_get_serial_sequence('"Shop_outbox"', 'position'))`
		execute(t, db, `INSERT INTO "Shop_outbox" (topic, payload) SELECT 'orders', '' FROM generate_series(1, 100)`)
		expectNone(t, examined(t, address), words)
		execute(t, db, setval+`101, false)`)
		expectNone(t, examined(t, address), words)
		execute(t, db, setval+`7)`)
		found := examined(t, address)
		expectFinding(t, found, false, words+" stands at 7 and the outbox has 100", "setval")
		at := slices.IndexFunc(found, func(f config.Finding) bool { return strings.Contains(f.Problem, words) })
		if at < 0 {
			t.FailNow()
		}
		cure := found[at].Cure
		cure = cure[strings.Index(cure, "BEGIN;"):strings.LastIndex(cure, "; see ")]
		execute(t, db, cure)
		expectNone(t, examined(t, address), words)
		if got := number(t, db, next); got != 101 {
			t.Errorf("cured: got position %d, want 101", got)
		}
		execute(t, db, cure, cure)
		if got := number(t, db, next); got != 102 {
			t.Errorf("cured when there was nothing to cure: got position %d, want 102", got)
		}
		execute(t, db, `INSERT INTO "Shop_outbox_dead" (position, id, topic, key, headers, payload, created_at, attempts, cause)
			VALUES (150, 'x', 'orders', '', '{}', '', now(), 1, 'refused')`, cure)
		if got := number(t, db, next); got != 151 {
			t.Errorf("with a dead letter: got position %d, want 151", got)
		}
	})
}

// Under the privileges that Grants gives a relay, what doctor may not see is unknown, and says what to grant: no problem,
// and not nothing.
func TestDoctorAsThePostgresRelay(t *testing.T) {
	postgresVersions(t, func(t *testing.T, address string) {
		u, err := url.Parse(address)
		if err != nil {
			t.Fatal("the server's address cannot be parsed")
		}
		role := strings.Replace(u.Query().Get("search_path"), "test", "relay", 1)
		u.User = url.UserPassword(role, "x")
		dialect, err := all.Registry().OpenDialect(config.NewURL(address), config.Options{Prefix: "Shop_"})
		if err != nil {
			t.Fatal(err)
		}
		defer dialect.Close()
		if err := dialect.Migrate(t.Context()); err != nil {
			t.Fatal(err)
		}
		db := pool(t, "postgres", address)
		execute(t, db, `CREATE ROLE `+role+` LOGIN PASSWORD 'x'`)
		t.Cleanup(func() { execute(t, db, `DROP OWNED BY `+role, `DROP ROLE `+role) })
		execute(t, db, dialect.Grants("", role), `INSERT INTO "Shop_outbox" (topic, payload) VALUES ('orders', '')`)
		another, err := db.BeginTx(t.Context(), nil) // a session of another role
		if err != nil {
			t.Fatal(err)
		}
		defer another.Rollback()

		relay, err := all.Registry().OpenDialect(config.NewURL(u.String()), config.Options{Prefix: "Shop_"})
		if err != nil {
			t.Fatal(err)
		}
		defer relay.Close()
		sequence := u.Query().Get("search_path") + `."Shop_outbox_position_seq"`
		expectUnknown(t, relay, `GRANT SELECT ON SEQUENCE `+sequence+` TO `+role, `GRANT pg_read_all_stats TO `+role)
		execute(t, db, `GRANT SELECT ON SEQUENCE `+sequence+` TO `+role)
		expectUnknown(t, relay, `GRANT pg_read_all_stats TO `+role)
		execute(t, db, `GRANT pg_read_all_stats TO `+role)
		expectUnknown(t, relay)
	})
}

// The same on MySQL and MariaDB: what the privilege PROCESS shows is unknown without it.
func TestDoctorAsTheMySQLRelay(t *testing.T) {
	for name, address := range map[string]func(t servers.TB) string{"mysql": servers.MySQLURL, "mariadb": servers.MariaDBURL} {
		t.Run(name, func(t *testing.T) {
			address := address(t)
			u, err := url.Parse(address)
			if err != nil {
				t.Fatal("the server's address cannot be parsed")
			}
			user := "relay_" + u.Path[max(0, len(u.Path)-16):]
			dialect, err := all.Registry().OpenDialect(config.NewURL(address), config.Options{})
			if err != nil {
				t.Fatal(err)
			}
			defer dialect.Close()
			if err := dialect.Migrate(t.Context()); err != nil {
				t.Fatal(err)
			}
			db, err := mysql.OpenDB(address)
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { db.Close() })
			execute(t, db, `CREATE USER '`+user+`'@'%' IDENTIFIED BY 'x'`)
			t.Cleanup(func() { execute(t, db, `DROP USER '`+user+`'@'%'`) })
			for statement := range strings.SplitSeq(dialect.Grants("", user), ";\n") {
				if strings.HasPrefix(statement, "GRANT") {
					execute(t, db, statement)
				}
			}
			u.User = url.UserPassword(user, "x")
			relay, err := all.Registry().OpenDialect(config.NewURL(u.String()), config.Options{})
			if err != nil {
				t.Fatal(err)
			}
			defer relay.Close()
			process := `GRANT PROCESS ON *.* TO '` + user + `'@'%'`
			expectUnknown(t, relay, process)
			execute(t, db, process)
			expectUnknown(t, relay)
		})
	}
}

// expectUnknown expects no finding about the sequence, and these grants to be asked for and no others.
func expectUnknown(t *testing.T, dialect config.Dialect, grants ...string) {
	t.Helper()
	found, err := dialect.(config.Examiner).Examine(t.Context())
	expectNone(t, found, "the sequence of positions")
	if len(grants) == 0 {
		if err != nil {
			t.Errorf("got %v, want everything to be found out", err)
		}
		return
	}
	if err == nil || strings.Count(err.Error(), "GRANT ") != len(grants) {
		t.Fatalf("got %v, want it to ask for %q", err, grants)
	}
	for _, grant := range grants {
		if !strings.Contains(err.Error(), grant) {
			t.Errorf("got %v, want it to ask for %s", err, grant)
		}
	}
}
