package dialecttest

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/lockstep-go/lockstep/conformance"
	"github.com/lockstep-go/lockstep/core"
)

// sessionCall is one that is about event, or about none.
type sessionCall = func(ctx context.Context, s core.Session, event core.Ref) error

func lostBurial(ctx context.Context, s core.Session, event core.Ref) error {
	return s.Bury(ctx, []core.Burial{{Ref: event, Attempts: 1, Cause: "c"}})
}

func lostAcknowledgement(ctx context.Context, s core.Session, event core.Ref) error {
	return s.Acknowledge(ctx, []core.Ref{event})
}

func lostPause(ctx context.Context, s core.Session, _ core.Ref) error {
	_, err := s.PauseTopic(ctx, "t")
	return err
}

func lostTakeover(ctx context.Context, s core.Session, _ core.Ref) error {
	_, err := s.TakeLease(ctx, core.Lease{}, "me", time.Minute)
	return err
}

// lostCalls are the calls of a session that change something.
var lostCalls = map[string]struct {
	before, call sessionCall
	query        string // of a number that is 1 then
}{
	"Acknowledge": {nil, lostAcknowledgement,
		`SELECT (SELECT COUNT(*) FROM outbox_archive WHERE id = 'a') + (SELECT COUNT(*) FROM outbox WHERE id = 'a')`},
	"Fail": {nil, func(ctx context.Context, s core.Session, event core.Ref) error {
		return s.Fail(ctx, []core.Failure{{Ref: event, Attempts: 1, Cause: "c"}})
	}, `SELECT attempts FROM outbox WHERE id = 'a'`},
	"Bury": {nil, lostBurial, `SELECT COUNT(*) FROM outbox_dead WHERE attempts = 1 AND dropped_at IS NULL`},
	"RetryDead": {lostBurial, func(ctx context.Context, s core.Session, _ core.Ref) error {
		_, err := s.RetryDead(ctx, core.DeadFilter{}, 1)
		return err
	}, `SELECT generation + (SELECT COUNT(*) FROM outbox_dead) + (SELECT COUNT(*) FROM outbox_blocked) FROM outbox_control, outbox WHERE id = 'a'`},
	"DropDead": {lostBurial, func(ctx context.Context, s core.Session, _ core.Ref) error {
		_, err := s.DropDead(ctx, core.DeadFilter{}, "r", 1)
		return err
	}, `SELECT generation FROM outbox_control, outbox_dead WHERE dropped_at IS NOT NULL`},
	"Unblock": {lostBurial, func(ctx context.Context, s core.Session, _ core.Ref) error {
		_, err := s.Unblock(ctx, "t", "k")
		return err
	}, `SELECT generation + (SELECT COUNT(*) FROM outbox_blocked) FROM outbox_control`},
	"PauseTopic": {nil, lostPause, `SELECT generation FROM outbox_control, outbox_blocked`},
	"ResumeTopic": {lostPause, func(ctx context.Context, s core.Session, _ core.Ref) error {
		_, err := s.ResumeTopic(ctx, "t")
		return err
	}, `SELECT generation - 1 + (SELECT COUNT(*) FROM outbox_blocked) FROM outbox_control`},
	"Promote": {nil, func(ctx context.Context, s core.Session, _ core.Ref) error {
		_, err := s.Promote(ctx, 0, 10)
		return err
	}, `SELECT generation + (SELECT COUNT(*) FROM outbox_delayed) FROM outbox_control, outbox WHERE id = 'later'`},
	"TakeLease": {nil, lostTakeover, `SELECT epoch FROM outbox_lease WHERE holder = 'me'`},
	"RenewLease": {lostTakeover, func(ctx context.Context, s core.Session, _ core.Ref) error {
		renewed, err := s.RenewLease(ctx, "me", 1, time.Minute, true)
		if err == nil && !renewed {
			err = errors.New("the owner's renewal was refused")
		}
		return err
	}, `SELECT epoch + unclean FROM outbox_lease WHERE holder = 'me'`},
	"ReleaseLease": {lostTakeover, func(ctx context.Context, s core.Session, _ core.Ref) error {
		return s.ReleaseLease(ctx, "me", 1)
	}, `SELECT epoch FROM outbox_lease WHERE holder = ''`},
	"MarkSuspect": {nil, func(ctx context.Context, s core.Session, event core.Ref) error {
		_, err := s.MarkSuspect(ctx, "", 0, event)
		return err
	}, `SELECT COUNT(*) FROM outbox_lease WHERE suspect_id = 'a'`},
	// The one call that is not idempotent: each has its copy, with one id, by which consumers know the second.
	"Replay": {lostAcknowledgement, func(ctx context.Context, s core.Session, _ core.Ref) error {
		_, _, err := s.(core.ArchiveStore).Replay(ctx, core.ArchiveFilter{}, core.Ref{}, 1)
		return err
	}, `SELECT CASE WHEN COUNT(*) BETWEEN 1 AND 2 THEN COUNT(DISTINCT id) * (SELECT COUNT(*) FROM outbox_archive) ELSE 0 END FROM outbox`},
	"Purge": {lostAcknowledgement, func(ctx context.Context, s core.Session, _ core.Ref) error {
		_, err := s.(core.ArchiveStore).Purge(ctx, 0, 1)
		return err
	}, `SELECT 1 - COUNT(*) FROM outbox_archive`},
}

// LostAnswerChangesNothingTwice makes each call that changes something, and loses one after the other of the answers that it has:
// what was done is done, the call is made again over another session, and what it changes is changed once. open returns an
// outbox that archives the topic "t" either way, and a way to empty it.
func LostAnswerChangesNothingTwice(t *testing.T, open func(t *testing.T) (o Outbox, empty func())) {
	t.Helper()
	for name, tt := range lostCalls {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			o, empty := open(t)
			lost := 0
			for swallowed := true; swallowed; lost++ {
				empty()
				Execute(t, o.DialectFixture, `UPDATE outbox_control SET generation = 0`)
				Enqueued(t, o.DialectFixture, core.Message{ID: "a", Topic: "t", Key: "k"})
				Enqueued(t, o.DialectFixture, core.Message{ID: "later", Topic: "t", Key: "other", NotBefore: time.Now().Add(-time.Hour)})
				event := eventA(t, o)
				if tt.before != nil {
					s := OpenSession(t, o.DialectFixture)
					if err := tt.before(t.Context(), s, event); err != nil {
						t.Fatal(err)
					}
					s.Close()
				}
				swallowed = callTwice(t, o, lost, func(s core.Session) error { return tt.call(t.Context(), s, event) })
				if got := Count(t, o.DialectFixture, tt.query); got != 1 {
					t.Errorf("after two calls, of which the first one's answer %d was lost (%v): got %d, want 1", lost, swallowed, got)
				}
			}
			t.Logf("of %d answers each was lost", lost-1)
			if lost == 1 {
				t.Error("the call has no answer that could be lost")
			}
		})
	}
}

// eventA is the name of the event that the outbox holds.
func eventA(t *testing.T, o Outbox) core.Ref {
	t.Helper()
	s := OpenSession(t, o.DialectFixture)
	defer s.Close()
	return FetchAll(t, s).Records[0].Ref()
}

// callTwice makes a call that loses an answer, if it has so many, and makes it again over another session. It reports whether one
// was lost.
func callTwice(t *testing.T, o Outbox, lost int, call func(s core.Session) error) (swallowed bool) {
	t.Helper()
	before := o.Proxy.Swallowed()
	for i := range 2 {
		s, err := o.Through.Open(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if i == 0 {
			o.Proxy.SwallowAnswer(lost)
		}
		err = call(s)
		swallowed = o.Proxy.Swallowed() > before
		if failed := err != nil; failed != (i == 0 && swallowed) {
			t.Errorf("call %d, with answer %d lost: %v; it returned %v", i+1, lost, i == 0 && swallowed, err)
		}
		o.Proxy.SwallowAnswer(1 << 30) // the closing is not asked for
		s.Close()
	}
	return swallowed
}

// Migrator is what our dialects are beyond core.Dialect.
type Migrator interface {
	Migrate(ctx context.Context) error
	Check(ctx context.Context) error
}

// LostAnswerBreaksNoMigration loses Migrate's answers one after the other: it fails or succeeds, and another call finds nothing
// broken. open returns a dialect on nothing; least is how many answers a migration has at least.
func LostAnswerBreaksNoMigration(t *testing.T, least int, open func(t *testing.T) (Migrator, *conformance.Proxy)) {
	t.Helper()
	for lost := 0; ; lost++ {
		d, proxy := open(t)
		proxy.SwallowAnswer(lost)
		err := d.Migrate(t.Context())
		if (err == nil) != (proxy.Swallowed() == 0) {
			t.Errorf("answer %d is lost: got %v", lost, err)
		}
		if proxy.Swallowed() == 0 {
			t.Logf("result: a migration has %d answers, and each was lost", lost)
			if lost < least {
				t.Errorf("a migration had %d answers, which is not all", lost)
			}
			return
		}
		if err := errors.Join(d.Migrate(t.Context()), d.Check(t.Context())); err != nil {
			t.Errorf("after answer %d was lost: %v", lost, err)
		}
	}
}

// LostAnswerKeepsOrderAndEventTogether loses each answer of an application's transaction, COMMIT's included: the order and its
// event are there once, or neither is; and InTx knows, or says that it does not. pool returns a new pool that goes through
// proxy, and insert is the application's own statement, of an order's id into the table orders.
func LostAnswerKeepsOrderAndEventTogether(t *testing.T, f conformance.DialectFixture, proxy *conformance.Proxy, insert string, pool func() *sql.DB) {
	t.Helper()
	Execute(t, f, `CREATE TABLE orders (id VARCHAR(100))`)
	outbox, unknown := core.NewOutbox(f.Dialect, core.OutboxConfig{}), 0
	for lost := 0; ; lost++ {
		id := fmt.Sprint("order ", lost)
		err := orderOver(t, outbox, pool(), insert, id, func() { proxy.SwallowAnswer(lost) })
		orders := Count(t, f, `SELECT COUNT(*) FROM orders WHERE id = '`+id+`'`)
		events := Count(t, f, `SELECT COUNT(*) FROM outbox WHERE id = '`+id+`'`)
		switch {
		case orders != events || orders > 1:
			t.Errorf("answer %d is lost: %d orders and %d events", lost, orders, events)
		case errors.Is(err, core.ErrCommitUnknown):
			unknown++
		case (err == nil) != (orders == 1):
			t.Errorf("answer %d is lost: %d orders, and InTx returned %v", lost, orders, err)
		}
		if proxy.Swallowed() == lost { // the transaction has no more answers
			t.Logf("result: a transaction has %d answers, and each was lost", lost)
			break
		}
	}
	if unknown == 0 {
		t.Error("no COMMIT's outcome was unknown: its answer was never lost")
	}
}

// orderOver enqueues over a pool of one new connection, after lose was called on it.
func orderOver(t *testing.T, outbox *core.Outbox, db *sql.DB, insert, id string, lose func()) error {
	t.Helper()
	defer db.Close()
	db.SetMaxOpenConns(1)
	if err := db.PingContext(t.Context()); err != nil {
		t.Fatal(err)
	}
	lose()
	return outbox.InTx(t.Context(), db, core.InTxOptions{}, func(ctx context.Context, tx *sql.Tx) ([]core.Message, error) {
		_, err := tx.ExecContext(ctx, insert, id)
		return []core.Message{{ID: id, Topic: "t", Key: "k"}}, err
	})
}
