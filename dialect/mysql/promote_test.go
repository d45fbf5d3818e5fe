package mysql_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/lockstep-go/lockstep/core"
	"github.com/lockstep-go/lockstep/dialect/mysql"
	"github.com/lockstep-go/lockstep/internal/dialecttest"
)

// What is due at once may be more than the server moves in the time that a promotion has: large events, or a slow disk, for
// which a trigger stands in. It must not fail for ever. Nothing tells the server to stop with one that was given up: it may have
// moved its events, and each must be there once.
func TestAPromotionOfMuchGetsDone(t *testing.T) {
	t.Parallel()
	const n = 200
	onBoth(t, func(t *testing.T, flavour flavour) {
		f := open(t, flavour.database(t), mysql.Config{})
		for range n {
			enqueued(t, f, core.Message{Topic: "t", NotBefore: time.Now().Add(-time.Hour)})
		}
		execute(t, f, `CREATE TRIGGER slowly BEFORE INSERT ON outbox FOR EACH ROW DO SLEEP(0.01)`)
		tries, failed := 0, 0
		for left := true; left; tries++ {
			p, err := openSession(t, f).Promote(t.Context(), 0, n)
			if err != nil {
				failed++
			}
			if failed > 50 {
				t.Fatalf("%d of %d tries failed, the last one: %v", failed, tries, err)
			}
			left = err != nil || p.Moved > 0
		}
		if tries < 3 {
			t.Error("all was moved at once, which shows nothing")
		}
		if got := len(fetchAll(t, openSession(t, f)).Records); got != n {
			t.Errorf("the outbox holds %d events, want %d", got, n)
		}
	})
}

// An application's INSERT … SELECT holds the lock for positions until it ends, where innodb_autoinc_lock_mode is 0 or 1, as
// MariaDB has it. A promotion, which is one as well, waits for it no longer than for anything else, the lease is the relay's after
// that, and an application's own INSERT waits for the other application alone.
func TestAPromotionBesideABulkInsert(t *testing.T) {
	onBoth(t, func(t *testing.T, flavour flavour) {
		f := open(t, flavour.database(t), mysql.Config{})
		var mode int
		if err := f.DB.QueryRowContext(t.Context(), `SELECT @@innodb_autoinc_lock_mode`).Scan(&mode); err != nil {
			t.Fatal(err)
		}
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
		if mode == 2 && err != nil { // the machine stood still for as long as a promotion may take
			eventually(t, "a promotion is done beside a bulk insert", func() bool {
				_, err := openSession(t, f).Promote(t.Context(), 1, 10)
				return err == nil
			})
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
