package postgres_test

import (
	"errors"
	"fmt"
	"testing"

	"github.com/lockstep-go/lockstep/core"
	"github.com/lockstep-go/lockstep/dialect/postgres"
	"github.com/lockstep-go/lockstep/internal/servers"
)

// Events that the archive has from before a restore are removed from the outbox, with what they are acknowledged with, and stay as
// they are in the archive.
func TestAcknowledgeOfWhatTheArchiveHas(t *testing.T) {
	t.Parallel()
	f := open(t, servers.PostgresSchema(t), postgres.Config{Archive: []string{"*"}})
	execute(t, f, `INSERT INTO outbox (id, topic, payload) SELECT i, 't', 'new' FROM generate_series(1, 3) AS i`,
		`INSERT INTO outbox_archive (position, id, topic, key, headers, payload, created_at, attempts)
SELECT position, id, topic, key, headers, 'old', created_at, 0 FROM outbox WHERE id = '2'`)
	s := openSession(t, f)
	var refs []core.Ref
	for i := range int64(3) {
		refs = append(refs, core.Ref{Position: i + 1, ID: fmt.Sprint(i + 1)})
	}
	for range 2 { // over the same session
		if err := s.Acknowledge(t.Context(), refs); err != nil {
			t.Fatal(err)
		}
	}
	var left int
	var kept string
	err := f.DB.QueryRowContext(t.Context(), `SELECT (SELECT count(*) FROM outbox), string_agg(id || encode(payload, 'escape'), ' ' ORDER BY id) FROM outbox_archive`).Scan(&left, &kept)
	if err != nil || left != 0 || kept != "1new 2old 3new" {
		t.Errorf("%d events are left, and the archive has %q (%v), want none and each event once", left, kept, err)
	}
}

// An outbox of before gets what later versions changed.
func TestMigrateFromTheFirstVersion(t *testing.T) {
	t.Parallel()
	f := open(t, servers.PostgresSchema(t), postgres.Config{})
	execute(t, f, `CREATE INDEX outbox_archive_id ON outbox_archive (id)`, `UPDATE outbox_control SET schema_version = 1`)
	d := f.Dialect.(*postgres.Dialect)
	if err := errors.Join(d.Migrate(t.Context()), d.Check(t.Context())); err != nil {
		t.Fatal(err)
	}
	left := ids(t, f.DB, `SELECT indexname FROM pg_indexes WHERE schemaname = current_schema() AND indexname = 'outbox_archive_id'`)
	if len(left) != 0 {
		t.Errorf("%v is left", left)
	}
}
