package mysql_test

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	mysqldriver "github.com/go-sql-driver/mysql"

	"github.com/lockstep-go/lockstep/conformance"
	"github.com/lockstep-go/lockstep/core"
	"github.com/lockstep-go/lockstep/dialect/mysql"
	"github.com/lockstep-go/lockstep/internal/dose"
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
		each(t, name, func(t *testing.T, flavour flavour) {
			direct := flavour.database(t)
			dsn, proxy := through(t, direct)
			config := mysql.Config{Archive: []string{"t"}}
			f := open(t, direct, config)
			enqueued(t, f, core.Message{ID: "a", Topic: "t", Key: "k"})
			enqueued(t, f, core.Message{ID: "later", Topic: "t", Key: "other", NotBefore: time.Now().Add(-time.Hour)})
			d := dialect(t, dsn, config)
			if tt.before != nil {
				if err := tt.before(t.Context(), openSession(t, f)); err != nil {
					t.Fatal(err)
				}
			}
			lost := 0
			if name == "Promote" || name == "Purge" || strings.HasSuffix(name, "Dead") {
				lost = 1 // after the one that looks for what there is to do
			}
			callTwice(t, d, func() { proxy.SwallowAnswer(lost) }, tt.call)
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
	onBoth(t, func(t *testing.T, flavour flavour) {
		for lost := 0; ; lost++ {
			dsn, proxy := through(t, flavour.database(t))
			d := dialect(t, dsn, mysql.Config{})
			proxy.SwallowAnswer(lost)
			err := d.Migrate(t.Context())
			if (err == nil) != (proxy.Swallowed() == 0) {
				t.Errorf("answer %d is lost: got %v", lost, err)
			}
			if proxy.Swallowed() == 0 {
				if lost < 5 {
					t.Errorf("a migration had %d answers, which is not all", lost)
				}
				return
			}
			proxy.SwallowAnswer(1 << 30)
			if err := errors.Join(d.Migrate(t.Context()), d.Check(t.Context())); err != nil {
				t.Errorf("after answer %d was lost: %v", lost, err)
			}
		}
	})
}

// Whichever answer of an application's transaction is lost, COMMIT's included: the order and its event are there once,
// or neither is; and InTx knows, or says that it does not.
func TestALostAnswerKeepsOrderAndEventTogether(t *testing.T) {
	for _, interpolate := range []bool{false, true} {
		each(t, fmt.Sprint("interpolateParams=", interpolate), func(t *testing.T, flavour flavour) {
			direct := flavour.database(t)
			f := open(t, direct, mysql.Config{})
			execute(t, f, `CREATE TABLE orders (id VARCHAR(100)) ENGINE=InnoDB`)
			dsn, proxy := through(t, with(t, direct, func(c *mysqldriver.Config) { c.InterpolateParams = interpolate }))
			outbox, unknown := core.NewOutbox(f.Dialect, core.OutboxConfig{}), 0
			for lost := 0; ; lost++ {
				id := fmt.Sprint("order ", lost)
				err := orderOver(t, outbox, dsn, id, func() { proxy.SwallowAnswer(lost) })
				var orders, events int
				if err := f.DB.QueryRowContext(t.Context(), `SELECT (SELECT COUNT(*) FROM orders WHERE id = ?), (SELECT COUNT(*) FROM outbox WHERE id = ?)`, id, id).
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
	db := pool(t, dsn)
	defer db.Close()
	db.SetMaxOpenConns(1)
	if err := db.PingContext(t.Context()); err != nil {
		t.Fatal(err)
	}
	lose()
	return outbox.InTx(t.Context(), db, core.InTxOptions{}, func(ctx context.Context, tx *sql.Tx) ([]core.Message, error) {
		_, err := tx.ExecContext(ctx, `INSERT INTO orders VALUES (?)`, id)
		return []core.Message{{ID: id, Topic: "t", Key: "k"}}, err
	})
}

// A relay whose connections lose answers, are cut and fall silent again and again: nothing is lost, no attempt counted.
func TestARelayOnABadNetwork(t *testing.T) {
	onBoth(t, func(t *testing.T, flavour flavour) { onABadNetwork(t, flavour, dose.Of(t, 300, 20_000)) })
}

func onABadNetwork(t *testing.T, flavour flavour, n int) {
	t.Helper()
	direct := flavour.database(t)
	f := open(t, direct, mysql.Config{})
	fill(t, f, n, 20, "")
	dsn, proxy := through(t, direct)
	var broker conformance.Recorder
	broker.Inject(slowly)
	stop := started(t, dialect(t, dsn, mysql.Config{}), &broker, core.RelayConfig{LeaseTTL: time.Second, BatchSize: 5, InFlight: 20})
	faults := []func(){func() { proxy.SwallowAnswer(0) }, func() { proxy.SwallowAnswer(3) }, proxy.Cut, proxy.Freeze}
	left := n
	for i := 0; left > 0; i++ {
		faults[i%len(faults)]()
		time.Sleep(30 * time.Millisecond) // the fault's time
		proxy.Thaw()
		before, deadline := left, time.Now().Add(30*time.Second)
		for left > 0 && left == before { // each fault is survived
			if err := f.DB.QueryRowContext(t.Context(), `SELECT COUNT(*) FROM outbox`).Scan(&left); err != nil {
				t.Fatal(err)
			}
			if time.Now().After(deadline) {
				t.Fatalf("after fault %d nothing was delivered for 30 s", i)
			}
			time.Sleep(5 * time.Millisecond) // the pace of looking
		}
	}
	proxy.Thaw()
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

// slowly lets a publish call take a while, so that there is something for the faults to meet.
func slowly(conformance.PublishCall) conformance.PublishFault {
	time.Sleep(2 * time.Millisecond) // what the call takes
	return conformance.PublishFault{}
}
