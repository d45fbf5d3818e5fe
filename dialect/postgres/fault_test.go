package postgres_test

import (
	"context"
	"errors"
	"net/url"
	"testing"
	"time"

	"github.com/lockstep-go/lockstep/conformance"
	"github.com/lockstep-go/lockstep/core"
	"github.com/lockstep-go/lockstep/dialect/postgres"
	"github.com/lockstep-go/lockstep/internal/dialecttest"
	"github.com/lockstep-go/lockstep/internal/servers"
)

// through returns dsn with a proxy in front of its server.
func through(t *testing.T, dsn string) (string, *conformance.Proxy) {
	t.Helper()
	u, err := url.Parse(dsn)
	if err != nil {
		t.Fatal(err)
	}
	proxy := servers.Proxy(t, u.Host, conformance.ProxyConfig{})
	u.Host = proxy.Addr()
	return u.String(), proxy
}

func TestASilentServerHangsNobody(t *testing.T) {
	direct := servers.PostgresSchema(t)
	open(t, direct, postgres.Config{})
	dialecttest.SilentServerHangsNobody(t, func(t *testing.T) (core.Dialect, *conformance.Proxy) {
		dsn, proxy := through(t, direct)
		return dialect(t, dsn, postgres.Config{}), proxy
	})
}

func TestASilentServerHangsNeitherOpenNorClose(t *testing.T) {
	dsn, proxy := through(t, servers.PostgresSchema(t))
	f := open(t, dsn, postgres.Config{})
	d := f.Dialect.(*postgres.Dialect)
	s := openSession(t, f)
	proxy.Freeze()
	dialecttest.ReturnsSoon(t, "Open", func(ctx context.Context) error {
		_, err := d.Open(ctx)
		return err
	})
	dialecttest.ReturnsSoon(t, "Migrate", d.Migrate)
	dialecttest.ReturnsSoon(t, "Check", d.Check)
	dialecttest.ClosesSoon(t, s)
}

// A statement that waits for a lock goes on waiting on the server when its connection is gone. What it does then, does
// nobody expect any more: an operator may have retried the event in the meantime.
func TestTheServerGivesUpWithTheSession(t *testing.T) {
	f := open(t, servers.PostgresSchema(t), postgres.Config{})
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
		err := s.Bury(ctx, []core.Burial{{Ref: core.Ref{Position: position, ID: "a"}, Attempts: 1, Cause: "c"}})
		if err != nil && ctx.Err() == nil {
			<-ctx.Done() // the server was the first to give up
			err = errors.Join(err, ctx.Err())
		}
		return err
	})
	noneWaits(t, f)
	if err := held.Rollback(); err != nil {
		t.Fatal(err)
	}
	fetchOne(t, openSession(t, f), "a")
}

// noneWaits returns when no burial waits for a lock.
func noneWaits(t *testing.T, f conformance.DialectFixture) {
	t.Helper()
	for deadline := time.Now().Add(10 * time.Second); ; {
		var waiting int
		err := f.DB.QueryRowContext(t.Context(), `SELECT count(*) FROM pg_stat_activity
WHERE wait_event_type = 'Lock' AND query LIKE '%WITH b AS%'`).Scan(&waiting)
		switch {
		case err != nil:
			t.Fatal(err)
		case waiting == 0:
			return
		case time.Now().After(deadline):
			t.Fatal("a statement still waits for a lock, 10 s after its session was cut")
		}
	}
}

// Whoever takes the lease over waits for a promotion: it must be short, whatever stands in its way.
func TestAPromotionThatMustWaitEndsWithinASecond(t *testing.T) {
	f := open(t, servers.PostgresSchema(t), postgres.Config{})
	enqueued(t, f, core.Message{ID: "a", Topic: "t", NotBefore: time.Now().Add(-time.Hour)})
	held, err := f.DB.BeginTx(t.Context(), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer held.Rollback()
	if _, err := held.ExecContext(t.Context(), `SELECT FROM outbox_delayed FOR UPDATE`); err != nil {
		t.Fatal(err)
	}
	begun, ended, leaseHeld := time.Now(), make(chan error), false
	s := openSession(t, f)
	go func() {
		_, err := s.Promote(t.Context(), 0, 10)
		ended <- err
	}()
	for waiting := true; waiting; {
		select {
		case err := <-ended:
			if took := time.Since(begun); err == nil || took > time.Second+dialecttest.Soon {
				t.Errorf("Promote: got %v after %v, want an error within a second", err, took)
			}
			waiting = false
		default:
			_, err := f.DB.ExecContext(t.Context(), `SELECT FROM outbox_lease FOR UPDATE NOWAIT`)
			leaseHeld = leaseHeld || err != nil
		}
	}
	if !leaseHeld {
		t.Error("the lease's row was not locked while a promotion was under way")
	}
	took, err := openSession(t, f).TakeLease(t.Context(), core.Lease{}, "me", time.Second)
	if err != nil || !took {
		t.Errorf("TakeLease after it: got %v, %v, want true", took, err)
	}
}

// An error's text is whatever a broker sent.
func TestACauseThatIsNoText(t *testing.T) {
	f := open(t, servers.PostgresSchema(t), postgres.Config{})
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
}
