package postgres

import (
	"context"
	"database/sql"
	"embed"
	"errors"
	"fmt"
	"io/fs"
	"strings"

	"github.com/lib/pq"

	"github.com/lockstep-go/lockstep/core"
)

const (
	// migrateLock serialises concurrent Migrate calls. An arbitrary number that stays the same for good ("lockstep" in
	// ASCII).
	migrateLock = 0x6c6f636b73746570

	// lockPatience is how long a migration waits for a table's lock. Whoever comes after it waits behind it: longer
	// than this no application is held up.
	lockPatience = "2s"
)

//go:embed migrations/*.sql
var migrationFiles embed.FS

// migrations are the steps from one version of the schema to the next, from nothing to version 1 on.
var migrations = readMigrations()

func readMigrations() []string {
	var steps []string
	for {
		step, err := fs.ReadFile(migrationFiles, fmt.Sprintf("migrations/%04d.sql", len(steps)+1))
		if err != nil {
			return steps
		}
		steps = append(steps, string(step))
	}
}

// step returns the statements that bring the schema from version-1 to version, without the tables' names.
func (d *Dialect) step(version int) string {
	if version == 1 {
		return d.migrations[0] // which makes the row that holds the version
	}
	statements := strings.TrimSuffix(strings.TrimSpace(d.migrations[version-1]), ";")
	return statements + ";\nUPDATE {control} SET schema_version = " + integer(version) + ";\n"
}

// Migrate creates the outbox's tables, or brings them to this package's version. It is one transaction: done wholly or
// not at all. Concurrent callers are safe, and it waits for a lock on a table for 2 s at most, so that nobody waits for
// long behind it. Where there is nothing to do it needs no privilege and takes no lock.
//
// A [*core.SetupError] says what is in the way: a name that is taken, a lock that another transaction holds, a missing
// privilege, a schema that is newer than this package.
func (d *Dialect) Migrate(ctx context.Context) error {
	s, err := d.connect(ctx)
	if err != nil {
		return fmt.Errorf("migrate: %w", err)
	}
	if err := s.migrate(ctx); err != nil {
		return errors.Join(fmt.Errorf("migrate: %w", err), s.Close())
	}
	return s.Close()
}

func (s *session) migrate(ctx context.Context) error {
	if err := s.checkServer(ctx); err != nil {
		return err
	}
	switch version, err := s.version(ctx); {
	case err != nil:
		return err
	case version == len(s.dialect.migrations):
		return nil
	case version > len(s.dialect.migrations):
		return s.dialect.newer(version)
	}
	err := s.guard(ctx, func(call context.Context) error {
		tx, err := s.conn.BeginTx(call, nil)
		if err != nil {
			return err
		}
		defer tx.Rollback()
		if _, err := tx.ExecContext(call, prologue(ctx)+`SELECT pg_advisory_xact_lock(`+integer(migrateLock)+`)`); err != nil {
			return err
		}
		if err := s.apply(call, tx); err != nil {
			return err
		}
		return tx.Commit()
	})
	return s.explain(err)
}

// apply runs the steps that are missing now: another caller may have been faster.
func (s *session) apply(ctx context.Context, tx *sql.Tx) error {
	version, err := scanVersion(func(query string, into any) error {
		return tx.QueryRowContext(ctx, query).Scan(into)
	}, s)
	if err != nil {
		return err
	}
	if _, err := tx.ExecContext(ctx, `SET LOCAL lock_timeout = '`+lockPatience+`'`); err != nil {
		return err
	}
	for version++; version <= len(s.dialect.migrations); version++ {
		if _, err := tx.ExecContext(ctx, s.sql(s.dialect.step(version))); err != nil {
			return fmt.Errorf("to version %d: %w", version, err)
		}
	}
	return nil
}

// version is the schema's, 0 where there is none.
func (s *session) version(ctx context.Context) (int, error) {
	version, err := scanVersion(func(query string, into any) error { return s.queryRow(ctx, query, into) }, s)
	return version, s.explain(err)
}

func scanVersion(scan func(query string, into any) error, s *session) (int, error) {
	exists, version := false, 0
	// The table is looked up in pg_class, because a connection learns only when it locks a relation that another one has
	// created the table since: to_regclass alone would answer from its cache, after the wait for another migration too.
	if err := scan(`SELECT EXISTS (SELECT FROM pg_class WHERE oid = to_regclass(`+text(s.sql("{control}"))+`))`, &exists); err != nil || !exists {
		return 0, err
	}
	err := scan(s.sql(`SELECT schema_version FROM {control}`), &version)
	return version, err
}

// explain makes a SetupError of the server's errors that an operator can act on.
func (s *session) explain(err error) error {
	var native *pq.Error
	if !errors.As(err, &native) {
		return err
	}
	outbox := s.sql("{outbox}")
	setup := &core.SetupError{Err: err}
	switch native.SQLState() {
	case "42P07":
		setup.Problem = "a table or index that the outbox " + outbox + " needs the name of exists already"
		setup.Cure = "give the outbox a Prefix or a Schema of its own, or remove what has the name"
	case "42703":
		setup.Problem = "the table " + s.sql("{control}") + " is not an outbox's"
		setup.Cure = "give the outbox a Prefix or a Schema of its own"
	case "55P03":
		setup.Problem = "another transaction held a lock on the outbox " + outbox + " for longer than " + lockPatience
		setup.Cure = "end long transactions that wrote to it (pg_stat_activity, pg_prepared_xacts), and run Migrate again"
	case "42501":
		setup.Problem = "the role may not create the outbox " + outbox + " or read its schema"
		setup.Cure = "run Migrate as the schema's owner, or GRANT CREATE, USAGE ON SCHEMA to the role"
	case "3F000":
		setup.Problem = "the schema of the outbox " + outbox + " does not exist"
		setup.Cure = "CREATE SCHEMA first, or correct Schema or the search_path"
	case "25006":
		setup.Problem, setup.Cure = readOnly, writeElsewhere
	default:
		return err
	}
	return setup
}

// Schema returns the statements that create the outbox's tables, for those who run migrations with a tool of their own:
// the steps from nothing to this package's version, each under a comment that names it. Run them with the search_path
// that the application has, where no Schema is configured, in one transaction. See [Dialect.Grants] as well.
func (d *Dialect) Schema() string {
	var b strings.Builder
	for version := 1; version <= len(d.migrations); version++ {
		fmt.Fprintf(&b, "-- Lockstep outbox, version %d.\n%s\n", version, strings.TrimSpace(d.names.Replace(d.step(version))))
	}
	return b.String()
}

// Grants returns the statements that give two roles what they need and no more: application, which enqueues, and relay,
// which carries the events away and does an operator's work. A role without a name is left out. Run them after each
// migration, as the owner of the tables. The relay may not read the sequence and see other roles' transactions, which
// `lockstep doctor` looks at: as this role it lists them as unknown, with what to grant.
func (d *Dialect) Grants(application, relay string) string {
	var b strings.Builder
	for _, role := range []string{application, relay} {
		if role != "" {
			b.WriteString(d.grantUsage(pq.QuoteIdentifier(role)) + ";\n")
		}
	}
	for _, t := range tables {
		name := d.names.Replace(t.placeholder())
		if application != "" && t.enqueued {
			fmt.Fprintf(&b, "GRANT INSERT ON %s TO %s;\n", name, pq.QuoteIdentifier(application))
		}
		if relay != "" {
			fmt.Fprintf(&b, "GRANT %s ON %s TO %s;\n", t.relay, name, pq.QuoteIdentifier(relay))
		}
	}
	return b.String()
}

// grantUsage lets a role see the schema. One that only the search_path names has to be asked for.
func (d *Dialect) grantUsage(role string) string {
	if d.schema != "" {
		return `GRANT USAGE ON SCHEMA "` + d.schema + `" TO ` + role
	}
	return "DO " + strings.TrimSpace(text(`BEGIN EXECUTE format('GRANT USAGE ON SCHEMA %I TO %s', current_schema(), `+text(role)+`); END`))
}
