package postgres_test

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/lockstep-go/lockstep/conformance"
	"github.com/lockstep-go/lockstep/core"
	"github.com/lockstep-go/lockstep/dialect/postgres"
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
func violations(t *testing.T, d time.Duration, resolve func(context.Context, core.Session, []core.Gap) error) error {
	t.Helper()
	f := open(t, servers.PostgresSchema(t), postgres.Config{})
	execute(t, f, `CREATE TABLE every (position bigint)`,
		`CREATE FUNCTION note() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN INSERT INTO every VALUES (NEW.position); RETURN NULL; END $$`,
		`CREATE TRIGGER note AFTER INSERT ON outbox FOR EACH ROW EXECUTE FUNCTION note()`)
	p := &poller{resolve: resolve, seen: map[int64]bool{}, resolved: map[int64]bool{}}
	for _, s := range []*core.Session{&p.session, &p.settler} {
		var err error
		if *s, err = f.Dialect.Open(t.Context()); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { (*s).Close() })
	}
	ctx, stop := context.WithTimeout(t.Context(), d)
	defer stop()
	wait := startWriters(ctx, t, f, 12)
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
	t.Logf("%d polls, %d events, %d dead positions, at most %d gaps at once, %d left", polls, len(p.seen), len(p.resolved), most, len(p.gaps))
	return errors.Join(missed, p.compare(t, f))
}

// compare looks for events that were committed and not seen.
func (p *poller) compare(t *testing.T, f conformance.DialectFixture) error {
	rows, err := f.DB.QueryContext(t.Context(), `SELECT position FROM every`)
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

func TestADeadGapIsNeverFilled(t *testing.T) {
	t.Parallel()
	err := violations(t, 4*time.Second, func(ctx context.Context, s core.Session, gaps []core.Gap) error {
		return s.ResolveGaps(ctx, gaps)
	})
	if err != nil {
		t.Error(err)
	}
}

// The test above is worth something only if it notices a resolver that does not look at the writers.
func TestThatTestNoticesAGapDeclaredDeadTooEarly(t *testing.T) {
	t.Parallel()
	err := violations(t, 4*time.Second, func(_ context.Context, _ core.Session, gaps []core.Gap) error {
		for i := range gaps {
			gaps[i].Dead = true
		}
		return nil
	})
	if err == nil {
		t.Error("every gap was declared dead at once, and nothing was missed")
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
