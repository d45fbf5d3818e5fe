package postgres_test

import (
	"fmt"
	"testing"

	"github.com/lockstep-go/lockstep/core"
	"github.com/lockstep-go/lockstep/dialect/postgres"
	"github.com/lockstep-go/lockstep/internal/servers"
)

// What was young when the server last looked has grown old, as all that is kept does: by its statistics a purge is about a few rows
// here and there, which it would rather collect and sort, and that is by now the whole table. A purge reads the oldest, as many as it
// removes.
func TestPurgesReadTheOldestWhateverTheStatistics(t *testing.T) {
	t.Parallel()
	const all, own = 10_000, 100
	// Rows took the places that earlier purges had left: where a row lies says nothing about its age. One in 200 is old.
	const age = `now() + (CASE WHEN i % 200 = 0 THEN -1 ELSE 1 END) * (1 + i * 7919 % 10000) * interval '1 minute'`
	purge := func(_ *postgres.Dialect, s core.Session) (int, error) {
		return s.(core.ArchiveStore).Purge(t.Context(), 0, own)
	}
	for name, tt := range map[string]struct {
		table, column, fill string
		call                func(*postgres.Dialect, core.Session) (int, error)
	}{
		"delivered": {"outbox_archive", "delivered_at", `(position, id, topic, key, headers, payload, created_at, attempts, delivered_at)
SELECT i, i, 't', '', '{}', '', now(), 1, `, purge},
		"dropped": {"outbox_dead", "dropped_at", `(position, id, topic, key, headers, payload, created_at, attempts, cause, dropped_at)
SELECT i, i, 't', '', '{}', '', now(), 1, 'c', `, purge},
		"received": {"inbox", "received_at", `(consumer, id, received_at) SELECT 'c', i, `, func(d *postgres.Dialect, _ core.Session) (int, error) {
			return d.Forget(t.Context(), 0, own)
		}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := open(t, servers.PostgresSchema(t), postgres.Config{})
			d := f.Dialect.(*postgres.Dialect)
			if err := d.MigrateInbox(t.Context()); err != nil {
				t.Fatal(err)
			}
			execute(t, f, `ALTER TABLE `+tt.table+` SET (autovacuum_enabled = off)`,
				`INSERT INTO `+tt.table+` `+tt.fill+age+fmt.Sprintf(` FROM generate_series(1, %d) AS i`, all),
				`ANALYZE `+tt.table,
				`UPDATE `+tt.table+` SET `+tt.column+` = `+tt.column+` - interval '1 year'`)
			s := openSession(t, f)
			if n, err := tt.call(d, s); err != nil || n != own {
				t.Fatalf("got %d, %v, want %d removed", n, err, own)
			}
			s.Close() // what a connection counted is known when it has ended
			var read int
			eventually(t, "the rows are counted", func() (bool, error) {
				var grown, removed int
				// To grow old each row was read once.
				err := f.DB.QueryRowContext(t.Context(), `SELECT n_tup_upd, n_tup_del, idx_tup_fetch + seq_tup_read - $1
FROM pg_stat_user_tables WHERE relid = $2::regclass`, all, tt.table).Scan(&grown, &removed, &read)
				return grown == all && removed == own, err
			})
			t.Logf("result: a purge of %d rows read %d of %d", own, read, all)
			if read > 5*own {
				t.Errorf("a purge of %d rows read %d of the %d that are there", own, read, all)
			}
		})
	}
}
