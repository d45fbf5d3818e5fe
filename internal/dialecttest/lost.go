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

type sessionCall = func(ctx context.Context, s core.Session) error

var lostEvent = core.Ref{Position: 1, ID: "a"}

func lostBurial(ctx context.Context, s core.Session) error {
	return s.Bury(ctx, []core.Burial{{Ref: lostEvent, Attempts: 1, Cause: "c"}})
}

func lostAcknowledgement(ctx context.Context, s core.Session) error {
	return s.Acknowledge(ctx, []core.Ref{lostEvent})
}

// lostCalls are the calls of a session that change something.
var lostCalls = map[string]struct {
	before, call sessionCall
	query        string // of a number that is 1 then
}{
	"Acknowledge": {nil, lostAcknowledgement,
		`SELECT (SELECT COUNT(*) FROM outbox_archive WHERE id = 'a') + (SELECT COUNT(*) FROM outbox WHERE id = 'a')`},
	"Fail": {nil, func(ctx context.Context, s core.Session) error {
		return s.Fail(ctx, []core.Failure{{Ref: lostEvent, Attempts: 1, Cause: "c"}})
	}, `SELECT attempts FROM outbox WHERE id = 'a'`},
	"Bury": {nil, lostBurial, `SELECT COUNT(*) FROM outbox_dead WHERE attempts = 1 AND dropped_at IS NULL`},
	"RetryDead": {lostBurial, func(ctx context.Context, s core.Session) error {
		_, err := s.RetryDead(ctx, core.DeadFilter{}, 1)
		return err
	}, `SELECT generation + (SELECT COUNT(*) FROM outbox_dead) + (SELECT COUNT(*) FROM outbox_blocked) FROM outbox_control, outbox WHERE id = 'a'`},
	"DropDead": {lostBurial, func(ctx context.Context, s core.Session) error {
		_, err := s.DropDead(ctx, core.DeadFilter{}, "r", 1)
		return err
	}, `SELECT generation FROM outbox_control, outbox_dead WHERE dropped_at IS NOT NULL`},
	"Unblock": {lostBurial, func(ctx context.Context, s core.Session) error {
		_, err := s.Unblock(ctx, "t", "k")
		return err
	}, `SELECT generation + (SELECT COUNT(*) FROM outbox_blocked) FROM outbox_control`},
	"PauseTopic": {nil, func(ctx context.Context, s core.Session) error {
		_, err := s.PauseTopic(ctx, "t")
		return err
	}, `SELECT generation FROM outbox_control, outbox_blocked`},
	"Promote": {nil, func(ctx context.Context, s core.Session) error {
		_, err := s.Promote(ctx, 0, 10)
		return err
	}, `SELECT generation + (SELECT COUNT(*) FROM outbox_delayed) FROM outbox_control, outbox WHERE id = 'later'`},
	"TakeLease": {nil, func(ctx context.Context, s core.Session) error {
		_, err := s.TakeLease(ctx, core.Lease{}, "me", time.Minute)
		return err
	}, `SELECT epoch FROM outbox_lease WHERE holder = 'me'`},
	"MarkSuspect": {nil, func(ctx context.Context, s core.Session) error {
		_, err := s.MarkSuspect(ctx, "", 0, lostEvent)
		return err
	}, `SELECT suspect_position FROM outbox_lease`},
	"Purge": {lostAcknowledgement, func(ctx context.Context, s core.Session) error {
		_, err := s.(core.ArchiveStore).Purge(ctx, 0, 1)
		return err
	}, `SELECT 1 - COUNT(*) FROM outbox_archive`},
}

// LostAnswerChangesNothingTwice makes each call that changes something, and loses one after the other of the answers that it has:
// what was done is done, the call is made again over another session, and what it changes is changed once. open returns an
// empty outbox that archives the topic "t" either way.
func LostAnswerChangesNothingTwice(t *testing.T, open func(t *testing.T) Outbox) {
	t.Helper()
	for name, tt := range lostCalls {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			lost := 0
			for ; ; lost++ {
				o := open(t)
				Enqueued(t, o.DialectFixture, core.Message{ID: lostEvent.ID, Topic: "t", Key: "k"})
				Enqueued(t, o.DialectFixture, core.Message{ID: "later", Topic: "t", Key: "other", NotBefore: time.Now().Add(-time.Hour)})
				if tt.before != nil {
					if err := tt.before(t.Context(), OpenSession(t, o.DialectFixture)); err != nil {
						t.Fatal(err)
					}
				}
				callTwice(t, o, lost, tt.call)
				if got := Count(t, o.DialectFixture, tt.query); got != 1 {
					t.Errorf("after two calls, of which the first one's answer %d was lost: got %d, want 1", lost, got)
				}
				if o.Proxy.Swallowed() == 0 {
					break
				}
			}
			t.Logf("of %d answers each was lost", lost)
			if lost == 0 {
				t.Error("the call has no answer that could be lost")
			}
		})
	}
}

// callTwice makes a call that loses an answer, if it has so many, and makes it again over another session.
func callTwice(t *testing.T, o Outbox, lost int, call sessionCall) {
	t.Helper()
	for i := range 2 {
		s, err := o.Through.Open(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if i == 0 {
			o.Proxy.SwallowAnswer(lost)
		}
		err = call(t.Context(), s)
		if swallowed := i == 0 && o.Proxy.Swallowed() > 0; swallowed == (err == nil) {
			t.Errorf("call %d, whose answer %d was lost: %v; it returned %v", i+1, lost, swallowed, err)
		}
		o.Proxy.SwallowAnswer(1 << 30) // the closing is not asked for
		s.Close()
	}
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
