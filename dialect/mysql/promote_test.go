package mysql_test

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/lockstep-go/lockstep/conformance"
	"github.com/lockstep-go/lockstep/core"
	"github.com/lockstep-go/lockstep/dialect/mysql"
	"github.com/lockstep-go/lockstep/internal/dialecttest"
)

// What is due at once may be more than the server moves in the time that a promotion has: large events, or a slow disk, for
// which a trigger stands in. It must not fail for ever: each call moves some, and each event is there once, in the order of due.
func TestAPromotionOfMuchGetsDone(t *testing.T) {
	t.Parallel()
	const n = 200
	onBoth(t, func(t *testing.T, flavour flavour) {
		f := open(t, flavour.database(t), mysql.Config{})
		due(t, f, n)
		execute(t, f, `CREATE TRIGGER slowly BEFORE INSERT ON outbox FOR EACH ROW DO SLEEP(0.01)`)
		s := openSession(t, f)
		for moved := 0; moved < n; {
			p, err := s.Promote(t.Context(), 0, n)
			if err != nil || p.Fenced || p.Moved == 0 {
				t.Fatalf("with %d of %d moved: got %+v, %v, want some more", moved, n, p, err)
			}
			if p.Moved == n {
				t.Error("all was moved at once, which shows nothing")
			}
			moved += p.Moved
		}
		expectMoved(t, f, n, n)
	})
}

// A relay may be gone, and its promotion is on its way all the same. It ends by itself: what it has no time for stays delayed.
func TestAPromotionEndsWithoutItsRelay(t *testing.T) {
	t.Parallel()
	const n = 100
	onBoth(t, func(t *testing.T, flavour flavour) {
		f := open(t, flavour.database(t), mysql.Config{})
		due(t, f, n)
		execute(t, f, `CREATE TRIGGER slowly BEFORE INSERT ON outbox FOR EACH ROW DO SLEEP(0.05)`)
		s, ended := openSession(t, f), make(chan struct{})
		ctx, cancel := context.WithCancel(t.Context())
		go func() {
			defer close(ended)
			_, _ = s.Promote(ctx, 0, n) // it is cancelled, or is done on a machine that stood still
		}()
		eventually(t, "the promotion is on its way, or was", func() bool {
			return dialecttest.Count(t, f, `SELECT COUNT(*) FROM information_schema.PROCESSLIST WHERE DB = DATABASE() AND STATE = 'User sleep'`) > 0 ||
				dialecttest.Count(t, f, `SELECT COUNT(*) FROM outbox`) > 0
		})
		cancel()
		<-ended
		expectLeaseFree(t, f)
		moved := dialecttest.Count(t, f, `SELECT COUNT(*) FROM outbox`)
		if moved == n {
			t.Error("it went on until all was moved")
		}
		expectMoved(t, f, moved, n)
	})
}

// An application that fills the outbox by one INSERT … SELECT after another lets a promotion wait before each event, where
// innodb_autoinc_lock_mode is 0 or 1. The waits are bounded together: the lease, and what operators write, is free soon.
func TestAPromotionBesideManyBulkInserts(t *testing.T) {
	t.Parallel()
	const n = 60
	onBoth(t, func(t *testing.T, flavour flavour) {
		f := open(t, flavour.database(t), mysql.Config{})
		mode := dialecttest.Count(t, f, `SELECT @@innodb_autoinc_lock_mode`)
		due(t, f, n)
		const bulk = `INSERT INTO outbox (id, topic, payload) SELECT 'bulk', 't', IF(n = 1, 0, SLEEP(0.3)) FROM (SELECT 1 AS n UNION ALL SELECT 2) AS n`
		ctx, stop := context.WithCancel(t.Context())
		var writers sync.WaitGroup
		for range 2 { // one of them always waits
			writers.Go(func() {
				for ctx.Err() == nil {
					if _, err := f.DB.ExecContext(context.WithoutCancel(ctx), bulk); err != nil {
						t.Error(err)
						return
					}
				}
			})
		}
		defer writers.Wait()
		defer stop()
		eventually(t, "the inserts are on their way", func() bool { return dialecttest.Count(t, f, `SELECT COUNT(*) FROM outbox`) > 0 })
		p, err := openSession(t, f).Promote(t.Context(), 0, n)
		switch {
		case err != nil && (mode == 2 || !f.Dialect.Retryable(err)): // where the machine stands still, one wait may be too long
			t.Error(err)
		case err == nil && p.Moved == 0:
			t.Error("nothing was moved")
		case mode < 2 && p.Moved == n:
			t.Error("all was moved at once, after one wait for each event")
		}
		expectLeaseFree(t, f)
		stop()
		writers.Wait()
		expectMoved(t, f, p.Moved, n)
	})
}

// due enqueues n events that are due, the oldest first.
func due(t *testing.T, f conformance.DialectFixture, n int) {
	t.Helper()
	for i := range n {
		enqueued(t, f, core.Message{ID: fmt.Sprintf("%03d", i), Topic: "t", NotBefore: time.Now().Add(time.Duration(i-n) * time.Hour)})
	}
}

// expectLeaseFree waits until nobody holds the row of the lease.
func expectLeaseFree(t *testing.T, f conformance.DialectFixture) {
	t.Helper()
	var epoch int
	if err := f.DB.QueryRowContext(t.Context(), `SELECT epoch FROM outbox_lease FOR UPDATE`).Scan(&epoch); err != nil {
		t.Fatal(err)
	}
}

// expectMoved expects the first of the n events that were due in the outbox, in their order, and the others where they were.
func expectMoved(t *testing.T, f conformance.DialectFixture, moved, n int) {
	t.Helper()
	rows, err := f.DB.QueryContext(t.Context(), `SELECT id FROM outbox WHERE id <> 'bulk' ORDER BY position`)
	if err != nil {
		t.Fatal(err)
	}
	defer rows.Close()
	got := 0
	for ; rows.Next(); got++ {
		var id string
		if err := rows.Scan(&id); err != nil || id != fmt.Sprintf("%03d", got) {
			t.Fatalf("event %d of the outbox is %q, %v", got, id, err)
		}
	}
	if err := rows.Err(); err != nil || got != moved {
		t.Errorf("the outbox holds %d events that were due, %v, want %d", got, err, moved)
	}
	if left := dialecttest.Count(t, f, `SELECT COUNT(*) FROM outbox_delayed`); left != n-moved {
		t.Errorf("%d events are delayed, want %d", left, n-moved)
	}
}

// An application's INSERT … SELECT holds the lock for positions until it ends, where innodb_autoinc_lock_mode is 0 or 1, as
// MariaDB has it. A promotion, which is one as well, waits for it no longer than for anything else, the lease is the relay's after
// that, and an application's own INSERT waits for the other application alone.
func TestAPromotionBesideABulkInsert(t *testing.T) {
	onBoth(t, func(t *testing.T, flavour flavour) {
		f := open(t, flavour.database(t), mysql.Config{})
		mode := dialecttest.Count(t, f, `SELECT @@innodb_autoinc_lock_mode`)
		enqueued(t, f, core.Message{ID: "a", Topic: "t", NotBefore: time.Now().Add(-time.Hour)})
		if took, err := openSession(t, f).TakeLease(t.Context(), core.Lease{}, "me", time.Minute); err != nil || !took {
			t.Fatal(took, err)
		}
		kill := running(t, f, `INSERT INTO outbox (topic, payload) SELECT 't', IF(n = 1, 0, SLEEP(60)) FROM (SELECT 1 AS n UNION ALL SELECT 2) AS n`)
		inserted := make(chan error, 1)
		go func() {
			_, err := f.DB.ExecContext(t.Context(), `INSERT INTO outbox (id, topic, payload) VALUES ('own', 't', 'x')`)
			inserted <- err
		}()
		begun := time.Now()
		p, err := openSession(t, f).Promote(t.Context(), 1, 10)
		if took := time.Since(begun); took > time.Second+dialecttest.Soon {
			t.Errorf("Promote: got %v after %v, want an end within a second", err, took)
		}
		if mode < 2 && err == nil {
			t.Errorf("Promote beside a bulk insert in mode %d: got %+v, want an error", mode, p)
		}
		if mode == 2 && err != nil {
			t.Errorf("Promote beside a bulk insert in mode 2: %v", err)
		}
		if renewed, err := openSession(t, f).RenewLease(t.Context(), "me", 1, time.Minute, true); err != nil || !renewed {
			t.Errorf("RenewLease: got %v, %v, want true", renewed, err)
		}
		if mode == 2 { // nobody waits at all
			if err := <-inserted; err != nil {
				t.Error(err)
			}
		}
		kill()
		if mode < 2 {
			if err := <-inserted; err != nil {
				t.Error(err)
			}
		}
		eventually(t, "what is due is moved after it", func() bool {
			_, err := openSession(t, f).Promote(t.Context(), 1, 10)
			return err == nil
		})
		if n := dialecttest.Count(t, f, `SELECT COUNT(*) FROM outbox WHERE id = 'a'`); n != 1 {
			t.Errorf("the event that was due is there %d times, want once", n)
		}
	})
}

// A promotion of much takes a while, and may fall silent with its relay. An application's INSERT beside it goes between two of its
// events, and waits for neither, whatever innodb_autoinc_lock_mode is.
func TestAPromotionDelaysNoInsert(t *testing.T) {
	t.Parallel()
	onBoth(t, func(t *testing.T, flavour flavour) {
		f := open(t, flavour.database(t), mysql.Config{})
		for _, id := range []string{"first", "second", "third"} {
			enqueued(t, f, core.Message{ID: id, Topic: "t", NotBefore: time.Now().Add(-time.Hour)})
		}
		// The second event does not get on until the gate is open.
		execute(t, f, `CREATE TRIGGER gate BEFORE INSERT ON outbox FOR EACH ROW IF NEW.id = 'second' THEN
DO GET_LOCK(CONCAT('gate ', DATABASE()), 600), RELEASE_LOCK(CONCAT('gate ', DATABASE())); END IF`)
		gate, err := f.DB.Conn(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		defer gate.Close()
		var closed bool
		if err := gate.QueryRowContext(t.Context(), `SELECT GET_LOCK(CONCAT('gate ', DATABASE()), 0)`).Scan(&closed); err != nil || !closed {
			t.Fatal(closed, err)
		}
		s, ended := openSession(t, f), make(chan error, 1)
		go func() {
			p, err := mysql.PromoteDue(t.Context(), s, 0, 3)
			if err == nil && p.Moved != 3 {
				err = fmt.Errorf("%d events were moved, want 3", p.Moved)
			}
			ended <- err
		}()
		eventually(t, "the promotion is between two events", func() bool {
			return dialecttest.Count(t, f, `SELECT COUNT(*) FROM information_schema.PROCESSLIST WHERE DB = DATABASE() AND STATE = 'User lock'`) > 0
		})
		execute(t, f, `INSERT INTO outbox (id, topic, payload) VALUES ('own', 't', 'x')`)
		if err := gate.QueryRowContext(t.Context(), `SELECT RELEASE_LOCK(CONCAT('gate ', DATABASE()))`).Scan(&closed); err != nil {
			t.Fatal(err)
		}
		if err := <-ended; err != nil {
			t.Error(err)
		}
		var order []string
		for _, r := range fetchAll(t, s).Records {
			order = append(order, r.Message.ID)
		}
		if got, want := strings.Join(order, " "), "first own second third"; got != want {
			t.Errorf("the outbox holds %s, want %s", got, want)
		}
	})
}
