package postgres_test

import (
	"context"
	"database/sql"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/lockstep-go/lockstep/conformance"
	"github.com/lockstep-go/lockstep/core"
	"github.com/lockstep-go/lockstep/dialect/postgres"
	"github.com/lockstep-go/lockstep/internal/dose"
)

// shop commits orders with their events, from several goroutines, until it is stopped.
type shop struct {
	outbox *core.Outbox
	db     *sql.DB

	mu    sync.Mutex
	acked map[string]bool // orders whose COMMIT was answered
	group sync.WaitGroup
	stop  context.CancelFunc
}

func openShop(ctx context.Context, d core.Dialect, db *sql.DB, writers int) *shop {
	ctx, stop := context.WithCancel(ctx)
	s := &shop{outbox: core.NewOutbox(d, core.OutboxConfig{}), db: db, acked: map[string]bool{}, stop: stop}
	for w := range writers {
		s.group.Go(func() {
			for i := 0; ctx.Err() == nil; i++ {
				id := fmt.Sprintf("%d-%d", w, i)
				if s.order(ctx, id, w) != nil {
					continue // the shop's customer would try again, with another order
				}
				s.mu.Lock()
				s.acked[id] = true
				s.mu.Unlock()
			}
		})
	}
	return s
}

func (s *shop) order(ctx context.Context, id string, writer int) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
	defer cancel()
	return s.outbox.InTx(ctx, s.db, core.InTxOptions{}, func(ctx context.Context, tx *sql.Tx) ([]core.Message, error) {
		_, err := tx.ExecContext(ctx, `INSERT INTO orders (id) VALUES ($1)`, id)
		return []core.Message{{ID: id, Topic: "orders", Key: fmt.Sprint(writer)}}, err
	})
}

func (s *shop) close() {
	s.stop()
	s.group.Wait()
}

// A primary with a synchronous standby: first the standby is taken for the primary, by mistake; then it becomes it.
func TestStandby(t *testing.T) {
	t.Parallel()
	primary := newPrimary(t)
	standby := newStandby(t, primary)
	d := dialect(t, either(primary, standby), postgres.Config{})
	if err := d.Migrate(t.Context()); err != nil {
		t.Fatal(err)
	}
	t.Run("is refused", func(t *testing.T) {
		mistaken := dialect(t, standby.dsn(), postgres.Config{})
		eventually(t, "the standby has the tables", func() (there bool, err error) {
			err = pool(t, standby.dsn()).QueryRowContext(t.Context(), `SELECT to_regclass('outbox_control') IS NOT NULL`).Scan(&there)
			return there, err
		})
		expectSetup(t, "Check", mistaken.Check(t.Context()), "standby", "target_session_attrs")
		expectSetup(t, "Migrate", mistaken.Migrate(t.Context()), "standby", "target_session_attrs")
		expectSetup(t, "CheckDB", d.CheckDB(t.Context(), pool(t, standby.dsn())), "standby", "target_session_attrs")
	})
	t.Run("is promoted", func(t *testing.T) { failover(t, d, primary, standby) })
	t.Run("is restarted", func(t *testing.T) { restart(t, standby) })
}

// restart ends a server and starts it again, at the same address and with the same files: behind a pooler no session notices,
// and a restored backup may be what it has now.
func restart(t *testing.T, n *node) {
	incarnation := func() string {
		return fetchAll(t, openSession(t, conformance.DialectFixture{Dialect: dialect(t, n.dsn(), postgres.Config{})})).Incarnation
	}
	before := incarnation()
	if again := incarnation(); again != before {
		t.Errorf("another session has the incarnation %q, want %q", again, before)
	}
	n.kill()
	n.start(t)
	if after := incarnation(); after == before {
		t.Errorf("after a restart the incarnation is %q again", after)
	}
}

// failover kills the primary under load and promotes its synchronous standby. What was committed for somebody is there,
// with its event; and every event has its order.
func failover(t *testing.T, d *postgres.Dialect, primary, standby *node) {
	load := dose.Of(t, 2*time.Second, time.Minute)
	dsn := either(primary, standby)
	db, err := postgres.OpenDB(dsn)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	if _, err := db.ExecContext(t.Context(), `CREATE TABLE orders (id text PRIMARY KEY)`); err != nil {
		t.Fatal(err)
	}
	var broker conformance.Recorder
	stop := started(t, d, &broker, core.RelayConfig{})
	s := openShop(t.Context(), d, db, 8)
	defer s.close()
	time.Sleep(load) // under load // the load

	primary.kill()
	promoted := pool(t, standby.dsn())
	if _, err := promoted.ExecContext(t.Context(), `SELECT pg_promote()`); err != nil {
		t.Fatal(err)
	}
	eventually(t, "a control client can write", func() (bool, error) {
		_, err := promoted.ExecContext(t.Context(), `CREATE TABLE IF NOT EXISTS control ()`)
		return err == nil, nil
	})
	back, before := time.Now(), len(broker.Stored())
	eventually(t, "events are delivered again", func() (bool, error) { return len(broker.Stored()) > before, nil })
	took := time.Since(back)
	if took > 10*time.Second {
		t.Errorf("delivery was back %v after a control client's first write, want 10 s at most", took)
	}
	time.Sleep(load)
	s.close()

	eventually(t, "the outbox is empty", func() (empty bool, err error) {
		err = promoted.QueryRowContext(t.Context(), `SELECT NOT EXISTS (SELECT FROM outbox)`).Scan(&empty)
		return empty, err
	})
	stop()
	orders, events := ids(t, promoted, `SELECT id FROM orders`), map[string]bool{}
	for _, delivery := range broker.Stored() {
		events[delivery.Message.ID] = true
	}
	t.Logf("result: %d orders, of which %d were answered; %d deliveries; delivery was back %v after the first write",
		len(orders), len(s.acked), len(broker.Stored()), took.Round(time.Millisecond))
	contains(t, "every order that was answered is there", orders, s.acked)
	contains(t, "every order has its event", events, orders)
	contains(t, "every event has its order", orders, events)
}

// contains reports what of part is not in whole.
func contains(t *testing.T, what string, whole, part map[string]bool) {
	t.Helper()
	if len(part) == 0 {
		t.Errorf("%s: there is none, which shows nothing", what)
	}
	missing := 0
	for id := range part {
		if !whole[id] {
			missing++
		}
	}
	if missing > 0 {
		t.Errorf("%s: not so for %d of %d", what, missing, len(part))
	}
}
