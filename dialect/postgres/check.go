package postgres

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/jmoiron/sqlx"

	"github.com/lockstep-go/lockstep/core"
)

// oldestServer is the first version that is supported, as server_version_num has it.
const oldestServer = 14_00_00

const (
	readOnly       = "the server is a standby or read-only, and an outbox is written to"
	writeElsewhere = "use the primary's address, or name all hosts in the DSN with target_session_attrs=read-write; " +
		"look at default_transaction_read_only as well"
)

var errNotMigrated = &core.SetupError{
	Problem: "there is no outbox, or not the whole of it",
	Cure: "run Migrate (`lockstep migrate`) first, with the same Schema, Prefix and search_path; " +
		"a role without USAGE on the schema does not see it either",
}

// Check reports whether a relay can work with the outbox as it is: that the server is supported and can be written to,
// that the tables are there, complete, of this package's version and durable, that the sequence hands out positions one
// by one, and that the role may do what a relay does. What is wrong is a [*core.SetupError], or several of them joined;
// any other error is the connection's. Each session checks the same when it is opened.
func (d *Dialect) Check(ctx context.Context) error {
	s, err := d.Open(ctx)
	if err != nil {
		return fmt.Errorf("check the outbox: %w", err)
	}
	return s.Close()
}

func (s *session) check(ctx context.Context) error {
	if err := s.checkServer(ctx); err != nil {
		return err
	}
	switch version, err := s.version(ctx); {
	case err != nil:
		return err
	case version == 0:
		return errNotMigrated
	case version > len(s.dialect.migrations):
		return s.dialect.newer(version)
	case version < len(s.dialect.migrations):
		return &core.SetupError{
			Problem: fmt.Sprintf("the outbox has schema version %d and this program needs %d", version, len(s.dialect.migrations)),
			Cure:    "run Migrate (`lockstep migrate`) with this release",
		}
	}
	return errors.Join(s.checkTables(ctx), s.checkPositions(ctx))
}

func (d *Dialect) newer(version int) error {
	return &core.SetupError{
		Problem: fmt.Sprintf("the outbox has schema version %d and this program knows %d at most", version, len(d.migrations)),
		Cure:    "update this program to the release that migrated the outbox",
	}
}

func (s *session) checkServer(ctx context.Context) error {
	var name string
	var number int
	var standby bool
	err := s.queryRow(ctx, `SELECT version(), current_setting('server_version_num')::integer,
  pg_is_in_recovery() OR current_setting('transaction_read_only')::boolean`, &name, &number, &standby)
	if err != nil {
		return err
	}
	if err := supported(name, number); err != nil {
		return err
	}
	if standby {
		return &core.SetupError{Problem: readOnly, Cure: writeElsewhere}
	}
	return nil
}

// supported tells PostgreSQL from what only speaks its protocol. Those hand out positions in blocks.
func supported(name string, number int) error {
	if !strings.HasPrefix(name, "PostgreSQL ") || strings.Contains(name, "-YB-") {
		return &core.SetupError{
			Problem: "the server is not PostgreSQL but " + name,
			Cure:    "use PostgreSQL: databases that hand out sequence values in blocks reorder events",
		}
	}
	if number < oldestServer {
		return &core.SetupError{
			Problem: fmt.Sprintf("the server is PostgreSQL %d, and 14 is the oldest that is supported", number/10_000),
			Cure:    "upgrade the server",
		}
	}
	return nil
}

// tableFacts finds out about every table in one statement. A column that the role may not read is in the catalog all
// the same.
const tableFacts = `SELECT w.name, c.oid IS NOT NULL, coalesce(c.relkind = 'r', false), coalesce(c.relpersistence = 'p', false),
  coalesce(row_security_active(c.oid), false),
  coalesce((SELECT string_agg(p, ', ') FROM unnest(string_to_array(w.relay, ', ')) AS p
    WHERE NOT has_table_privilege(c.oid, p)), ''),
  coalesce((SELECT string_agg(n, ', ') FROM unnest(string_to_array(w.columns, ', ')) AS n
    WHERE NOT EXISTS (SELECT FROM pg_attribute WHERE attrelid = c.oid AND attname = n AND NOT attisdropped)), ''),
  current_user
FROM (VALUES {wanted}) AS w (name, relay, columns) LEFT JOIN pg_class AS c ON c.oid = to_regclass(w.name)
ORDER BY w.name`

func (s *session) checkTables(ctx context.Context) error {
	wanted := list(tables, func(t table) string {
		return "(" + text(s.sql(t.placeholder())) + ", " + text(t.relay) + ", " + text(t.columns) + ")"
	})
	var wrong []error
	err := s.query(ctx, strings.Replace(tableFacts, "{wanted}", wanted, 1), func(rows *sqlx.Rows) error {
		var f facts
		err := rows.Scan(&f.table, &f.exists, &f.ordinary, &f.durable, &f.hidden, &f.forbidden, &f.missing, &f.role)
		wrong = append(wrong, f.wrong())
		return err
	})
	return errors.Join(err, errors.Join(wrong...))
}

// facts are what the catalog says of a table.
type facts struct {
	table                             string
	exists, ordinary, durable, hidden bool
	forbidden, missing                string // privileges and columns
	role                              string
}

func (f facts) wrong() error {
	switch {
	case !f.exists:
		return &core.SetupError{Problem: "the table " + f.table + " is missing", Cure: errNotMigrated.Cure}
	case !f.ordinary:
		return &core.SetupError{
			Problem: f.table + " is no ordinary table",
			Cure:    "let Migrate create it: views, foreign and partitioned tables do not keep an outbox's promises",
		}
	case !f.durable:
		return &core.SetupError{
			Problem: "the table " + f.table + " is unlogged or temporary: a crash empties it",
			Cure:    "ALTER TABLE " + f.table + " SET LOGGED",
		}
	case f.missing != "":
		return &core.SetupError{
			Problem: "the table " + f.table + " lacks the columns " + f.missing,
			Cure:    "restore them as `lockstep migrate --print` (Schema) shows them",
		}
	case f.forbidden != "":
		return &core.SetupError{
			Problem: "the role " + f.role + " lacks " + f.forbidden + " on the table " + f.table,
			Cure:    "GRANT " + f.forbidden + " ON " + f.table + " to it, or run what Grants prints",
		}
	case f.hidden:
		return &core.SetupError{
			Problem: "row level security hides rows of the table " + f.table + " from the role " + f.role,
			Cure:    "ALTER TABLE " + f.table + " DISABLE ROW LEVEL SECURITY, or give the role BYPASSRLS",
		}
	}
	return nil
}

// positionFacts are how the two tables that are enqueued to hand out their positions.
const positionFacts = `SELECT a.attrelid::regclass, a.attidentity = 'a', coalesce(q.seqcache, 1), coalesce(q.seqincrement, 1),
  EXISTS (SELECT FROM pg_index AS i WHERE i.indrelid = a.attrelid AND i.indisprimary AND i.indisvalid
    AND i.indnkeyatts = 1 AND i.indkey[0] = a.attnum)
FROM pg_attribute AS a LEFT JOIN pg_sequence AS q ON q.seqrelid = pg_get_serial_sequence(a.attrelid::regclass::text, 'position')::regclass
WHERE a.attrelid IN (to_regclass({outbox_literal}), to_regclass({delayed_literal})) AND a.attname = 'position'
ORDER BY 1`

func (s *session) checkPositions(ctx context.Context) error {
	query := strings.NewReplacer("{outbox_literal}", text(s.sql("{outbox}")), "{delayed_literal}", text(s.sql("{delayed}"))).Replace(positionFacts)
	var wrong []error
	err := s.query(ctx, query, func(rows *sqlx.Rows) error {
		var table string
		var identity, key bool
		var cache, increment int64
		if err := rows.Scan(&table, &identity, &cache, &increment, &key); err != nil {
			return err
		}
		wrong = append(wrong, wrongPositions(table, identity, key, cache, increment))
		return nil
	})
	return errors.Join(err, errors.Join(wrong...))
}

func wrongPositions(table string, identity, key bool, cache, increment int64) error {
	alter := "ALTER TABLE " + table + " ALTER position "
	switch {
	case !identity:
		return &core.SetupError{
			Problem: "the positions of " + table + " are not GENERATED ALWAYS: a writer could take one beforehand, and a relay would pass it by",
			Cure:    alter + "SET GENERATED ALWAYS, or ADD GENERATED ALWAYS AS IDENTITY",
		}
	case cache != 1:
		return &core.SetupError{
			Problem: fmt.Sprintf("the sequence of %s has CACHE %d: each connection hands out positions of its own block, which reorders events", table, cache),
			Cure:    alter + "SET CACHE 1",
		}
	case increment != 1:
		return &core.SetupError{
			Problem: fmt.Sprintf("the sequence of %s has INCREMENT %d: every position between is a gap that a relay waits for", table, increment),
			Cure:    alter + "SET INCREMENT 1",
		}
	case !key:
		return &core.SetupError{
			Problem: "the table " + table + " has no primary key on position: each poll would read all of it",
			Cure:    "ALTER TABLE " + table + " ADD PRIMARY KEY (position)",
		}
	}
	return nil
}
