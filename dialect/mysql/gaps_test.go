package mysql_test

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/lockstep-go/lockstep/conformance"
	"github.com/lockstep-go/lockstep/core"
	"github.com/lockstep-go/lockstep/dialect/mysql"
	"github.com/lockstep-go/lockstep/internal/dialecttest"
	"github.com/lockstep-go/lockstep/internal/dose"
)

// writers insert in all the ways there are, and commit late, roll back, or do so in part, until ctx ends.
type writers struct {
	db        *sql.DB
	outbox    *core.Outbox
	retryable func(error) bool
	serial    atomic.Int64
}

// insert writes through one of the ways to INSERT.
func (w *writers) insert(ctx context.Context, tx core.Execer) error {
	execute := func(statement string) error {
		_, err := tx.ExecContext(ctx, statement)
		return err
	}
	slow := fmt.Sprintf("SLEEP(%.3f)", rand.Float64()*0.03)
	switch rand.IntN(7) {
	case 0:
		var msgs []core.Message
		for range 1 + rand.IntN(5) {
			msgs = append(msgs, core.Message{Topic: "t", Payload: []byte("x")})
		}
		return w.outbox.Enqueue(ctx, tx, msgs...)
	case 1: // positions are taken one by one, or in blocks that grow, and the statement runs on
		return execute(`INSERT INTO outbox (topic, payload) SELECT 't', ` + slow + ` FROM (SELECT 1 UNION SELECT 2 UNION SELECT 3) AS n`)
	case 2: // positions are taken together, and the rows come slowly
		if rand.IntN(8) == 0 { // by several polls, however long one takes on a busy machine
			slow = "SLEEP(0.3)"
		}
		return execute(`INSERT INTO outbox (topic, payload) VALUES ('t', ` + slow + `), ('t', ` + slow + `), ('t', ` + slow + `)`)
	case 3: // from a table, of which some positions of the last block are left over
		return execute(`INSERT INTO outbox (topic, payload) SELECT 't', n FROM numbers`)
	case 4:
		return execute(`INSERT INTO outbox (position, topic, payload) VALUES (NULL, 't', 'null'), (DEFAULT, 't', 'default')`)
	case 5: // refused after the first row
		err := execute(`INSERT INTO outbox (topic, payload) VALUES ('t', 'refused'), ('', 'no topic')`)
		switch {
		case err == nil:
			return errors.New("an event without a topic was accepted")
		case w.retryable(err):
			return err // the whole transaction is rolled back
		}
		return nil
	default: // positions are taken, and none of their rows stays
		return errors.Join(execute(`SAVEPOINT s`), execute(`INSERT INTO outbox (topic, payload) VALUES ('t', 'gone'), ('t', 'gone')`),
			execute(`ROLLBACK TO SAVEPOINT s`))
	}
}

// statements of one transaction, that goes on for a while.
func (w *writers) several(ctx context.Context, tx core.Execer) error {
	for range 1 + rand.IntN(3) {
		if err := w.insert(ctx, tx); err != nil {
			return fmt.Errorf("insert: %w", err)
		}
		time.Sleep(rand.N(30 * time.Millisecond)) // the transaction stays open
	}
	return nil
}

func (w *writers) transaction(ctx context.Context) error {
	switch rand.IntN(5) {
	case 0:
		return w.prepared(ctx)
	case 1:
		return w.killed(ctx)
	}
	tx, err := w.db.BeginTx(ctx, nil)
	if err != nil {
		return err
	}
	defer tx.Rollback()
	if err := w.several(ctx, tx); err != nil {
		return err
	}
	if rand.IntN(4) == 0 {
		return tx.Rollback()
	}
	return tx.Commit()
}

// prepared leaves a transaction to its name for a while.
func (w *writers) prepared(ctx context.Context) error {
	conn, err := w.db.Conn(ctx)
	if err != nil {
		return err
	}
	defer conn.Close()
	name := fmt.Sprintf("'lockstep_gaps_%d_%d'", time.Now().UnixNano(), w.serial.Add(1))
	execute := func(statement string) error {
		_, err := conn.ExecContext(ctx, statement)
		return err
	}
	err = execute("XA START " + name)
	if err == nil {
		err = w.outbox.Enqueue(ctx, conn, core.Message{Topic: "t"}, core.Message{Topic: "t"})
	}
	if err == nil {
		err = errors.Join(execute("XA END "+name), execute("XA PREPARE "+name))
	}
	if err != nil { // perhaps a deadlock over the positions, which innodb_autoinc_lock_mode 0 and 1 lock
		_ = conn.Raw(func(any) error { return driver.ErrBadConn }) // the connection is left in the transaction
		return err
	}
	time.Sleep(rand.N(20 * time.Millisecond)) // it stays prepared
	if rand.IntN(3) == 0 {
		return execute("XA ROLLBACK " + name)
	}
	return execute("XA COMMIT " + name)
}

// killed is a transaction whose connection an operator ends, perhaps in the middle of a statement.
func (w *writers) killed(ctx context.Context) error {
	conn, err := w.db.Conn(ctx)
	if err != nil {
		return err
	}
	defer conn.Close()
	var id int64
	if err := conn.QueryRowContext(ctx, `SELECT CONNECTION_ID()`).Scan(&id); err != nil {
		return err
	}
	tx, err := conn.BeginTx(ctx, nil)
	if err != nil {
		return err
	}
	defer tx.Rollback()
	var group sync.WaitGroup
	group.Go(func() {
		time.Sleep(rand.N(10 * time.Millisecond)) // somewhere in the transaction
		_, err = w.db.ExecContext(ctx, fmt.Sprintf(`KILL CONNECTION %d`, id))
	})
	_ = w.several(ctx, tx) // which ends when it is killed
	group.Wait()
	return err
}

func startWriters(ctx context.Context, t *testing.T, f conformance.DialectFixture, n int) (wait func()) {
	t.Helper()
	w := &writers{db: f.DB, outbox: core.NewOutbox(f.Dialect, core.OutboxConfig{}), retryable: f.Dialect.Retryable}
	var group sync.WaitGroup
	for range n {
		group.Go(func() {
			for ctx.Err() == nil {
				if err := w.transaction(context.WithoutCancel(ctx)); err != nil && !f.Dialect.Retryable(err) {
					t.Errorf("writer: %v", err)
					return
				}
			}
		})
	}
	return group.Wait
}

// search looks for events that a relay loses by a resolver.
func search(t *testing.T, f conformance.DialectFixture, relay core.Dialect, d time.Duration, resolver dialecttest.Resolver) error {
	t.Helper()
	execute(t, f, `CREATE TABLE numbers (n INT PRIMARY KEY) ENGINE=InnoDB`, `INSERT INTO numbers VALUES (1), (2), (3), (4), (5)`)
	t.Logf("innodb_autoinc_lock_mode %d", dialecttest.Count(t, f, `SELECT @@innodb_autoinc_lock_mode`))
	return dialecttest.GapSearch{
		Outbox: f, Relay: relay, Settler: f.Archiving, Resolver: resolver,
		Committed: `SELECT position FROM outbox UNION ALL SELECT position FROM outbox_archive`,
		Start:     func(ctx context.Context) (wait func()) { return startWriters(ctx, t, f, 5) },
	}.Run(t, d)
}

// Under the relay's own privileges: with PROCESS, and without.
func TestADeadGapIsNeverFilled(t *testing.T) {
	onBoth(t, func(t *testing.T, flavour flavour) {
		for name, privileges := range map[string][]string{"with PROCESS": {"PROCESS"}, "without": nil} {
			t.Run(name, func(t *testing.T) {
				t.Parallel()
				dsn := flavour.database(t)
				f := open(t, dsn, mysql.Config{})
				relay := as(t, f, dsn, relayUser, privileges...)
				if err := search(t, f, relay.Dialect, dose.Of(t, 4*time.Second, time.Minute), dialecttest.ResolvedBy); err != nil {
					t.Error(err)
				}
			})
		}
	})
}

// The test above is worth something only if it notices a resolver that asks one of the two questions alone.
func TestThatTestNoticesAGapDeclaredDeadTooEarly(t *testing.T) {
	for name, resolver := range map[string]dialecttest.Resolver{
		"at once":             mysql.ResolveAtOnce,
		"by locks alone":      mysql.ResolveByLocks,
		"by statements alone": mysql.ResolveByStatements,
	} {
		t.Run(name, func(t *testing.T) {
			onBoth(t, func(t *testing.T, flavour flavour) {
				f := open(t, flavour.database(t), mysql.Config{})
				err := search(t, f, f.Dialect, 5*time.Minute, resolver) // it ends with the first event that is lost
				if left := dialecttest.Left(0); err == nil || errors.As(err, &left) {
					t.Errorf("gaps were declared dead too early, and nothing was missed: %v", err)
				} else {
					t.Logf("result: %v", err)
				}
			})
		})
	}
}
