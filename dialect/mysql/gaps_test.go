package mysql_test

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/lockstep-go/lockstep/conformance"
	"github.com/lockstep-go/lockstep/core"
	"github.com/lockstep-go/lockstep/dialect/mysql"
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

// poller reads as core's reader does: the tail and all gaps in one fetch.
type poller struct {
	session  core.Session
	settler  core.Session
	resolve  func(ctx context.Context, s core.Session, gaps []core.Gap) error
	last     int64
	gaps     []core.Gap
	seen     map[int64]bool
	resolved map[int64]bool // positions that were declared dead, and empty in the fetch after that
}

func (p *poller) poll(ctx context.Context) error {
	request := core.FetchRequest{After: p.last, Limit: 10_000, MaxBytes: 1 << 30}
	for _, gap := range p.gaps {
		request.Gaps = append(request.Gaps, gap.Range)
	}
	result, err := p.session.Fetch(ctx, request)
	if err != nil {
		return err
	}
	var refs []core.Ref
	found := map[int64]bool{}
	for _, r := range result.Records {
		if p.resolved[r.Position] {
			return fmt.Errorf("position %d was declared dead, and is filled", r.Position)
		}
		found[r.Position], p.seen[r.Position] = true, true
		refs = append(refs, r.Ref())
	}
	p.split(found, result.Records)
	if rand.IntN(3) == 0 { // another writer on the table
		if err := p.settler.Acknowledge(ctx, refs); err != nil {
			return err
		}
	}
	return p.resolve(ctx, p.session, p.gaps)
}

// split removes from the gaps what was found and what is dead, and adds those of the tail.
func (p *poller) split(found map[int64]bool, records []core.Record) {
	var gaps []core.Gap
	for _, gap := range p.gaps {
		if gap.Dead {
			for position := gap.First; position <= gap.Last; position++ {
				p.resolved[position] = !found[position]
			}
			continue
		}
		for position := gap.First; position <= gap.Last; position++ {
			if !found[position] {
				gaps = append(gaps, core.Gap{Range: core.Range{First: position, Last: position}, Witness: gap.Witness})
			}
		}
	}
	for _, r := range records {
		if r.Position > p.last {
			if r.Position > p.last+1 {
				gaps = append(gaps, core.Gap{Range: core.Range{First: p.last + 1, Last: r.Position - 1}})
			}
			p.last = r.Position
		}
	}
	p.gaps = slices.Clip(gaps)
}

// violations runs writers and a poller beside them, and returns what the poller missed.
func violations(t *testing.T, f conformance.DialectFixture, relay conformance.DialectFixture, d time.Duration, resolve func(context.Context, core.Session, []core.Gap) error) error {
	t.Helper()
	execute(t, f, `CREATE TABLE numbers (n INT PRIMARY KEY) ENGINE=InnoDB`, `INSERT INTO numbers VALUES (1), (2), (3), (4), (5)`)
	p := &poller{resolve: resolve, seen: map[int64]bool{}, resolved: map[int64]bool{}}
	p.session, p.settler = openSession(t, relay), openSession(t, conformance.DialectFixture{Dialect: f.Archiving})
	ctx, stop := context.WithTimeout(t.Context(), d)
	defer stop()
	wait := startWriters(ctx, t, f, 5)
	var missed error
	polls, most := 0, 0
	for ctx.Err() == nil && missed == nil {
		missed = p.poll(t.Context())
		polls, most = polls+1, max(most, len(p.gaps))
	}
	stop()
	wait()
	for range 3 { // the writers are gone: what is still a gap dies, and what they committed last is read
		missed = errors.Join(missed, p.poll(t.Context()))
	}
	var mode int
	if err := f.DB.QueryRowContext(t.Context(), `SELECT @@innodb_autoinc_lock_mode`).Scan(&mode); err != nil {
		t.Fatal(err)
	}
	t.Logf("innodb_autoinc_lock_mode %d: %d polls, %d events, %d dead positions, at most %d gaps at once, %d left",
		mode, polls, len(p.seen), len(p.resolved), most, len(p.gaps))
	if len(p.gaps) > 0 && missed == nil {
		missed = fmt.Errorf("%d gaps are left, and nobody can fill them", len(p.gaps))
	}
	return errors.Join(missed, p.compare(t, f))
}

// compare looks for events that were committed and not seen.
func (p *poller) compare(t *testing.T, f conformance.DialectFixture) error {
	rows, err := f.DB.QueryContext(t.Context(), `SELECT position FROM outbox UNION ALL SELECT position FROM outbox_archive`)
	if err != nil {
		t.Fatal(err)
	}
	defer rows.Close()
	n := 0
	for rows.Next() {
		var position int64
		if err := rows.Scan(&position); err != nil {
			t.Fatal(err)
		}
		if n++; !p.seen[position] {
			return fmt.Errorf("position %d was committed and never fetched (declared dead: %v)", position, p.resolved[position])
		}
	}
	if n != len(p.seen) {
		return fmt.Errorf("%d events were committed and %d fetched", n, len(p.seen))
	}
	return rows.Err()
}

// Under the relay's own privileges: with PROCESS, and without.
func TestADeadGapIsNeverFilled(t *testing.T) {
	resolve := func(ctx context.Context, s core.Session, gaps []core.Gap) error { return s.ResolveGaps(ctx, gaps) }
	onBoth(t, func(t *testing.T, flavour flavour) {
		for name, privileges := range map[string][]string{"with PROCESS": {"PROCESS"}, "without": nil} {
			t.Run(name, func(t *testing.T) {
				dsn := flavour.database(t)
				f := open(t, dsn, mysql.Config{})
				relay := as(t, f, dsn, relayUser, privileges...)
				if err := violations(t, f, relay, dose.Of(t, 4*time.Second, time.Minute), resolve); err != nil {
					t.Error(err)
				}
			})
		}
	})
}

// The test above is worth something only if it notices a resolver that asks one of the two questions alone.
func TestThatTestNoticesAGapDeclaredDeadTooEarly(t *testing.T) {
	for name, resolve := range map[string]func(context.Context, core.Session, []core.Gap) error{
		"at once":             mysql.ResolveAtOnce,
		"by locks alone":      mysql.ResolveByLocks,
		"by statements alone": mysql.ResolveByStatements,
	} {
		t.Run(name, func(t *testing.T) {
			onBoth(t, func(t *testing.T, flavour flavour) {
				f := open(t, flavour.database(t), mysql.Config{})
				if err := violations(t, f, f, dose.Of(t, 15*time.Second, time.Minute), resolve); err == nil || strings.Contains(err.Error(), "are left") {
					t.Error("gaps were declared dead too early, and nothing was missed")
				}
			})
		})
	}
}
