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

func openSession(t testing.TB, f conformance.DialectFixture) core.Session {
	t.Helper()
	s, err := f.Dialect.Open(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s
}

// sessionCalls is every method of a session that talks to the server.
var sessionCalls = map[string]func(ctx context.Context, s core.Session) error{
	"Fetch": func(ctx context.Context, s core.Session) error {
		_, err := s.Fetch(ctx, core.FetchRequest{Limit: 10, MaxBytes: 1000})
		return err
	},
	"ResolveGaps": func(ctx context.Context, s core.Session) error { return s.ResolveGaps(ctx, make([]core.Gap, 1)) },
	"Acknowledge": func(ctx context.Context, s core.Session) error { return s.Acknowledge(ctx, make([]core.Ref, 1)) },
	"Fail":        func(ctx context.Context, s core.Session) error { return s.Fail(ctx, make([]core.Failure, 1)) },
	"Bury":        func(ctx context.Context, s core.Session) error { return s.Bury(ctx, make([]core.Burial, 1)) },
	"Promote": func(ctx context.Context, s core.Session) error {
		_, err := s.Promote(ctx, 0, 10)
		return err
	},
	"ReadLease": func(ctx context.Context, s core.Session) error {
		_, err := s.ReadLease(ctx)
		return err
	},
	"TakeLease": func(ctx context.Context, s core.Session) error {
		_, err := s.TakeLease(ctx, core.Lease{Epoch: -1}, "me", time.Second)
		return err
	},
	"RenewLease": func(ctx context.Context, s core.Session) error {
		_, err := s.RenewLease(ctx, "me", -1, time.Second, false)
		return err
	},
	"ReleaseLease": func(ctx context.Context, s core.Session) error { return s.ReleaseLease(ctx, "me", -1) },
	"ListDead": func(ctx context.Context, s core.Session) error {
		_, err := s.ListDead(ctx, core.DeadFilter{}, core.Ref{}, 10)
		return err
	},
	"CountDead": func(ctx context.Context, s core.Session) error {
		_, err := s.CountDead(ctx, core.DeadFilter{})
		return err
	},
	"RetryDead": func(ctx context.Context, s core.Session) error {
		_, err := s.RetryDead(ctx, core.DeadFilter{}, 10)
		return err
	},
	"DropDead": func(ctx context.Context, s core.Session) error {
		_, err := s.DropDead(ctx, core.DeadFilter{}, "reason", 10)
		return err
	},
	"Unblock": func(ctx context.Context, s core.Session) error {
		_, err := s.Unblock(ctx, "t", "k")
		return err
	},
	"ListBlocked": func(ctx context.Context, s core.Session) error {
		_, err := s.ListBlocked(ctx, "", "", 10)
		return err
	},
	"PauseTopic": func(ctx context.Context, s core.Session) error {
		_, err := s.PauseTopic(ctx, "paused")
		return err
	},
	"ResumeTopic": func(ctx context.Context, s core.Session) error {
		_, err := s.ResumeTopic(ctx, "paused")
		return err
	},
	"MarkSuspect": func(ctx context.Context, s core.Session) error {
		_, err := s.MarkSuspect(ctx, "me", -1, core.Ref{})
		return err
	},
	"ListArchived": func(ctx context.Context, s core.Session) error {
		_, err := s.(core.ArchiveStore).ListArchived(ctx, core.ArchiveFilter{}, core.Ref{}, 10)
		return err
	},
	"Replay": func(ctx context.Context, s core.Session) error {
		_, _, err := s.(core.ArchiveStore).Replay(ctx, core.ArchiveFilter{}, core.Ref{}, 10)
		return err
	},
	"Purge": func(ctx context.Context, s core.Session) error {
		_, err := s.(core.ArchiveStore).Purge(ctx, time.Hour, 10)
		return err
	},
	"Stats": func(ctx context.Context, s core.Session) error {
		_, err := s.Stats(ctx)
		return err
	},
}

const (
	patience = 200 * time.Millisecond
	soon     = 2 * time.Second // after that; the machine may be busy
)

// returnsSoon checks that call ends with its context, and says so.
func returnsSoon(t *testing.T, what string, call func(ctx context.Context) error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	begun := time.Now()
	err := call(ctx)
	if took := time.Since(begun); took > patience+soon {
		t.Errorf("%s on a silent server returned after %v, want soon after its context ended (%v)", what, took, patience)
	}
	if !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("%s on a silent server: got %v, want the context's error", what, err)
	}
}

func TestASilentServerHangsNobody(t *testing.T) {
	direct := servers.PostgresSchema(t)
	open(t, direct, postgres.Config{})
	for name, call := range sessionCalls {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dsn, proxy := through(t, direct)
			s := openSession(t, open(t, dsn, postgres.Config{}))
			if err := call(t.Context(), s); err != nil {
				t.Fatalf("%s on a live server: %v", name, err)
			}
			proxy.Freeze()
			returnsSoon(t, name, func(ctx context.Context) error { return call(ctx, s) })
			if err := call(t.Context(), s); err == nil {
				t.Errorf("%s after an error: got nil, want that the session is over", name)
			}
			closesSoon(t, s)
		})
	}
}

func closesSoon(t *testing.T, s core.Session) {
	t.Helper()
	begun := time.Now()
	if err := s.Close(); err != nil {
		t.Errorf("Close: %v", err)
	}
	if took := time.Since(begun); took > soon {
		t.Errorf("Close took %v", took)
	}
}

func TestASilentServerHangsNeitherOpenNorClose(t *testing.T) {
	dsn, proxy := through(t, servers.PostgresSchema(t))
	f := open(t, dsn, postgres.Config{})
	s := openSession(t, f)
	proxy.Freeze()
	returnsSoon(t, "Open", func(ctx context.Context) error {
		_, err := f.Dialect.Open(ctx)
		return err
	})
	returnsSoon(t, "Migrate", func(ctx context.Context) error { return f.Dialect.(*postgres.Dialect).Migrate(ctx) })
	closesSoon(t, s)
}

// enqueued commits an event.
func enqueued(t *testing.T, f conformance.DialectFixture, m core.Message) {
	t.Helper()
	tx, err := f.DB.BeginTx(t.Context(), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer tx.Rollback()
	if err := core.NewOutbox(f.Dialect, core.OutboxConfig{}).Enqueue(t.Context(), tx, m); err != nil {
		t.Fatal(err)
	}
	if err := tx.Commit(); err != nil {
		t.Fatal(err)
	}
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
	returnsSoon(t, "Bury of a locked row", func(ctx context.Context) error {
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
			if took := time.Since(begun); err == nil || took > time.Second+soon/2 {
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
