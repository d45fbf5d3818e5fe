package postgres_test

import (
	"context"
	"database/sql"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/lockstep-go/lockstep/conformance"
	"github.com/lockstep-go/lockstep/core"
	"github.com/lockstep-go/lockstep/dialect/postgres"
	"github.com/lockstep-go/lockstep/internal/dialecttest"
	"github.com/lockstep-go/lockstep/internal/servers"
)

// open returns a migrated dialect, and the application's pool on the same database.
func open(t testing.TB, dsn string, config postgres.Config) conformance.DialectFixture {
	t.Helper()
	if err := dialect(t, dsn, config).Migrate(t.Context()); err != nil {
		t.Fatal(err)
	}
	return fixture(t, dsn, dsn, config)
}

// fixture is a dialect on a database that is migrated, and the application's pool there.
func fixture(t testing.TB, dsn, application string, config postgres.Config) conformance.DialectFixture {
	t.Helper()
	f := conformance.SQLFixture(dialect(t, dsn, config), pool(t, application))
	f.ConcurrentWriters = true
	config.Archive = []string{"*"}
	f.Archiving = dialect(t, dsn, config)
	f.Elsewhere = f.Archiving
	return f
}

func dialect(t testing.TB, dsn string, config postgres.Config) *postgres.Dialect {
	t.Helper()
	d, err := postgres.Open(dsn, config)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { d.Close() })
	return d
}

func pool(t testing.TB, dsn string) *sql.DB {
	t.Helper()
	db, err := sql.Open("postgres", dsn)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { db.Close() })
	return db
}

func TestMain(m *testing.M) { dialecttest.Main(m, 4) }

// What the tests of all dialects share, under short names.
var (
	enqueued    = dialecttest.Enqueued
	eventually  = dialecttest.Eventually
	execute     = dialecttest.Execute
	expectSetup = dialecttest.ExpectSetup
	fetchAll    = dialecttest.FetchAll
	openSession = dialecttest.OpenSession
	started     = dialecttest.Started
)

func TestSchemaIsUsed(t *testing.T) {
	f := open(t, servers.Postgres(t), postgres.Config{})
	name := "lockstep_schema_test"
	for _, query := range []string{`DROP SCHEMA IF EXISTS ` + name + ` CASCADE`, `CREATE SCHEMA ` + name} {
		if _, err := f.DB.ExecContext(t.Context(), query); err != nil {
			t.Fatal(err)
		}
	}
	t.Cleanup(func() {
		if _, err := f.DB.ExecContext(context.Background(), `DROP SCHEMA `+name+` CASCADE`); err != nil {
			t.Error(err)
		}
	})
	open(t, servers.Postgres(t), postgres.Config{Schema: name, Prefix: "shop_"})
	var n int
	if err := f.DB.QueryRowContext(t.Context(), `SELECT count(*) FROM `+name+`.shop_outbox`).Scan(&n); err != nil {
		t.Error(err)
	}
}

// A transaction that took its positions first and commits last: a relay with a cursor would pass its events by.
func TestALateCommitIsFetched(t *testing.T) {
	f := open(t, servers.PostgresSchema(t), postgres.Config{})
	outbox := core.NewOutbox(f.Dialect, core.OutboxConfig{})
	early, err := f.DB.BeginTx(t.Context(), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer early.Rollback()
	if err := outbox.Enqueue(t.Context(), early, core.Message{ID: "early", Topic: "t", Key: "1"}); err != nil {
		t.Fatal(err)
	}
	late, err := f.DB.BeginTx(t.Context(), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer late.Rollback()
	if err := outbox.Enqueue(t.Context(), late, core.Message{ID: "late", Topic: "t", Key: "2"}); err != nil {
		t.Fatal(err)
	}
	if err := late.Commit(); err != nil {
		t.Fatal(err)
	}
	session, err := f.Dialect.Open(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer session.Close()
	first := fetchOne(t, session, "late")
	if err := session.Acknowledge(t.Context(), []core.Ref{first.Ref()}); err != nil {
		t.Fatal(err)
	}

	if err := early.Commit(); err != nil {
		t.Fatal(err)
	}

	second := fetchOne(t, session, "early")
	if second.Position >= first.Position {
		t.Errorf("positions: early has %d and late has %d: the test shows nothing", second.Position, first.Position)
	}
}

func fetchOne(t *testing.T, session core.Session, id string) core.Record {
	t.Helper()
	fetched, err := session.Fetch(t.Context(), core.FetchRequest{Limit: 10, MaxBytes: 1 << 20})
	if err != nil {
		t.Fatal(err)
	}
	records := fetched.Records
	if len(records) != 1 || records[0].Message.ID != id {
		t.Fatalf("Fetch: got %v, want %s alone", records, id)
	}
	return records[0]
}

func TestMigrateMayRunManyTimesAtOnce(t *testing.T) {
	dsn := servers.PostgresSchema(t)
	var group sync.WaitGroup
	for range 8 {
		d, err := postgres.Open(dsn, postgres.Config{})
		if err != nil {
			t.Fatal(err)
		}
		group.Go(func() {
			defer d.Close()
			if err := d.Migrate(t.Context()); err != nil {
				t.Error(err)
			}
		})
	}
	group.Wait()
}

func TestOpenRefuses(t *testing.T) {
	for names, config := range map[string]postgres.Config{
		"Schema": {Schema: `public"."x`},
		"Prefix": {Prefix: "a-b"},
	} {
		if _, err := postgres.Open("postgres://localhost/x", config); err == nil || !strings.Contains(err.Error(), names) {
			t.Errorf("Open(%+v): got %v, want an error that names %s", config, err, names)
		}
	}
}

func TestErrorsKeepThePasswordToThemselves(t *testing.T) {
	const password = "s3cret-word"
	for _, dsn := range []string{
		"postgres://user:" + password + "@127.0.0.1:1/x?sslmode=disable",
		"postgres://user:" + password + "@127.0.0.1:port/x",
		"postgres://user:" + password + "@[::1/x",
		"host=127.0.0.1 password=" + password + " port",
	} {
		d, err := postgres.Open(dsn, postgres.Config{})
		if err == nil {
			err = d.Migrate(t.Context())
		}
		if err == nil || strings.Contains(err.Error(), password) {
			t.Errorf("got %v, want an error without the password", err)
		}
	}
}

// The outer limits of what an outbox takes.
func TestDelaysWithoutBounds(t *testing.T) {
	f := open(t, servers.PostgresSchema(t), postgres.Config{})
	for id, notBefore := range map[string]time.Time{
		"far": time.Date(9999, 12, 31, 0, 0, 0, 0, time.UTC), "1970": time.Unix(1, 0),
	} {
		enqueued(t, f, core.Message{ID: id, Topic: "t", NotBefore: notBefore})
	}
	s := openSession(t, f)
	// A limit of weeks is no limit that the server could not take.
	ctx, cancel := context.WithTimeout(t.Context(), 10_000*time.Hour)
	defer cancel()
	if p, err := s.Promote(ctx, 0, 10); err != nil || p.Moved != 1 {
		t.Errorf("Promote: got %+v, %v, want the one that is due", p, err)
	}
	if _, err := s.Stats(ctx); err != nil {
		t.Error(err)
	}
}

// A table that somebody has altered must still be delivered.
func TestValuesThatGoCannotHoldHoldBackNobody(t *testing.T) {
	dsn := servers.PostgresSchema(t)
	f := open(t, dsn, postgres.Config{})
	db, err := sql.Open("postgres", dsn)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	_, err = db.ExecContext(t.Context(), `ALTER TABLE outbox DROP CONSTRAINT outbox_headers_check, DROP CONSTRAINT outbox_created_at_check;
		INSERT INTO outbox (topic, headers, payload, created_at) VALUES
		('t', '[1]', '', 'infinity'), ('t', '{"a": 1}', '', '-infinity'), ('t', '{}', '', '290000-01-01'), ('t', '{}', '', '4000-01-01 BC')`)
	if err != nil {
		t.Fatal(err)
	}
	session := openSession(t, f)
	result, err := session.Fetch(t.Context(), core.FetchRequest{Limit: 10, MaxBytes: 1 << 20})
	if err != nil || len(result.Records) != 4 {
		t.Fatalf("Fetch: got %d records and %v, want 4 and nil", len(result.Records), err)
	}
	for i, want := range []struct {
		header, value string
		year          int
	}{
		{"lockstep-undecodable-headers", "[1]", 9999}, {"a", "1", 1}, {"", "", 9999}, {"", "", 1},
	} {
		r := result.Records[i]
		if got := r.Message.Headers[want.header]; got != want.value || r.Message.EnqueuedAt.UTC().Year() != want.year {
			t.Errorf("record %d: got %q of %v, want the header %q with %q, and the year %d",
				i, r.Message.Headers, r.Message.EnqueuedAt, want.header, want.value, want.year)
		}
	}
}
