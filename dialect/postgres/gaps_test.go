package postgres_test

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/lockstep-go/lockstep/conformance"
	"github.com/lockstep-go/lockstep/core"
	"github.com/lockstep-go/lockstep/dialect/postgres"
	"github.com/lockstep-go/lockstep/internal/dialecttest"
	"github.com/lockstep-go/lockstep/internal/dose"
	"github.com/lockstep-go/lockstep/internal/servers"
)

// writers insert in all the ways there are, and commit late, roll back, or do so in part, until ctx ends.
type writers struct {
	db       *sql.DB
	outbox   *core.Outbox
	prepared *sql.Stmt
	twoPhase bool // the server allows PREPARE TRANSACTION
	serial   atomic.Int64
}

// insert writes through one of the ways to INSERT.
func (w *writers) insert(ctx context.Context, tx *sql.Tx) error {
	switch rand.IntN(6) {
	case 0:
		var msgs []core.Message
		for range 1 + rand.IntN(5) {
			msgs = append(msgs, core.Message{Topic: "t", Payload: []byte("x")})
		}
		return w.outbox.Enqueue(ctx, tx, msgs...)
	case 1:
		_, err := tx.ExecContext(ctx, `INSERT INTO outbox (topic, payload) SELECT 't', 'slow' FROM generate_series(1, 3), LATERAL (SELECT pg_sleep(0.002)) AS s`)
		return err
	case 2:
		prepared := tx.StmtContext(ctx, w.prepared)
		defer prepared.Close()
		_, err := prepared.ExecContext(ctx)
		return err
	case 3:
		_, err := tx.ExecContext(ctx, `DO $$ BEGIN FOR i IN 1..2 LOOP INSERT INTO outbox (topic, payload) VALUES ('t', 'plpgsql'); END LOOP; END $$`)
		return err
	case 4:
		copied, err := tx.PrepareContext(ctx, `COPY outbox (topic, payload) FROM STDIN`)
		if err != nil {
			return err
		}
		if _, err := copied.ExecContext(ctx, "t", []byte("copy")); err != nil {
			return err
		}
		if _, err := copied.ExecContext(ctx); err != nil {
			return err
		}
		return copied.Close() //nolint:sqlclosecheck // closing is what ends a COPY
	default:
		// Positions are taken, and none of their rows stays.
		_, err := tx.ExecContext(ctx, `SAVEPOINT s; INSERT INTO outbox (topic, payload) VALUES ('t', 'gone'), ('t', 'gone'); ROLLBACK TO SAVEPOINT s`)
		return err
	}
}

func (w *writers) transaction(ctx context.Context) error {
	tx, err := w.db.BeginTx(ctx, nil)
	if err != nil {
		return err
	}
	defer tx.Rollback()
	for range 1 + rand.IntN(3) {
		if err := w.insert(ctx, tx); err != nil {
			return fmt.Errorf("insert: %w", err)
		}
		time.Sleep(rand.N(8 * time.Millisecond)) // the transaction stays open
	}
	switch {
	case rand.IntN(10) == 0: // the session is killed with its positions taken
		if _, err := tx.ExecContext(ctx, `SELECT pg_terminate_backend(pg_backend_pid())`); err == nil {
			return errors.New("a session that killed itself got an answer")
		}
		return nil
	case rand.IntN(4) == 0:
		return tx.Rollback()
	case w.twoPhase && rand.IntN(4) == 0:
		return w.commitTwice(ctx, tx)
	}
	return tx.Commit()
}

// commitTwice leaves the transaction to no connection for a while.
func (w *writers) commitTwice(ctx context.Context, tx *sql.Tx) error {
	name := fmt.Sprintf("'lockstep_gaps_%d_%d'", time.Now().UnixNano(), w.serial.Add(1))
	if _, err := tx.ExecContext(ctx, "PREPARE TRANSACTION "+name); err != nil {
		return err
	}
	tx.Rollback()                             // which finds no transaction: the connection is free of it
	time.Sleep(rand.N(20 * time.Millisecond)) // it stays prepared
	// Not ctx: a prepared transaction that is forgotten holds its locks for ever.
	if rand.IntN(3) == 0 {
		_, err := w.db.ExecContext(context.WithoutCancel(ctx), "ROLLBACK PREPARED "+name)
		return err
	}
	_, err := w.db.ExecContext(context.WithoutCancel(ctx), "COMMIT PREPARED "+name)
	return err
}

func startWriters(ctx context.Context, t *testing.T, f conformance.DialectFixture, n int) (wait func()) {
	t.Helper()
	w := &writers{db: f.DB, outbox: core.NewOutbox(f.Dialect, core.OutboxConfig{})}
	var err error
	if w.prepared, err = f.DB.PrepareContext(ctx, `INSERT INTO outbox (topic, payload) VALUES ('t', 'prepared')`); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { w.prepared.Close() })
	if err := f.DB.QueryRowContext(ctx, `SELECT current_setting('max_prepared_transactions')::int >= $1`, n).Scan(&w.twoPhase); err != nil {
		t.Fatal(err)
	}
	var group sync.WaitGroup
	for range n {
		group.Go(func() {
			for ctx.Err() == nil {
				if err := w.transaction(context.WithoutCancel(ctx)); err != nil {
					t.Errorf("writer: %v", err)
					return
				}
			}
		})
	}
	return group.Wait
}

// search looks for events that a relay loses by a resolver.
func search(t *testing.T, d time.Duration, resolver dialecttest.Resolver) error {
	t.Helper()
	f := open(t, servers.PostgresSchema(t), postgres.Config{})
	execute(t, f, `CREATE TABLE every (position bigint)`,
		`CREATE FUNCTION note() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN INSERT INTO every VALUES (NEW.position); RETURN NULL; END $$`,
		`CREATE TRIGGER note AFTER INSERT ON outbox FOR EACH ROW EXECUTE FUNCTION note()`)
	return dialecttest.GapSearch{
		Outbox: f, Relay: f.Dialect, Settler: f.Dialect, Resolver: resolver, Committed: `SELECT position FROM every`,
		Start: func(ctx context.Context) (wait func()) { return startWriters(ctx, t, f, 12) },
	}.Run(t, d)
}

func TestADeadGapIsNeverFilled(t *testing.T) {
	t.Parallel()
	if err := search(t, dose.Of(t, 4*time.Second, time.Minute), dialecttest.ResolvedBy); err != nil {
		t.Error(err)
	}
}

// The test above is worth something only if it notices a resolver that does not look at the writers.
func TestThatTestNoticesAGapDeclaredDeadTooEarly(t *testing.T) {
	t.Parallel()
	err := search(t, time.Minute, func(_ context.Context, _ core.Session, gaps []core.Gap) error { // it ends with the first event that is lost
		for i := range gaps {
			gaps[i].Dead = true
		}
		return nil
	})
	if left := dialecttest.Left(0); err == nil || errors.As(err, &left) {
		t.Errorf("every gap was declared dead at once, and nothing was missed: %v", err)
	} else {
		t.Logf("result: %v", err)
	}
}

// A transaction that took no lock before a position cannot exist: the column refuses one that was taken beforehand.
func TestPositionsCannotBeTakenBeforehand(t *testing.T) {
	f := open(t, servers.PostgresSchema(t), postgres.Config{})
	_, err := f.DB.ExecContext(t.Context(), `INSERT INTO outbox (position, topic, payload) VALUES (nextval('outbox_position_seq'), 't', '')`)
	if err == nil {
		t.Error("an INSERT with a position of its own was accepted")
	}
}
