package mysql

import (
	"context"
	"errors"
	"fmt"
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
			Cure:    "create them as Schema (`lockstep schema`) prints them, or grant what Grants prints",
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

// checkPrivileges runs statements that find nothing to do: a privilege is looked for before a row is.
func (s *session) checkPrivileges(ctx context.Context) error {
	var faults []error
	for _, table := range slices.Sorted(slices.Values(tables)) {
		if table == "outbox_key_lock" {
			continue
		}
		name := s.sql("{" + strings.TrimPrefix(table, "outbox_") + "}")
		column := "topic"
		if table == "outbox_control" || table == "outbox_lease" {
			column = "one"
		}
		for _, statement := range []string{
			`SELECT 1 FROM ` + name + ` WHERE FALSE`, `UPDATE ` + name + ` SET ` + column + ` = ` + column + ` WHERE FALSE`,
			`INSERT INTO ` + name + ` SELECT * FROM ` + name + ` WHERE FALSE`, `DELETE FROM ` + name + ` WHERE FALSE`,
		} {
			if table == "outbox" { // whose generated column takes no value
				statement = strings.Replace(statement, "SELECT *", "(topic, payload) SELECT topic, payload", 1)
			}
			switch err := s.ask(ctx, statement, nil); {
			case err == nil:
			case code(err) != 0:
				faults = append(faults, explained(err))
			default:
				return err
			}
		}
	}
	return errors.Join(faults...)
}
