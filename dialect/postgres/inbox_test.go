package postgres_test

import (
	"context"
	"database/sql"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/lockstep-go/lockstep/conformance"
	"github.com/lockstep-go/lockstep/core"
	"github.com/lockstep-go/lockstep/dialect/postgres"
	"github.com/lockstep-go/lockstep/inbox"
	"github.com/lockstep-go/lockstep/internal/dose"
	"github.com/lockstep-go/lockstep/internal/servers"
)

func TestInbox(t *testing.T) {
	for name, open := range map[string]func(t *testing.T) conformance.DialectFixture{
		"defaults": func(t *testing.T) conformance.DialectFixture {
			dsn := servers.PostgresSchema(t)
			return proxied(t, open(t, dsn, postgres.Config{}), dsn)
		},
		"binary parameters, prefix": func(t *testing.T) conformance.DialectFixture {
			dsn := with(t, servers.PostgresSchema(t), "binary_parameters", "yes")
			return proxied(t, open(t, dsn, postgres.Config{Prefix: prefix}), dsn)
		},
		"repeatable read": func(t *testing.T) conformance.DialectFixture {
			dsn := with(t, servers.PostgresSchema(t), "default_transaction_isolation", "repeatable read")
			return proxied(t, open(t, dsn, postgres.Config{}), dsn)
		},
		"serializable": func(t *testing.T) conformance.DialectFixture {
			dsn := with(t, servers.PostgresSchema(t), "default_transaction_isolation", "serializable")
			return proxied(t, open(t, dsn, postgres.Config{}), dsn)
		},
		"PgBouncer": func(t *testing.T) conformance.DialectFixture {
			return proxied(t, openBehindPooler(t), servers.PgBouncer(t))
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := open(t)
			f.Patience = dose.Of(t, 200*time.Millisecond, 3*time.Second)
			if err := f.Dialect.(*postgres.Dialect).MigrateInbox(t.Context()); err != nil {
				t.Fatal(err)
			}
			conformance.TestInbox(t, func(t *testing.T) conformance.DialectFixture {
				s := openSession(t, f) // which is not behind the proxy
				for {
					records, err := s.Fetch(t.Context(), core.FetchRequest{Limit: 1000, MaxBytes: 1 << 30})
					if err != nil {
						t.Fatal(err)
					}
					if len(records.Records) == 0 {
						break
					}
					var refs []core.Ref
					for _, r := range records.Records {
						refs = append(refs, r.Ref())
					}
					if err := s.Acknowledge(t.Context(), refs); err != nil {
						t.Fatal(err)
					}
				}
				if _, err := f.Dialect.(*postgres.Dialect).Forget(t.Context(), 0, 1000); err != nil {
					t.Fatal(err)
				}
				return f
			})
		})
	}
}

// proxied has a proxy before the application's pool, and not before the dialect's own connections.
func proxied(t *testing.T, f conformance.DialectFixture, dsn string) conformance.DialectFixture {
	t.Helper()
	changed, proxy := through(t, dsn)
	own := conformance.SQLFixture(f.Dialect, pool(t, changed)).Through(proxy)
	own.ConcurrentWriters = true
	return own
}

// What an operator can act on says so.
func TestInboxSetupErrors(t *testing.T) {
	f := open(t, servers.PostgresSchema(t), postgres.Config{})
	box, err := inbox.New(f.Dialect, inbox.Config{})
	if err != nil {
		t.Fatal(err)
	}
	nothing := func(context.Context, *sql.Tx) error { return nil }
	expect := func(what string, err error, says string) {
		t.Helper()
		var setup *core.SetupError
		if !errors.As(err, &setup) || !strings.Contains(err.Error(), says) {
			t.Errorf("%s: got %v, want a SetupError that says %q", what, err, says)
		}
	}
	expect("receive without a table", box.Handle(t.Context(), f.DB, "c", "a", nothing), "migrate --inbox")
	_, err = box.Purge(t.Context())
	expect("purge without a table", err, "migrate --inbox")
	execute(t, f, `CREATE TABLE inbox (consumer text, id text, received_at timestamptz)`)
	expect("receive into a table without the key", box.Handle(t.Context(), f.DB, "c", "a", nothing), "is not an inbox")
	execute(t, f, `DROP TABLE inbox`)
	execute(t, f, `CREATE TABLE inbox (subject text)`)
	expect("migrate what is a mailbox", f.Dialect.(*postgres.Dialect).MigrateInbox(t.Context()), "is not an inbox")
}

// The consumer's role needs SELECT and INSERT, as the documentation says.
func TestInboxPrivileges(t *testing.T) {
	dsn := servers.PostgresSchema(t)
	owner := open(t, dsn, postgres.Config{})
	if err := owner.Dialect.(*postgres.Dialect).MigrateInbox(t.Context()); err != nil {
		t.Fatal(err)
	}
	consumer := role(t, owner, "app")
	execute(t, owner, owner.Dialect.(*postgres.Dialect).Grants(consumer, ""))
	f := fixture(t, as(t, dsn, consumer), as(t, dsn, consumer), postgres.Config{})
	box, err := inbox.New(f.Dialect, inbox.Config{})
	if err != nil {
		t.Fatal(err)
	}
	handle := func() error {
		return box.Handle(t.Context(), f.DB, "c", "a", func(context.Context, *sql.Tx) error { return nil })
	}
	if err := handle(); err == nil || !strings.Contains(err.Error(), "GRANT SELECT, INSERT") {
		t.Errorf("without privileges: got %v, want what to grant", err)
	}
	execute(t, owner, `GRANT SELECT, INSERT ON inbox TO `+consumer)
	if err := errors.Join(handle(), f.Dialect.(*postgres.Dialect).MigrateInbox(t.Context())); err != nil {
		t.Errorf("with what the documentation says: %v", err)
	}
	if _, err := box.Purge(t.Context()); err == nil {
		t.Error("a role that may not delete purges: the test shows nothing")
	}
	execute(t, owner, `GRANT UPDATE, DELETE ON inbox TO `+consumer)
	if _, err := box.Purge(t.Context()); err != nil {
		t.Errorf("purge with what the documentation says: %v", err)
	}
}
