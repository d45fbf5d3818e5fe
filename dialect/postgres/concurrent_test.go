package postgres_test

import (
	"context"
	"database/sql"
	"fmt"
	"os"
	"path/filepath"
	"slices"
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

// Operators and a promotion change the outbox at once. Each change is counted in the generation: one that waited for
// another must not lose its own.
func TestGenerationCountsEveryChange(t *testing.T) {
	const keys = 40
	f := open(t, servers.PostgresSchema(t), postgres.Config{})
	for i := range keys {
		enqueued(t, f, core.Message{ID: fmt.Sprint("dead", i), Topic: "t", Key: fmt.Sprint(i)})
		enqueued(t, f, core.Message{ID: fmt.Sprint("later", i), Topic: "later", NotBefore: time.Now().Add(-time.Hour)})
	}
	first := openSession(t, f)
	before := fetchAll(t, first)
	var burials []core.Burial
	for _, r := range before.Records {
		burials = append(burials, core.Burial{Ref: r.Ref(), Attempts: 1, Cause: "c"})
	}
	if err := first.Bury(t.Context(), burials); err != nil {
		t.Fatal(err)
	}
	var group sync.WaitGroup
	concurrently := func(call func(s core.Session, i int) (int, error)) {
		s := openSession(t, f)
		group.Go(func() {
			for i := range keys {
				if n, err := call(s, i); err != nil || n != 1 {
					t.Errorf("change %d: got %d, %v, want 1", i, n, err)
					return
				}
			}
		})
	}
	concurrently(func(s core.Session, i int) (int, error) {
		return s.RetryDead(t.Context(), core.DeadFilter{ID: fmt.Sprint("dead", i)}, 10)
	})
	concurrently(func(s core.Session, i int) (int, error) {
		p, err := s.Promote(t.Context(), 0, 1)
		return p.Moved, err
	})
	concurrently(func(s core.Session, i int) (int, error) {
		if p, err := s.Promote(t.Context(), 7, 1); err != nil || !p.Fenced || p.Moved != 0 {
			return 0, fmt.Errorf("with another epoch: got %+v, %w", p, err)
		}
		return 1, nil
	})
	group.Wait()
	after := fetchAll(t, first)
	if got, want := after.Generation-before.Generation, int64(2*keys); got != want {
		t.Errorf("the generation grew by %d, want %d", got, want)
	}
	if got, want := len(after.Records), 2*keys; got != want {
		t.Errorf("the outbox holds %d events, want %d", got, want)
	}
}

// Callers that name the same keys in opposite orders wait for each other instead of deadlocking.
func TestLockKeysHasOneOrder(t *testing.T) {
	f := open(t, servers.PostgresSchema(t), postgres.Config{})
	msgs := make([]core.Message, 20)
	for i := range msgs {
		msgs[i] = core.Message{Topic: "t", Key: fmt.Sprint(i)}
	}
	locker := f.Dialect.(core.KeyLocker)
	var group sync.WaitGroup
	for n := range 4 {
		group.Go(func() {
			own := make([]core.Message, len(msgs))
			for round := range 50 {
				for i := range own {
					own[i] = msgs[(i*(2*n+1)+round)%len(msgs)]
				}
				if err := lock(t.Context(), f, locker, own); err != nil {
					t.Errorf("caller %d: %v", n, err)
					return
				}
			}
		})
	}
	group.Wait()
}

func lock(ctx context.Context, f conformance.DialectFixture, locker core.KeyLocker, msgs []core.Message) error {
	tx, err := f.DB.BeginTx(ctx, nil)
	if err != nil {
		return err
	}
	defer tx.Rollback()
	if err := locker.LockKeys(ctx, tx, msgs); err != nil {
		return err
	}
	return tx.Commit()
}

// A relay needs what Grants gives it and nothing else.
func TestSessionNeedsNoPrivilegeButTheTables(t *testing.T) {
	dsn := servers.PostgresSchema(t)
	f := open(t, dsn, postgres.Config{})
	relay := role(t, f, "relay")
	execute(t, f, f.Dialect.(*postgres.Dialect).Grants("", relay))
	own := open(t, as(t, dsn, relay), postgres.Config{}) // which migrates: nothing is missing
	enqueued(t, f, core.Message{ID: "a", Topic: "t", Key: "k"})
	for name, call := range dialecttest.SessionCalls {
		if err := call(t.Context(), openSession(t, own)); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	// It sees the locks of other roles.
	held, err := f.DB.BeginTx(t.Context(), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer held.Rollback()
	if _, err := held.ExecContext(t.Context(), `INSERT INTO outbox (topic, payload) VALUES ('t', '')`); err != nil {
		t.Fatal(err)
	}
	gaps := []core.Gap{{Range: core.Range{First: 2, Last: 2}}}
	if err := openSession(t, own).ResolveGaps(t.Context(), gaps); err != nil || gaps[0].Dead {
		t.Errorf("a gap that another role can fill: got %+v, %v, want that it is not dead", gaps[0], err)
	}
}

func TestIncarnationChangesWhenPositionsBeginAgain(t *testing.T) {
	f := open(t, servers.PostgresSchema(t), postgres.Config{})
	s := openSession(t, f)
	first := fetchAll(t, s)
	if again := fetchAll(t, openSession(t, f)); again.Incarnation != first.Incarnation {
		t.Errorf("another session: got %q, want %q", again.Incarnation, first.Incarnation)
	}
	execute(t, f, `TRUNCATE outbox RESTART IDENTITY`)
	if after := fetchAll(t, s); after.Incarnation == first.Incarnation {
		t.Errorf("after TRUNCATE: got %q again", after.Incarnation)
	}
}

// Renewals come every second for years: each must stay in its page and leave the index alone.
func TestLeaseUpdatesTouchNoIndex(t *testing.T) {
	f := open(t, servers.PostgresSchema(t), postgres.Config{})
	s := openSession(t, f)
	const renewals = 300
	if took, err := s.TakeLease(t.Context(), core.Lease{}, "me", time.Minute); err != nil || !took {
		t.Fatal(took, err)
	}
	for range renewals {
		if renewed, err := s.RenewLease(t.Context(), "me", 1, time.Minute, true); err != nil || !renewed {
			t.Fatal(renewed, err)
		}
	}
	s.Close() // what a connection counted is known when it has ended
	var updates, hot int
	eventually(t, "the updates are counted", func() (bool, error) {
		err := f.DB.QueryRowContext(t.Context(), `SELECT n_tup_upd, n_tup_hot_upd FROM pg_stat_user_tables
WHERE relid = 'outbox_lease'::regclass`).Scan(&updates, &hot)
		return updates > renewals, err
	})
	// While somebody's snapshot is held in this database, be it autovacuum's, nothing is pruned, and now and then a page is full.
	if hot < updates*9/10 {
		t.Errorf("%d of %d updates of the lease stayed off the index, want nearly all", hot, updates)
	}
}

// counted is a transaction that counts its statements.
type counted struct {
	core.Execer
	statements int
}

func (c *counted) ExecContext(ctx context.Context, query string, args ...any) (sql.Result, error) {
	c.statements++
	return c.Execer.ExecContext(ctx, query, args...)
}

// A statement is one round trip of the application's, or two, while it holds its locks: more events must not mean more of them.
func TestAnEnqueueIsOneStatement(t *testing.T) {
	t.Parallel()
	f := open(t, servers.PostgresSchema(t), postgres.Config{})
	later := core.Message{Topic: "t", NotBefore: time.Now().Add(time.Hour)}
	for name, msgs := range map[string][]core.Message{
		"one": {{Topic: "t"}}, "one for later": {later}, "some of each": {{Topic: "t"}, later, {Topic: "t"}, later},
		"many": slices.Repeat([]core.Message{{Topic: "t"}}, 1000),
	} {
		t.Run(name, func(t *testing.T) {
			tx, err := f.DB.BeginTx(t.Context(), nil)
			if err != nil {
				t.Fatal(err)
			}
			defer tx.Rollback()
			c := counted{Execer: tx}
			if err := f.Dialect.Enqueue(t.Context(), &c, msgs); err != nil || c.statements != 1 {
				t.Errorf("%d statements for %d events, %v, want one", c.statements, len(msgs), err)
			}
		})
	}
}

// sqlx guesses the placeholders of Rebind and NamedExec by the driver's name, and mangles casts.
func TestNothingIsRebound(t *testing.T) {
	files, err := filepath.Glob("*.go")
	if err != nil || len(files) == 0 {
		t.Fatal(err)
	}
	for _, file := range files {
		content, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		for _, name := range []string{".Rebind(", ".NamedExec", ".NamedQuery", ".PrepareNamed"} {
			if !strings.HasSuffix(file, "_test.go") && strings.Contains(string(content), name) {
				t.Errorf("%s uses %s…)", file, name)
			}
		}
	}
}

// A row that somebody holds keeps no purge waiting, and stays; what is older than it and younger goes.
func TestAPurgeWaitsForNobody(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		fill, hold, left string
		purge            func(d *postgres.Dialect, s core.Session) (int, error)
	}{
		"archive": {`INSERT INTO outbox_archive (position, id, topic, key, headers, payload, created_at, attempts, delivered_at)
SELECT i, i, 't', '', '{}', '', now(), 1, now() - interval '1 hour' + i * interval '1 second' FROM generate_series(1, 5) AS i`,
			`SELECT FROM outbox_archive WHERE position = 2 FOR UPDATE`, `SELECT max(position) FROM outbox_archive`,
			func(_ *postgres.Dialect, s core.Session) (int, error) {
				return s.(core.ArchiveStore).Purge(t.Context(), time.Minute, 10)
			}},
		"dropped": {`INSERT INTO outbox_dead (position, id, topic, key, headers, payload, created_at, attempts, cause, dropped_at)
SELECT i, i, 't', '', '{}', '', now(), 1, 'c', now() - interval '1 hour' + i * interval '1 second' FROM generate_series(1, 5) AS i`,
			`SELECT FROM outbox_dead WHERE position = 2 FOR UPDATE`, `SELECT max(position) FROM outbox_dead`,
			func(_ *postgres.Dialect, s core.Session) (int, error) {
				return s.(core.ArchiveStore).Purge(t.Context(), time.Minute, 10)
			}},
		"inbox": {`INSERT INTO inbox (consumer, id, received_at)
SELECT 'c', i, now() - interval '1 hour' + i * interval '1 second' FROM generate_series(1, 5) AS i`,
			`SELECT FROM inbox WHERE id = '2' FOR UPDATE`, `SELECT max(id)::integer FROM inbox`,
			func(d *postgres.Dialect, _ core.Session) (int, error) { return d.Forget(t.Context(), time.Minute, 10) }},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := open(t, servers.PostgresSchema(t), postgres.Config{})
			d := f.Dialect.(*postgres.Dialect)
			if err := d.MigrateInbox(t.Context()); err != nil {
				t.Fatal(err)
			}
			execute(t, f, tt.fill)
			held, err := f.DB.BeginTx(t.Context(), nil)
			if err != nil {
				t.Fatal(err)
			}
			defer held.Rollback()
			if _, err := held.ExecContext(t.Context(), tt.hold); err != nil {
				t.Fatal(err)
			}
			if n, err := tt.purge(d, openSession(t, f)); n != 4 || err != nil { // the test's time-out ends it otherwise
				t.Errorf("a purge beside somebody who holds a row: got %d, %v, want 4", n, err)
			}
			if err := held.Rollback(); err != nil {
				t.Fatal(err)
			}
			if left := dialecttest.Count(t, f, tt.left); left != 2 {
				t.Errorf("what is left: got %d, want the row 2 that was held", left)
			}
			if n, err := tt.purge(d, openSession(t, f)); n != 1 || err != nil {
				t.Errorf("a purge after that: got %d, %v, want 1", n, err)
			}
		})
	}
}
