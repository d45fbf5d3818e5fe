package postgres_test

import (
	"context"
	"database/sql"
	"fmt"
	"testing"
	"time"

	"github.com/lockstep-go/lockstep/conformance"
	"github.com/lockstep-go/lockstep/core"
	"github.com/lockstep-go/lockstep/dialect/postgres"
	"github.com/lockstep-go/lockstep/internal/servers"
)

// A relay's connection falls silent in the middle of a transaction of its: rows locked and others waited for, or a result half sent.
// The application, which enqueues events of the same keys, waits for none of its locks, and locks say so, not time.
func TestARelayFrozenInATransactionDelaysNoInsert(t *testing.T) {
	t.Parallel()
	const events, last = 32, `SELECT FROM outbox WHERE position = 32 FOR UPDATE`
	var refs []core.Ref
	var failures []core.Failure
	var burials []core.Burial
	for i := range int64(events) {
		ref := core.Ref{Position: i + 1, ID: fmt.Sprint(i + 1)}
		refs, failures = append(refs, ref), append(failures, core.Failure{Ref: ref, Attempts: 1, RetryIn: time.Hour, Cause: "c"})
		burials = append(burials, core.Burial{Ref: ref, Attempts: 1, Cause: "c"})
	}
	for name, tt := range map[string]struct {
		payload  int
		obstacle string // what the call waits for when it falls silent
		archive  []string
		call     func(s core.Session) error
		middle   string // what the server waits for then; the obstacle is gone, unless it is Lock
	}{
		"Acknowledge":          {1, last, nil, func(s core.Session) error { return s.Acknowledge(t.Context(), refs) }, "Lock"},
		"Acknowledge and keep": {1, last, []string{"*"}, func(s core.Session) error { return s.Acknowledge(t.Context(), refs) }, "Lock"},
		"Fail":                 {1, last, nil, func(s core.Session) error { return s.Fail(t.Context(), failures) }, "Lock"},
		"Bury":                 {1, last, nil, func(s core.Session) error { return s.Bury(t.Context(), burials) }, "Lock"},
		// More than the buffers of the sockets between hold.
		"Fetch": {1 << 20, `LOCK TABLE outbox`, nil, func(s core.Session) error {
			result, err := s.Fetch(t.Context(), core.FetchRequest{Limit: events, MaxBytes: 1 << 30})
			return changed(len(result.Records), err)
		}, "ClientWrite"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			direct := servers.PostgresSchema(t)
			f := open(t, direct, postgres.Config{})
			execute(t, f, fmt.Sprintf(`INSERT INTO outbox (id, topic, key, payload)
SELECT i, 't', i, repeat('x', %d)::bytea FROM generate_series(1, %d) AS i`, tt.payload, events))
			dsn, proxy := through(t, direct)
			relay := "relay_" + schemaOf(t, direct)
			s := openSession(t, conformance.DialectFixture{Dialect: dialect(t, with(t, dsn, "application_name", relay), postgres.Config{Archive: tt.archive})})
			held, err := f.DB.BeginTx(t.Context(), nil)
			if err != nil {
				t.Fatal(err)
			}
			defer held.Rollback()
			if _, err := held.ExecContext(t.Context(), tt.obstacle); err != nil {
				t.Fatal(err)
			}
			ended := make(chan error, 1)
			go func() { ended <- tt.call(s) }()
			inTheMiddle(t, f, relay, "Lock")
			proxy.Freeze()
			if tt.middle != "Lock" {
				held.Rollback()
				inTheMiddle(t, f, relay, tt.middle)
			}
			waitsForNobody(t, f, direct, relay)
			inTheMiddle(t, f, relay, tt.middle)
			held.Rollback()
			proxy.Thaw()
			if err := <-ended; err != nil {
				t.Errorf("once it is heard again: %v", err)
			}
		})
	}
}

// inTheMiddle returns when the relay of that name is in a transaction and waits: for a lock, or for its client to read.
func inTheMiddle(t *testing.T, f conformance.DialectFixture, relay, wait string) {
	t.Helper()
	eventually(t, relay+" waits in the middle: "+wait, func() (waits bool, err error) {
		err = f.DB.QueryRowContext(t.Context(), `SELECT EXISTS (SELECT FROM pg_stat_activity
WHERE application_name = $1 AND state = 'active' AND xact_start IS NOT NULL AND $2 IN (wait_event, wait_event_type))`, relay, wait).Scan(&waits)
		return waits, err
	})
}

// waitsForNobody commits events as an application does, of the keys that are there already, and looks for whom it waits meanwhile.
func waitsForNobody(t *testing.T, f conformance.DialectFixture, dsn, relay string) {
	t.Helper()
	application := "beside_" + relay
	db, ctx := pool(t, with(t, dsn, "application_name", application)), t.Context()
	committed := make(chan error, 1)
	go func() {
		committed <- core.NewOutbox(f.Dialect, core.OutboxConfig{LockKeys: true}).InTx(ctx, db, core.InTxOptions{},
			func(context.Context, *sql.Tx) (msgs []core.Message, err error) {
				for i := range 100 {
					msgs = append(msgs, core.Message{Topic: "t", Key: fmt.Sprint(i), Payload: []byte("x")},
						core.Message{Topic: "t", Key: fmt.Sprint(i), NotBefore: time.Now().Add(time.Hour)})
				}
				return msgs, nil
			})
	}()
	for {
		select {
		case err := <-committed:
			if err != nil {
				t.Errorf("an application beside a frozen relay: %v", err)
			}
			return
		default:
		}
		var blocked bool
		err := f.DB.QueryRowContext(ctx, `SELECT EXISTS (SELECT FROM pg_stat_activity AS a JOIN pg_stat_activity AS r ON r.pid = ANY (pg_blocking_pids(a.pid))
WHERE a.application_name = $1 AND r.application_name = $2)`, application, relay).Scan(&blocked)
		if err != nil || blocked {
			t.Fatalf("an application waits for a lock of a frozen relay: %v, %v", blocked, err)
		}
	}
}
