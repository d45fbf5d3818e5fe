package mysql_test

import (
	"context"
	"testing"
	"time"

	mysqldriver "github.com/go-sql-driver/mysql"

	"github.com/lockstep-go/lockstep/conformance"
	"github.com/lockstep-go/lockstep/core"
	"github.com/lockstep-go/lockstep/dialect/mysql"
	"github.com/lockstep-go/lockstep/internal/dialecttest"
	"github.com/lockstep-go/lockstep/internal/servers"
)

// through returns dsn with a proxy in front of its server.
func through(t *testing.T, dsn string) (string, *conformance.Proxy) {
	t.Helper()
	var proxy *conformance.Proxy
	changed := with(t, dsn, func(c *mysqldriver.Config) {
		proxy = servers.Proxy(t, c.Addr, conformance.ProxyConfig{})
		c.Addr = proxy.Addr()
	})
	return changed, proxy
}

func TestASilentServerHangsNobody(t *testing.T) {
	onBoth(t, func(t *testing.T, flavour flavour) {
		direct := flavour.database(t)
		open(t, direct, mysql.Config{})
		dialecttest.SilentServerHangsNobody(t, func(t *testing.T) (core.Dialect, *conformance.Proxy) {
			dsn, proxy := through(t, direct)
			return dialect(t, dsn, mysql.Config{}), proxy
		})
	})
}

func TestASilentServerHangsNeitherOpenNorClose(t *testing.T) {
	onBoth(t, func(t *testing.T, flavour flavour) {
		dsn, proxy := through(t, flavour.database(t))
		d := dialect(t, dsn, mysql.Config{})
		if err := d.Migrate(t.Context()); err != nil {
			t.Fatal(err)
		}
		s := openSession(t, conformance.DialectFixture{Dialect: d})
		proxy.Freeze()
		dialecttest.ReturnsSoon(t, "Open", func(ctx context.Context) error {
			_, err := d.Open(ctx)
			return err
		})
		dialecttest.ReturnsSoon(t, "Migrate", d.Migrate)
		dialecttest.ReturnsSoon(t, "Check", d.Check)
		dialecttest.ClosesSoon(t, s)
	})
}

// The dialect's Close ends what its sessions wait for.
func TestCloseEndsACall(t *testing.T) {
	onBoth(t, func(t *testing.T, flavour flavour) {
		direct := flavour.database(t)
		open(t, direct, mysql.Config{})
		dsn, proxy := through(t, direct)
		d := dialect(t, dsn, mysql.Config{})
		s := openSession(t, conformance.DialectFixture{Dialect: d})
		proxy.Freeze()
		ended := make(chan error, 1)
		go func() {
			_, err := s.ReadLease(context.WithoutCancel(t.Context()))
			ended <- err
		}()
		d.Close()
		if err := <-ended; err == nil {
			t.Error("a call went well on a silent server")
		}
		if _, err := d.Open(t.Context()); err == nil {
			t.Error("a closed dialect opened a session")
		}
	})
}

// A statement that waits for a lock goes on waiting on the server when its connection is gone. What it does then, does
// nobody expect any more: an operator may have retried the event in the meantime.
func TestTheServerGivesUpWithTheSession(t *testing.T) {
	onBoth(t, func(t *testing.T, flavour flavour) {
		f := open(t, flavour.database(t), mysql.Config{})
		enqueued(t, f, core.Message{ID: "a", Topic: "t", Key: "k"})
		held, err := f.DB.BeginTx(t.Context(), nil)
		if err != nil {
			t.Fatal(err)
		}
		defer held.Rollback()
		var position int64
		if err := held.QueryRowContext(t.Context(), `SELECT position FROM outbox FOR UPDATE`).Scan(&position); err != nil {
			t.Fatal(err)
		}
		s := openSession(t, f)
		dialecttest.ReturnsSoon(t, "Bury of a locked row", func(ctx context.Context) error {
			return s.Bury(ctx, []core.Burial{{Ref: core.Ref{Position: position, ID: "a"}, Attempts: 1, Cause: "c"}})
		})
		noneWaits(t, f)
		if err := held.Rollback(); err != nil {
			t.Fatal(err)
		}
		if left := fetchAll(t, openSession(t, f)).Records; len(left) != 1 {
			t.Errorf("the outbox holds %v, want the event that was not buried", left)
		}
	})
}

// noneWaits returns when no burial in this database waits for a lock.
func noneWaits(t *testing.T, f conformance.DialectFixture) {
	t.Helper()
	for deadline := time.Now().Add(10 * time.Second); ; {
		var waiting int
		err := f.DB.QueryRowContext(t.Context(), `SELECT COUNT(*) FROM information_schema.processlist WHERE db = DATABASE() AND info LIKE '%REPLACE%outbox_dead%'
  AND info NOT LIKE '%processlist%'`).Scan(&waiting)
		switch {
		case err != nil:
			t.Fatal(err)
		case waiting == 0:
			return
		case time.Now().After(deadline):
			t.Fatal("a statement still waits for a lock, 10 s after its session was closed")
		}
	}
}

// Whoever takes the lease over waits for a promotion: it must be short, whatever stands in its way.
func TestAPromotionThatMustWaitEndsWithinASecond(t *testing.T) {
	for name, lock := range map[string]string{
		"events": `SELECT * FROM outbox_delayed FOR UPDATE`, "generation": `SELECT * FROM outbox_control FOR UPDATE`,
	} {
		each(t, name, func(t *testing.T, flavour flavour) {
			f := open(t, flavour.database(t), mysql.Config{})
			enqueued(t, f, core.Message{ID: "a", Topic: "t", NotBefore: time.Now().Add(-time.Hour)})
			held, err := f.DB.BeginTx(t.Context(), nil)
			if err != nil {
				t.Fatal(err)
			}
			defer held.Rollback()
			if _, err := held.ExecContext(t.Context(), lock); err != nil {
				t.Fatal(err)
			}
			s := openSession(t, f)
			begun := time.Now()
			_, err = s.Promote(t.Context(), 0, 10)
			if took := time.Since(begun); err == nil || took > time.Second+dialecttest.Soon {
				t.Errorf("Promote: got %v after %v, want an error within a second", err, took)
			}
			took, err := openSession(t, f).TakeLease(t.Context(), core.Lease{}, "me", time.Second)
			if err != nil || !took {
				t.Errorf("TakeLease after it: got %v, %v, want true", took, err)
			}
			if err := held.Rollback(); err != nil {
				t.Fatal(err)
			}
			if p, err := openSession(t, f).Promote(t.Context(), 1, 10); err != nil || p.Moved != 1 {
				t.Errorf("Promote after it: got %+v, %v, want one moved", p, err)
			}
		})
	}
}

// A takeover that is on its way is waited for, and seen.
func TestAPromotionSeesATakeoverThatCommits(t *testing.T) {
	onBoth(t, func(t *testing.T, flavour flavour) {
		f := open(t, flavour.database(t), mysql.Config{})
		enqueued(t, f, core.Message{ID: "a", Topic: "t", NotBefore: time.Now().Add(-time.Hour)})
		takeover, err := f.DB.BeginTx(t.Context(), nil)
		if err != nil {
			t.Fatal(err)
		}
		defer takeover.Rollback()
		if _, err := takeover.ExecContext(t.Context(), `UPDATE outbox_lease SET epoch = 1`); err != nil {
			t.Fatal(err)
		}
		s := openSession(t, f)
		promoted := make(chan error, 1)
		var p core.Promotion
		go func() {
			var err error
			p, err = s.Promote(t.Context(), 0, 10)
			promoted <- err
		}()
		time.Sleep(30 * time.Millisecond) // it may have begun by then; either way it must see the new epoch
		if err := takeover.Commit(); err != nil {
			t.Fatal(err)
		}
		if err := <-promoted; err != nil || !p.Fenced || p.Moved != 0 {
			t.Errorf("Promote beside a takeover: got %+v, %v, want Fenced", p, err)
		}
	})
}

// An error's text is whatever a broker sent.
func TestACauseThatIsNoText(t *testing.T) {
	onBoth(t, func(t *testing.T, flavour flavour) {
		f := open(t, flavour.database(t), mysql.Config{})
		enqueued(t, f, core.Message{ID: "a", Topic: "t"})
		s := openSession(t, f)
		const cause = `bytes ` + "\xff\x00" + ` '{outbox}' \ end`
		if err := s.Fail(t.Context(), []core.Failure{{Ref: core.Ref{Position: 1, ID: "a"}, Attempts: 1, Cause: cause}}); err != nil {
			t.Error(err)
		}
		if err := s.Bury(t.Context(), []core.Burial{{Ref: core.Ref{Position: 1, ID: "a"}, Attempts: 2, Cause: cause}}); err != nil {
			t.Error(err)
		}
		letters, err := s.ListDead(t.Context(), core.DeadFilter{CauseContains: `'{outbox}' \ end`}, core.Ref{}, 10)
		if err != nil || len(letters) != 1 {
			t.Errorf("ListDead: got %v, %v, want one letter", letters, err)
		}
	})
}
