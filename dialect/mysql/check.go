package mysql

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/jmoiron/sqlx"

	"github.com/lockstep-go/lockstep/core"
)

// table is the name of a table by its placeholder's.
func (d *Dialect) table(placeholder string) string {
	if placeholder == "outbox" {
		return d.prefix + "outbox"
	}
	return d.prefix + "outbox_" + placeholder
}

// Check reports why the server cannot hold or serve the outbox as it is, as [core.SetupError]s: it is too old, a replica, or
// hands out positions in steps; tables are missing, are of another version or engine; or the DSN's user lacks a privilege
// that a relay needs. It changes nothing.
func (d *Dialect) Check(ctx context.Context) error {
	s, err := d.connect(ctx)
	if err != nil {
		return fmt.Errorf("check the outbox: %w", err)
	}
	err = errors.Join(s.server.faults(), s.check(ctx))
	if err = errors.Join(err, s.Close()); err != nil {
		return fmt.Errorf("check the outbox: %w", err)
	}
	return nil
}

// checkVersion says whether this program can work with the outbox that the database holds.
func (s *session) checkVersion(ctx context.Context) error {
	have := 0
	if err := s.readRow(ctx, s.sql(`SELECT COALESCE(MAX(schema_version), 0) FROM {control}`), &have); err != nil {
		return err
	}
	return s.dialect.versionFault(have)
}

func (s *session) check(ctx context.Context) error {
	have, err := s.version(ctx)
	if err == nil {
		err = s.dialect.versionFault(have)
	}
	if err == nil {
		err = s.checkTables(ctx)
	}
	if err != nil {
		return err
	}
	return s.checkPrivileges(ctx)
}

// checkTables names the tables that are not there, or not as they must be.
func (s *session) checkTables(ctx context.Context) error {
	found := map[string]string{}
	err := s.read(ctx, `SELECT table_name, COALESCE(engine, '') FROM information_schema.tables WHERE table_schema = `+text(s.dialect.database),
		func(rows *sqlx.Rows) error {
			var name, engine string
			err := rows.Scan(&name, &engine)
			found[strings.ToLower(name)] = engine
			return err
		})
	if err != nil {
		return err
	}
	var missing, other []string
	for _, table := range tables {
		name := s.dialect.prefix + table
		engine, there := found[strings.ToLower(name)]
		if table == "outbox_key_lock" && !there {
			continue // a relay has no privilege on it, and does not see it
		}
		if !there {
			missing = append(missing, name)
		} else if !strings.EqualFold(engine, "InnoDB") {
			other = append(other, name+" ("+engine+")")
		}
	}
	var faults []error
	if len(missing) > 0 {
		faults = append(faults, &core.SetupError{
			Problem: "of the outbox, these tables are missing, or not granted to the user: " + strings.Join(missing, ", "),
			Cure:    "create them as Schema (`lockstep migrate --print`) prints them, or grant what Grants prints",
		})
	}
	if len(other) > 0 {
		faults = append(faults, &core.SetupError{
			Problem: "these tables are not InnoDB's, and know no transactions: " + strings.Join(other, ", "),
			Cure:    "ALTER TABLE … ENGINE=InnoDB",
		})
	}
	return errors.Join(faults...)
}

// columns are those of each table, in their order.
var columns = map[string]string{
	"outbox":         "position, id, topic, `key`, headers, payload, payload_bytes, created_at, attempts, retry_at, last_error",
	"outbox_delayed": "position, id, topic, `key`, headers, payload, created_at, not_before",
	"outbox_dead": "position, id, topic, `key`, headers, payload, created_at, attempts, cause, buried_at, dropped_at,\n" +
		"  drop_reason",
	"outbox_archive": "position, id, topic, `key`, headers, payload, created_at, attempts, delivered_at",
	"outbox_blocked": "topic, `key`, position, since",
	"outbox_lease":   "one, holder, epoch, renewals, expires_at, unclean, suspect_position, suspect_id",
	"outbox_control": "one, outbox, schema_version, generation",
}

// checkPrivileges runs statements that find nothing to do: columns and privileges are looked for before a row is.
func (s *session) checkPrivileges(ctx context.Context) error {
	var faults []error
	for _, table := range slices.Sorted(maps.Keys(columns)) {
		name := s.sql("{" + strings.TrimPrefix(table, "outbox_") + "}")
		first, _, _ := strings.Cut(columns[table], ",")
		for _, statement := range []string{
			`SELECT ` + columns[table] + ` FROM ` + name + ` WHERE FALSE`,
			`INSERT INTO ` + name + ` (` + first + `) SELECT ` + first + ` FROM ` + name + ` WHERE FALSE`,
			`UPDATE ` + name + ` SET ` + first + ` = ` + first + ` WHERE FALSE`,
			`DELETE FROM ` + name + ` WHERE FALSE`,
		} {
			err := s.ask(ctx, statement, nil)
			if err != nil && code(err) == 0 {
				return err
			}
			if err != nil && code(err) != codeNoDefault {
				faults = append(faults, explained(err))
			}
		}
	}
	return errors.Join(faults...)
}
