package mysql_test

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
	"github.com/lockstep-go/lockstep/dialect/mysql"
	"github.com/lockstep-go/lockstep/internal/dialecttest"
	"github.com/lockstep-go/lockstep/internal/dose"
)

// status is a number that the server counts for all connections.
func status(t *testing.T, db *sql.DB, name string) (n int64) {
	t.Helper()
	if err := db.QueryRowContext(t.Context(), `SHOW GLOBAL STATUS LIKE '`+name+`'`).Scan(new(string), &n); err != nil {
		t.Fatal(err)
	}
	return n
}

// Producers update rows of their own and enqueue, some of it for later, under the server's usual isolation, while relays
// deliver, note failures, bury and promote. Nobody waits for a row, and nobody deadlocks.
func TestProducersWaitForNobody(t *testing.T) {
	const producers, relays = 6, 4
	onBoth(t, func(t *testing.T, flavour flavour) {
		f := open(t, flavour.database(t), mysql.Config{})
		execute(t, f, `CREATE TABLE business (id INT PRIMARY KEY, n INT NOT NULL) ENGINE=InnoDB`)
		broker := &conformance.Recorder{}
		broker.Inject(func(call conformance.PublishCall) (fault conformance.PublishFault) {
			fault.Fates = make([]conformance.Fate, len(call.Messages))
			for i := range call.Messages {
				if rand.IntN(200) == 0 {
					fault.Fates[i].Err = errors.New("refused")
				}
			}
			return fault
		})
		// One that lost its lease, on a machine that stood still, would settle beside the next, and they wait for each other.
		config := core.RelayConfig{LeaseTTL: time.Minute, PollInterval: 10 * time.Millisecond, Failures: core.FailurePolicy{FirstDelay: time.Millisecond, MaxAttempts: 2}}
		for range relays {
			started(t, f.Dialect, broker, config)
		}
		enqueued(t, f, core.Message{ID: "first", Topic: "t"})
		eventually(t, "a relay takes the lease", func() bool { return len(broker.Stored()) > 0 })

		before := status(t, f.DB, "Innodb_row_lock_waits")
		ctx, stop := context.WithTimeout(t.Context(), dose.Of(t, 3*time.Second, 30*time.Second))
		defer stop()
		var group sync.WaitGroup
		var committed atomic.Int64
		for i := range producers {
			execute(t, f, fmt.Sprintf(`INSERT INTO business VALUES (%d, 0)`, i))
			group.Go(func() {
				for ctx.Err() == nil {
					if err := produce(context.WithoutCancel(ctx), f, i); err != nil {
						t.Errorf("producer %d: %v", i, err)
						return
					}
					committed.Add(1)
				}
			})
		}
		group.Wait()
		waits := status(t, f.DB, "Innodb_row_lock_waits") - before
		t.Logf("result: %d transactions, %d deliveries, %d waits for a row", committed.Load(), len(broker.Stored()), waits)
		if waits > 0 {
			t.Errorf("there were %d waits for a row, want none", waits)
		}
	})
}

func produce(ctx context.Context, f conformance.DialectFixture, i int) error {
	tx, err := f.DB.BeginTx(ctx, nil)
	if err != nil {
		return err
	}
	defer tx.Rollback()
	if _, err := tx.ExecContext(ctx, `UPDATE business SET n = n + 1 WHERE id = ?`, i); err != nil {
		return err
	}
	var msgs []core.Message
	for range 1 + rand.IntN(3) {
		m := core.Message{Topic: "t", Key: fmt.Sprint(i, rand.IntN(20)), Payload: []byte("x")}
		if rand.IntN(10) == 0 {
			m.NotBefore = time.Now().Add(rand.N(100 * time.Millisecond))
		}
		msgs = append(msgs, m)
	}
	if err := core.NewOutbox(f.Dialect, core.OutboxConfig{}).Enqueue(ctx, tx, msgs...); err != nil {
		return err
	}
	return tx.Commit()
}

func eventually(t *testing.T, what string, done func() bool) {
	t.Helper()
	dialecttest.Eventually(t, what, func() (bool, error) { return done(), nil })
}

// The rows next to those that a call is about belong to a transaction that stays open, and the table is small: nothing is read
// that is not meant. (DELETE … WHERE position IN (…) reads it all, and waits.)
func TestNoCallReadsItsNeighboursRows(t *testing.T) {
	const n = 5
	onBoth(t, func(t *testing.T, flavour flavour) {
		f := open(t, flavour.database(t), mysql.Config{})
		outbox := core.NewOutbox(f.Dialect, core.OutboxConfig{})
		var refs []core.Ref
		var failures []core.Failure
		var burials []core.Burial
		for i := range int64(n) {
			ref := core.Ref{Position: i + 1, ID: fmt.Sprint(i)}
			enqueued(t, f, core.Message{ID: ref.ID, Topic: "t"})
			enqueued(t, f, core.Message{ID: ref.ID, Topic: "t", NotBefore: time.Now().Add(-time.Hour)})
			refs, failures = append(refs, ref), append(failures, core.Failure{Ref: ref, Attempts: 1})
			burials = append(burials, core.Burial{Ref: ref, Attempts: 2, Skip: true})
		}
		tx, err := f.DB.BeginTx(t.Context(), nil)
		if err != nil {
			t.Fatal(err)
		}
		defer tx.Rollback()
		open := []core.Message{{Topic: "t"}, {Topic: "t", NotBefore: time.Now().Add(-time.Hour)}}
		if err := outbox.Enqueue(t.Context(), tx, open...); err != nil {
			t.Fatal(err)
		}
		s := openSession(t, f)
		archiving := openSession(t, conformance.DialectFixture{Dialect: f.Archiving})
		before := status(t, f.DB, "Innodb_row_lock_waits")
		for name, call := range map[string]func() error{
			"Fail":    func() error { return s.Fail(t.Context(), failures) },
			"Promote": func() error { _, err := s.Promote(t.Context(), 0, n); return err },
			"Bury, RetryDead, archive": func() error {
				_, err := s.RetryDead(t.Context(), core.DeadFilter{}, n)
				return errors.Join(s.Bury(t.Context(), burials), err, archiving.Acknowledge(t.Context(), refs[:2]), s.Acknowledge(t.Context(), refs))
			},
			"ResolveGaps": func() error { return s.ResolveGaps(t.Context(), []core.Gap{{Range: core.Range{First: 1, Last: n}}}) },
		} {
			if err := call(); err != nil {
				t.Errorf("%s: %v", name, err)
			}
			if waits := status(t, f.DB, "Innodb_row_lock_waits") - before; waits > 0 {
				t.Fatalf("%s waited %d times", name, waits)
			}
		}
	})
}

// A relay that stops dead in the middle of what it does holds up no application.
func TestAFrozenRelayHoldsNobodyUp(t *testing.T) {
	onBoth(t, func(t *testing.T, flavour flavour) {
		direct := flavour.database(t)
		f := open(t, direct, mysql.Config{})
		rounds := dose.Of(t, 10, 200)
		for i := range rounds {
			fill(t, f, 100, 100, "x")
			dsn, proxy := through(t, direct)
			s := openSession(t, conformance.DialectFixture{Dialect: dialect(t, dsn, mysql.Config{Archive: []string{"*"}})})
			var refs []core.Ref
			var burials []core.Burial
			for j, r := range fetchAll(t, s).Records {
				if j%2 == 0 {
					refs = append(refs, r.Ref())
				} else {
					burials = append(burials, core.Burial{Ref: r.Ref(), Attempts: 1, Cause: "c", Skip: true})
				}
			}
			ctx, cancel := context.WithCancel(t.Context())
			ended := make(chan error, 1)
			go func() { ended <- errors.Join(s.Acknowledge(ctx, refs), s.Bury(ctx, burials)) }()
			time.Sleep(rand.N(8 * time.Millisecond)) // anywhere in them
			proxy.Freeze()
			insert, done := context.WithTimeout(t.Context(), 20*time.Second)
			if _, err := f.DB.ExecContext(insert, `INSERT INTO outbox (topic, payload) VALUES ('t', 'beside')`); err != nil {
				t.Errorf("round %d: an application beside a frozen relay: %v", i, err)
			}
			done()
			cancel()
			<-ended //nolint:errcheck // of a relay that froze
			eventually(t, "the server has done what it was sent, or given it up", func() bool {
				_, err := f.DB.ExecContext(t.Context(), `DELETE FROM outbox`)
				return err == nil
			})
			execute(t, f, `DELETE FROM outbox_dead`, `DELETE FROM outbox_archive`)
		}
		t.Logf("result: frozen %d times", rounds)
	})
}

// An old snapshot keeps the server from removing what was delivered. A poll must not read it, nor a drain.
func TestPollsBesideAnOldSnapshot(t *testing.T) {
	const rate = 2000 // events a second
	length, backlog := dose.Of(t, 4*time.Second, 2*time.Minute), dose.Of(t, 2000, 50_000)
	onBoth(t, func(t *testing.T, flavour flavour) {
		f := open(t, flavour.database(t), mysql.Config{})
		execute(t, f, `CREATE TABLE numbers (n INT PRIMARY KEY) ENGINE=InnoDB`, `INSERT INTO numbers WITH RECURSIVE n (i) AS
(SELECT 0 UNION ALL SELECT i + 1 FROM n WHERE i < 999) SELECT i FROM n`)
		s := openSession(t, f)
		cursor := drainOnce(t, f, s, 0, backlog).cursor // the server warms up
		usual := drain(t, f, s, cursor, backlog)
		held, err := f.DB.BeginTx(t.Context(), &sql.TxOptions{Isolation: sql.LevelRepeatableRead})
		if err != nil {
			t.Fatal(err)
		}
		defer held.Rollback()
		if err := held.QueryRowContext(t.Context(), `SELECT COUNT(*) FROM outbox`).Scan(new(int)); err != nil {
			t.Fatal(err)
		}
		cursor = drainOnce(t, f, s, usual.cursor, rate).cursor // by now the tree has more than its root, and will keep it
		first, firstTook := pages(t, f, s, cursor)
		begun, events := time.Now(), 0
		for tick := time.NewTicker(100 * time.Millisecond); time.Since(begun) < length; <-tick.C {
			due := int(time.Since(begun).Seconds()*rate) - events
			insert(t, f, due)
			events, cursor = events+due, deliver(t, s, cursor)
		}
		took := time.Since(begun)
		last, lastTook := pages(t, f, s, cursor)
		beside := drain(t, f, s, cursor, backlog)
		all, _ := pages(t, f, s, 0)
		t.Logf("result: %d events at %.0f a second under a held snapshot: a poll read %d pages in %v at first, %d in %v at last, and from the beginning "+
			"it would be %d; a drain of %d read %.1f pages an event in %v before, %.1f in %v beside it (rate × %.2f)", events,
			float64(events)/took.Seconds(), first, firstTook, last, lastTook, all, backlog,
			usual.pages, usual.took, beside.pages, beside.took, usual.took.Seconds()/beside.took.Seconds())
		if last > 2*first {
			t.Errorf("a poll read %d pages at first and %d at last, want at most twice as many", first, last)
		}
		if beside.pages > 1.5*usual.pages {
			t.Errorf("a drain read %.1f pages an event before, and %.1f beside the snapshot, want half as many more at most", usual.pages, beside.pages)
		}
		if all < 5*last {
			t.Errorf("a poll from the beginning reads %d pages: the server has removed what was delivered, and the test shows nothing", all)
		}
		held.Rollback()
		logRates(t, f, s, beside.cursor, events, backlog, dose.Of(t, 0, 3))
	})
}

// logRates drains a backlog without a snapshot and then beside one that has kept so many delivered events, in turns, and says at which
// share of the usual rate.
func logRates(t *testing.T, f conformance.DialectFixture, s core.Session, cursor int64, kept, backlog, rounds int) {
	t.Helper()
	const history = `SELECT COUNT FROM information_schema.INNODB_METRICS WHERE NAME = 'trx_rseg_history_len'`
	var shares []float64
	for range rounds {
		// The server takes minutes to remove what was delivered, on a busy machine, and its work would count as the drain's.
		for tick := time.NewTicker(100 * time.Millisecond); dialecttest.Count(t, f, history) >= 100; {
			<-tick.C
		}
		usual := drainOnce(t, f, s, cursor, backlog)
		held, err := f.DB.BeginTx(t.Context(), &sql.TxOptions{Isolation: sql.LevelRepeatableRead})
		if err != nil {
			t.Fatal(err)
		}
		if err := held.QueryRowContext(t.Context(), `SELECT COUNT(*) FROM outbox`).Scan(new(int)); err != nil {
			t.Fatal(err)
		}
		cursor = drainOnce(t, f, s, usual.cursor, kept).cursor
		beside := drainOnce(t, f, s, cursor, backlog)
		held.Rollback()
		cursor = beside.cursor
		shares = append(shares, usual.took.Seconds()/beside.took.Seconds())
		t.Logf("%d events drained in %v usually, in %v beside a snapshot that keeps %d", backlog, usual.took, beside.took, kept)
	}
	if rounds > 0 {
		slices.Sort(shares)
		t.Logf("result: %d rounds: drained at %.2f of the usual rate (median), %.2f to %.2f", rounds, shares[rounds/2], shares[0], shares[rounds-1])
	}
}

// What was delivered and kept, and what is dead, costs a poll nothing.
func TestPollsDoNotSeeTheHistory(t *testing.T) {
	rows := dose.Of(t, 10_000, 300_000)
	onBoth(t, func(t *testing.T, flavour flavour) {
		f := open(t, flavour.database(t), mysql.Config{})
		s := openSession(t, f)
		enqueued(t, f, core.Message{ID: "a", Topic: "t"})
		before, _ := pages(t, f, s, 0)
		const numbered = "WITH RECURSIVE n (i) AS (SELECT 0 UNION ALL SELECT i + 1 FROM n WHERE i < 999) SELECT 1000 * a.i + b.i + 1000, 1000 * a.i + b.i, " +
			"'t', 'k', '{}', REPEAT('x', 300), UTC_TIMESTAMP(), 1%s FROM n AS a, n AS b WHERE 1000 * a.i + b.i < %d"
		execute(t, f,
			"INSERT INTO outbox_archive (position, id, topic, `key`, headers, payload, created_at, attempts) "+fmt.Sprintf(numbered, "", rows),
			"INSERT INTO outbox_dead (position, id, topic, `key`, headers, payload, created_at, attempts, cause) "+fmt.Sprintf(numbered, ", 'c'", rows))
		after, _ := pages(t, f, s, 0)
		t.Logf("result: a poll reads %d pages, and %d beside an archive of %d and as many dead letters", before, after, rows)
		if after > 2*before {
			t.Errorf("a poll reads %d pages, and %d beside what is kept", before, after)
		}
		if got := fetchAll(t, s).Records; len(got) != 1 {
			t.Errorf("Fetch: got %d events, want 1", len(got))
		}
	})
}

// insert commits n events.
func insert(t *testing.T, f conformance.DialectFixture, n int) {
	t.Helper()
	for ; n > 0; n -= 1000 {
		execute(t, f, fmt.Sprintf("INSERT INTO outbox (topic, `key`, payload) SELECT 't', n, REPEAT('x', 300) FROM numbers WHERE n < %d", n))
	}
}

// drained is what it took to deliver a backlog.
type drained struct {
	cursor int64
	took   time.Duration
	pages  float64 // for each event
}

// drain drains a few times, and returns what the fastest took: the machine does other things as well.
func drain(t *testing.T, f conformance.DialectFixture, s core.Session, cursor int64, n int) drained {
	t.Helper()
	best := drainOnce(t, f, s, cursor, n)
	for range dose.Of(t, 0, 4) {
		next := drainOnce(t, f, s, best.cursor, n)
		if next.took > best.took {
			best.cursor = next.cursor
			continue
		}
		best = next
	}
	return best
}

// drainOnce enqueues n events, and delivers what comes after cursor as a relay does: fetched and acknowledged 500 at a time.
func drainOnce(t *testing.T, f conformance.DialectFixture, s core.Session, cursor int64, n int) drained {
	t.Helper()
	insert(t, f, n)
	before, begun := status(t, f.DB, "Innodb_buffer_pool_read_requests"), time.Now()
	cursor = deliver(t, s, cursor)
	took := time.Since(begun)
	read := status(t, f.DB, "Innodb_buffer_pool_read_requests") - before
	return drained{cursor, took.Round(time.Millisecond), float64(read) / float64(n)}
}

// deliver fetches and acknowledges what comes after cursor, and returns where it ends.
func deliver(t *testing.T, s core.Session, cursor int64) int64 {
	t.Helper()
	for more := true; more; {
		result, err := s.Fetch(t.Context(), core.FetchRequest{After: cursor, Limit: 500, MaxBytes: 4 << 20})
		if err != nil {
			t.Fatal(err)
		}
		var refs []core.Ref
		for _, r := range result.Records {
			refs, cursor = append(refs, r.Ref()), r.Position
		}
		if err := s.Acknowledge(t.Context(), refs); err != nil {
			t.Fatal(err)
		}
		more = result.More
	}
	return cursor
}

// pages is how many pages a poll reads, and how long it takes, of the least of several: the server reads some on its own account.
func pages(t *testing.T, f conformance.DialectFixture, s core.Session, after int64) (least int64, fastest time.Duration) {
	t.Helper()
	least, fastest = 1<<62, time.Hour
	for range 20 {
		before, begun := status(t, f.DB, "Innodb_buffer_pool_read_requests"), time.Now()
		if _, err := s.Fetch(t.Context(), core.FetchRequest{After: after, Limit: 500, MaxBytes: 4 << 20}); err != nil {
			t.Fatal(err)
		}
		fastest = min(fastest, time.Since(begun))
		least = min(least, status(t, f.DB, "Innodb_buffer_pool_read_requests")-before)
	}
	return least, fastest.Round(time.Microsecond)
}
