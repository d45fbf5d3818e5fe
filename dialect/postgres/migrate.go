package postgres

import (
	"context"
	_ "embed"
	"errors"
	"fmt"
	"strconv"
)

const (
	// schemaVersion is what this package writes and reads. It grows with each change of schema.sql.
	schemaVersion = 1

	// migrateLock serialises concurrent Migrate calls: CREATE TABLE IF NOT EXISTS alone fails in a race. An arbitrary
	// number that stays the same for good ("lockstep" in ASCII).
	migrateLock = 0x6c6f636b73746570
)

//go:embed schema.sql
var schema string

var errNotMigrated = errors.New("there is no outbox: run Migrate (`lockstep migrate`) first, with the same schema and prefix")

func (s *session) migrate(ctx context.Context) error {
	switch err := s.check(ctx); {
	case err == nil:
		return nil
	case !errors.Is(err, errNotMigrated):
		return err
	}
	version := strconv.Itoa(schemaVersion)
	return s.exec(ctx, `SELECT pg_advisory_xact_lock(`+strconv.Itoa(migrateLock)+`); `+s.sql(schema+
		`INSERT INTO {control} (schema_version) VALUES (`+version+`) ON CONFLICT DO NOTHING;
INSERT INTO {lease} DEFAULT VALUES ON CONFLICT DO NOTHING`))
}

// check says whether this package can work with the outbox that the database holds.
func (s *session) check(ctx context.Context) error {
	var exists bool
	err := s.queryRow(ctx, `SELECT to_regclass(`+text(s.sql("{control}"))+`) IS NOT NULL`, &exists)
	switch {
	case err != nil:
		return err
	case !exists:
		return errNotMigrated
	}
	var version, cache int64
	err = s.queryRow(ctx, s.sql(`SELECT c.schema_version, q.seqcache FROM {control} AS c, pg_sequence AS q
WHERE q.seqrelid = pg_get_serial_sequence(`)+text(s.sql("{outbox}"))+`, 'position')::regclass`, &version, &cache)
	switch {
	case err != nil:
		return err
	case version != schemaVersion:
		return fmt.Errorf("the outbox has schema version %d and this program needs %d: run Migrate with the newest release, "+
			"then update the programs that use the outbox", version, schemaVersion)
	case cache != 1:
		// Each connection would hand out positions of its own block: the order of commits would be lost.
		return fmt.Errorf("the outbox's sequence has CACHE %d, which reorders events: ALTER TABLE … ALTER position SET CACHE 1", cache)
	}
	return nil
}
