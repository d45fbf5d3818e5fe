package postgres_test

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/lockstep-go/lockstep/conformance"
	"github.com/lockstep-go/lockstep/core"
	"github.com/lockstep-go/lockstep/dialect/postgres"
	"github.com/lockstep-go/lockstep/internal/dose"
	"github.com/lockstep-go/lockstep/internal/servers"
)

// A session's call whose answer is lost was done, and is made again over another session: what it changes is changed
// once.
func TestALostAnswerChangesNothingTwice(t *testing.T) {
	const buried = `SELECT count(*) FROM outbox_dead WHERE attempts = 1 AND dropped_at IS NULL`
	bury := func(ctx context.Context, s core.Session) error {
		return s.Bury(ctx, []core.Burial{{Ref: core.Ref{Position: 1, ID: "a"}, Attempts: 1, Cause: "c"}})
	}
	for name, tt := range map[string]struct {
		before, call func(ctx context.Context, s core.Session) error
		query        string // of a number that is 1 then
	}{
		"Acknowledge": {nil, func(ctx context.Context, s core.Session) error {
			return s.Acknowledge(ctx, []core.Ref{{Position: 1, ID: "a"}})
		}, `SELECT (SELECT count(*) FROM outbox_archive WHERE id = 'a') + (SELECT count(*) FROM outbox WHERE id = 'a')`},
		"Fail": {nil, func(ctx context.Context, s core.Session) error {
			return s.Fail(ctx, []core.Failure{{Ref: core.Ref{Position: 1, ID: "a"}, Attempts: 1, Cause: "c"}})
		}, `SELECT attempts FROM outbox WHERE id = 'a'`},
		"Bury": {nil, bury, buried},
		"RetryDead": {bury, func(ctx context.Context, s core.Session) error {
			_, err := s.RetryDead(ctx, core.DeadFilter{}, 1)
			return err
		}, `SELECT generation + (SELECT count(*) FROM outbox_dead) + (SELECT count(*) FROM outbox_blocked) FROM outbox_control, outbox WHERE id = 'a'`},
		"DropDead": {bury, func(ctx context.Context, s core.Session) error {
			_, err := s.DropDead(ctx, core.DeadFilter{}, "r", 1)
			return err
		}, `SELECT generation FROM outbox_control, outbox_dead WHERE dropped_at IS NOT NULL`},
		"Unblock": {bury, func(ctx context.Context, s core.Session) error {
			_, err := s.Unblock(ctx, "t", "k")
			return err
		}, `SELECT generation + (SELECT count(*) FROM outbox_blocked) FROM outbox_control`},
		"PauseTopic": {nil, func(ctx context.Context, s core.Session) error {
			_, err := s.PauseTopic(ctx, "t")
			return err
		}, `SELECT generation FROM outbox_control, outbox_blocked`},
		"Promote": {nil, func(ctx context.Context, s core.Session) error {
			_, err := s.Promote(ctx, 0, 10)
			return err
		}, `SELECT generation + (SELECT count(*) FROM outbox_delayed) FROM outbox_control, outbox WHERE id = 'later'`},
		"TakeLease": {nil, func(ctx context.Context, s core.Session) error {
			_, err := s.TakeLease(ctx, core.Lease{}, "me", time.Minute)
			return err
		}, `SELECT epoch FROM outbox_lease WHERE holder = 'me'`},
		"MarkSuspect": {nil, func(ctx context.Context, s core.Session) error {
			_, err := s.MarkSuspect(ctx, "", 0, core.Ref{Position: 1, ID: "a"})
			return err
		}, `SELECT suspect_position FROM outbox_lease`},
		"Purge": {func(ctx context.Context, s core.Session) error {
			return s.Acknowledge(ctx, []core.Ref{{Position: 1, ID: "a"}})
		}, func(ctx context.Context, s core.Session) error {
			_, err := s.(core.ArchiveStore).Purge(ctx, 0, 1)
			return err
		}, `SELECT 1 - count(*) FROM outbox_archive`},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			direct := servers.PostgresSchema(t)
			dsn, proxy := through(t, direct)
			config := postgres.Config{Archive: []string{"t"}}
			f := open(t, direct, config)
			enqueued(t, f, core.Message{ID: "a", Topic: "t", Key: "k"})
			enqueued(t, f, core.Message{ID: "later", Topic: "t", Key: "other", NotBefore: time.Now().Add(-time.Hour)})
			d := dialect(t, dsn, config)
			if tt.before != nil {
				if err := tt.before(t.Context(), openSession(t, f)); err != nil {
					t.Fatal(err)
				}
			}
			callTwice(t, d, func() { proxy.SwallowAnswer(0) }, tt.call)
			if got := proxy.Swallowed(); got != 1 {
				t.Errorf("%d answers were lost, want 1", got)
			}
			var got int
			if err := f.DB.QueryRowContext(t.Context(), tt.query).Scan(&got); err != nil || got != 1 {
				t.Errorf("after two calls, of which the first one's answer was lost: got %d, %v, want 1", got, err)
			}
		})
	}
}

// callTwice makes a call that loses its answer, and makes it again over another session.
func callTwice(t *testing.T, d core.Dialect, lose func(), call func(ctx context.Context, s core.Session) error) {
	t.Helper()
	for i := range 2 {
		s, err := d.Open(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if i == 0 {
			lose()
		}
		if err := call(t.Context(), s); (err == nil) != (i == 1) {
			t.Errorf("call %d: got %v, want an error for the first alone", i+1, err)
		}
		s.Close()
	}
}

// Migrate's answers are lost one after the other: it fails or succeeds, and another call finds nothing broken.
func TestALostAnswerBreaksNoMigration(t *testing.T) {
	t.Parallel()
	for lost := 0; ; lost++ {
		dsn, proxy := through(t, servers.PostgresSchema(t))
		proxy.SwallowAnswer(lost)
		err := dialect(t, dsn, postgres.Config{}).Migrate(t.Context())
		if (err == nil) != (proxy.Swallowed() == 0) {
			t.Errorf("answer %d is lost: got %v", lost, err)
		}
		if proxy.Swallowed() == 0 {
			if lost < 8 {
				t.Errorf("a migration had %d answers, which is not all", lost)
			}
			return
		}
		d := dialect(t, dsn, postgres.Config{})
		if err := errors.Join(d.Migrate(t.Context()), d.Check(t.Context())); err != nil {
			t.Errorf("after answer %d was lost: %v", lost, err)
		}
	}
}

// Whichever answer of an application's transaction is lost, COMMIT's included: the order and its event are there once,
// or neither is; and InTx knows, or says that it does not.
func TestALostAnswerKeepsOrderAndEventTogether(t *testing.T) {
	for _, binary := range []string{"yes", "no"} {
		t.Run("binary_parameters="+binary, func(t *testing.T) {
			t.Parallel()
			direct := servers.PostgresSchema(t)
			f := open(t, direct, postgres.Config{})
			execute(t, f, `CREATE TABLE orders (id text)`)
			dsn, proxy := through(t, with(t, direct, "binary_parameters", binary))
			outbox, unknown := core.NewOutbox(f.Dialect, core.OutboxConfig{}), 0
			for lost := 0; ; lost++ {
				id := fmt.Sprint("order ", lost)
				err := orderOver(t, outbox, dsn, id, func() { proxy.SwallowAnswer(lost) })
				var orders, events int
				if err := f.DB.QueryRowContext(t.Context(), `SELECT (SELECT count(*) FROM orders WHERE id = $1), (SELECT count(*) FROM outbox WHERE id = $1)`, id).
					Scan(&orders, &events); err != nil {
					t.Fatal(err)
				}
				switch {
				case orders != events || orders > 1:
					t.Errorf("answer %d is lost: %d orders and %d events", lost, orders, events)
				case errors.Is(err, core.ErrCommitUnknown):
					unknown++
				case (err == nil) != (orders == 1):
					t.Errorf("answer %d is lost: %d orders, and InTx returned %v", lost, orders, err)
				}
				if proxy.Swallowed() == lost { // the transaction has no more answers
					break
				}
			}
			if unknown == 0 {
				t.Error("no COMMIT's outcome was unknown: its answer was never lost")
			}
		})
	}
}

// orderOver enqueues over a pool of one new connection, after lose was called on it.
func orderOver(t *testing.T, outbox *core.Outbox, dsn, id string, lose func()) error {
	t.Helper()
	db, err := sql.Open("postgres", dsn)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	db.SetMaxOpenConns(1)
	if err := db.PingContext(t.Context()); err != nil {
		t.Fatal(err)
	}
	lose()
	return outbox.InTx(t.Context(), db, core.InTxOptions{}, func(ctx context.Context, tx *sql.Tx) ([]core.Message, error) {
		_, err := tx.ExecContext(ctx, `INSERT INTO orders VALUES ($1)`, id)
		return []core.Message{{ID: id, Topic: "t", Key: "k"}}, err
	})
}

// A relay whose connections lose answers, are cut and fall silent, again and again: it goes on by itself each time,
// nothing is lost, and no attempt is counted.
func TestARelayOnABadNetwork(t *testing.T) {
	t.Parallel()
	rounds := dose.Of(t, 8, 200)
	direct := servers.PostgresSchema(t)
	f := open(t, direct, postgres.Config{})
	dsn, proxy := through(t, direct)
	var broker conformance.Recorder
	stop := started(t, dialect(t, dsn, postgres.Config{}), &broker, core.RelayConfig{LeaseTTL: time.Second, BatchSize: 5, InFlight: 20})
	n := 0
	for i := range rounds {
		execute(t, f, fmt.Sprintf(`INSERT INTO outbox (id, topic, key, payload) SELECT i, 't', i %% 20, '' FROM generate_series(%d, %d) AS i`, n+1, n+50))
		n += 50
		switch i % 4 {
		case 0, 1:
			proxy.SwallowAnswer(i % 7)
		case 2:
			proxy.Cut()
		case 3:
			proxy.Freeze()
			time.Sleep(500 * time.Millisecond) // the silence
			proxy.Thaw()
		}
		eventually(t, "what was enqueued meanwhile is delivered", func() (empty bool, err error) {
			err = f.DB.QueryRowContext(t.Context(), `SELECT NOT EXISTS (SELECT FROM outbox)`).Scan(&empty)
			return empty, err
		})
	}
	proxy.SwallowAnswer(1 << 30)
	stop()
	var dead int
	if err := f.DB.QueryRowContext(t.Context(), `SELECT count(*) FROM outbox_dead`).Scan(&dead); err != nil || dead > 0 {
		t.Errorf("%d dead letters (%v): a bad network cost attempts", dead, err)
	}
	delivered := map[string]bool{}
	for _, d := range broker.Stored() {
		delivered[d.Message.ID] = true
	}
	t.Logf("%d events, %d deliveries, %d answers lost", n, len(broker.Stored()), proxy.Swallowed())
	if len(delivered) != n || proxy.Swallowed() == 0 {
		t.Errorf("%d of %d events were delivered, with %d answers lost", len(delivered), n, proxy.Swallowed())
	}
}
