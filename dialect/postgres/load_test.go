package postgres_test

import (
	"context"
	"database/sql"
	"fmt"
	"net/url"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/lockstep-go/lockstep/conformance"
	"github.com/lockstep-go/lockstep/core"
	"github.com/lockstep-go/lockstep/dialect/postgres"
	"github.com/lockstep-go/lockstep/internal/dose"
	"github.com/lockstep-go/lockstep/internal/servers"
)

// producers commit events, each with a row of its own, over connections that wait for no lock until somebody's transaction ends:
// whoever makes a file longer is waited for, and may stand still with the machine. They end with ctx.
func producers(ctx context.Context, t *testing.T, f conformance.DialectFixture, dsn string, n int) (committed *atomic.Int64, wait func()) {
	t.Helper()
	db := pool(t, with(t, with(t, dsn, "lock_timeout", "10s"), "application_name", "producer"))
	execute(t, f, `CREATE TABLE business (id integer PRIMARY KEY, n integer)`, `INSERT INTO business SELECT i, 0 FROM generate_series(1, 100) AS i`)
	outbox := core.NewOutbox(f.Dialect, core.OutboxConfig{})
	committed = &atomic.Int64{}
	var group sync.WaitGroup
	for p := range n {
		group.Go(func() {
			for ctx.Err() == nil {
				err := outbox.InTx(context.WithoutCancel(ctx), db, core.InTxOptions{}, func(ctx context.Context, tx *sql.Tx) ([]core.Message, error) {
					_, err := tx.ExecContext(ctx, `UPDATE business SET n = n + 1 WHERE id = $1`, p+1)
					return []core.Message{{Topic: "t", Key: fmt.Sprint(p)}}, err
				})
				if err != nil {
					t.Errorf("producer: %v", err)
					return
				}
				committed.Add(1)
			}
		})
	}
	return committed, group.Wait
}

// waits are the waits for locks that concern the outbox's tables, the lease aside. Whoever makes a file longer waits for
// that, and for nobody's transaction.
const waits = `SELECT coalesce(string_agg(a.query || ' waits for ' || l.locktype || ' of ' || coalesce(l.relation::regclass::text, '-'), '; '), '')
FROM pg_locks AS l JOIN pg_stat_activity AS a USING (pid)
WHERE NOT l.granted AND l.locktype <> 'extend' AND a.query LIKE '%{schema}outbox%' AND a.query NOT LIKE '%outbox_lease"%'`

// Four relays on one outbox, one at work, while six producers commit: no producer fails, and nobody waits for a lock.
func TestProducersAndRelaysWaitForNobody(t *testing.T) {
	t.Parallel()
	length := dose.Of(t, 3*time.Second, 30*time.Second)
	dsn := servers.PostgresSchema(t)
	f := open(t, dsn, postgres.Config{Schema: schemaOf(t, dsn)})
	var broker conformance.Recorder
	for range 4 {
		// One that lost its lease, on a machine that stood still, would acknowledge beside the next, and they wait for each other.
		started(t, f.Dialect, &broker, core.RelayConfig{LeaseTTL: time.Minute})
	}
	ctx, cancel := context.WithTimeout(t.Context(), length)
	defer cancel()
	committed, wait := producers(ctx, t, f, dsn, 6)
	looks := 0
	query := strings.Replace(waits, "{schema}", `"`+schemaOf(t, dsn)+`"."`, 1)
	for ; ctx.Err() == nil; looks++ {
		var waiting string
		if err := f.DB.QueryRowContext(t.Context(), query).Scan(&waiting); err != nil {
			t.Fatal(err)
		}
		if waiting != "" {
			t.Errorf("look %d: %s", looks, waiting)
		}
		time.Sleep(5 * time.Millisecond) // between two looks
	}
	wait()
	eventually(t, "everything is delivered", func() (bool, error) {
		return int64(len(broker.Stored())) >= committed.Load(), nil
	})
	t.Logf("result: %d transactions, and %d looks for somebody who waits", committed.Load(), looks)
}

func schemaOf(t *testing.T, dsn string) string {
	t.Helper()
	var schema string
	if err := pool(t, dsn).QueryRowContext(t.Context(), `SELECT current_schema`).Scan(&schema); err != nil {
		t.Fatal(err)
	}
	return schema
}

// A relay that stops in the middle of a batch, its connection silent, holds nothing that an application waits for.
func TestAFrozenRelayDelaysNoInsert(t *testing.T) {
	t.Parallel()
	direct := servers.PostgresSchema(t)
	f := open(t, direct, postgres.Config{})
	dsn, proxy := through(t, direct)
	publishing, release := make(chan struct{}, 1000), make(chan struct{})
	var broker conformance.Recorder
	broker.Inject(func(conformance.PublishCall) conformance.PublishFault {
		publishing <- struct{}{}
		<-release
		return conformance.PublishFault{}
	})
	execute(t, f, `INSERT INTO outbox (topic, key, payload) SELECT 't', i, '' FROM generate_series(1, 1000) AS i`)
	stop := started(t, dialect(t, dsn, postgres.Config{}), &broker, core.RelayConfig{})
	<-publishing
	proxy.Freeze()
	impatient := pool(t, with(t, direct, "lock_timeout", "100ms"))
	for range 100 {
		if _, err := impatient.ExecContext(t.Context(), `INSERT INTO outbox (topic, key, payload) VALUES ('t', '1', '')`); err != nil {
			t.Fatalf("an INSERT beside a frozen relay: %v", err)
		}
	}
	close(release)
	proxy.Thaw()
	eventually(t, "everything is delivered, whether or not its term was over by then", func() (done bool, err error) {
		err = f.DB.QueryRowContext(t.Context(), `SELECT NOT EXISTS (SELECT FROM outbox)`).Scan(&done)
		return done, err
	})
	stop()
}

// A transaction that was opened long ago keeps every dead row: a poll must cost what it cost before. What a drain takes is
// logged, not asserted: in turns with one in another database, of which the transaction keeps nothing.
func TestAHeldSnapshotCostsNoPoll(t *testing.T) {
	t.Parallel()
	const rate = 2000 // events a second
	length, backlog := dose.Of(t, 4*time.Second, 2*time.Minute), dose.Of(t, 5_000, 50_000)
	f, other := open(t, servers.PostgresSchema(t), postgres.Config{}), open(t, newDatabase(t), postgres.Config{})
	for _, f := range []conformance.DialectFixture{f, other} {
		started(t, f.Dialect, &conformance.Recorder{}, core.RelayConfig{})
		drain(t, f, backlog) // the server warms up
	}
	held, err := f.DB.BeginTx(t.Context(), &sql.TxOptions{Isolation: sql.LevelRepeatableRead})
	if err != nil {
		t.Fatal(err)
	}
	defer held.Rollback()
	if _, err := held.ExecContext(t.Context(), `SELECT count(*) FROM outbox`); err != nil {
		t.Fatal(err)
	}
	straggler, err := f.DB.BeginTx(t.Context(), nil) // its position comes before all that follow, and it commits behind them
	if err != nil {
		t.Fatal(err)
	}
	defer straggler.Rollback()
	var late int64
	if err := straggler.QueryRowContext(t.Context(), `INSERT INTO outbox (topic, payload) VALUES ('t', '') RETURNING position`).Scan(&late); err != nil {
		t.Fatal(err)
	}
	before, ms := pollCost(t, f, tailOf(t, f))
	tick, n, begun := time.NewTicker(100*time.Millisecond), 0, time.Now()
	defer tick.Stop()
	for ; time.Since(begun) < length; <-tick.C {
		due := int(time.Since(begun).Seconds()*rate) - n
		execute(t, f, fmt.Sprintf(`INSERT INTO outbox (topic, key, payload) SELECT 't', i, repeat('x', 300)::bytea FROM generate_series(1, %d) AS i`, due))
		n += due
	}
	reached := float64(n) / time.Since(begun).Seconds()
	after, msAfter := pollCost(t, f, tailOf(t, f))
	t.Logf("result: %d events at %.0f a second under a held snapshot: %d pages and %.2f ms a poll before, %d and %.2f after", n, reached, before, ms, after, msAfter)
	begun = time.Now()
	if err := straggler.Commit(); err != nil {
		t.Fatal(err)
	}
	eventually(t, "a straggler is delivered", func() (gone bool, err error) {
		err = f.DB.QueryRowContext(t.Context(), `SELECT NOT EXISTS (SELECT FROM outbox WHERE position = $1)`, late).Scan(&gone)
		return gone, err
	})
	t.Logf("result: a straggler was delivered %v after its COMMIT", time.Since(begun).Round(time.Millisecond))
	logRates(t, f, other, backlog, dose.Of(t, 1, 9))
	all, _ := pollCost(t, f, 0)
	if after > 2*before {
		t.Errorf("a poll reads %d pages after %d events under a held snapshot, and %d before", after, n, before)
	}
	if all < 5*after {
		t.Errorf("a poll from the beginning reads %d pages: the server has removed what was delivered, and the test shows nothing", all)
	}
}

// What was delivered and kept, and what is dead, costs a poll nothing.
func TestPollsDoNotSeeTheHistory(t *testing.T) {
	t.Parallel()
	rows := dose.Of(t, 10_000, 300_000)
	f := open(t, servers.PostgresSchema(t), postgres.Config{})
	enqueued(t, f, core.Message{ID: "a", Topic: "t"})
	before, _ := pollCost(t, f, 0)
	execute(t, f,
		fmt.Sprintf(`INSERT INTO outbox_archive (position, id, topic, key, headers, payload, created_at, attempts)
SELECT i, i, 't', i, '{}', repeat('x', 300)::bytea, now(), 0 FROM generate_series(1000, %d) AS i`, 999+rows),
		fmt.Sprintf(`INSERT INTO outbox_dead (position, id, topic, key, headers, payload, created_at, attempts, cause)
SELECT i, i, 't', '', '{}', repeat('x', 300)::bytea, now(), 1, 'c' FROM generate_series(1000, %d) AS i`, 999+rows))
	after, _ := pollCost(t, f, 0)
	t.Logf("result: a poll reads %d pages, and %d beside an archive of %d and as many dead letters", before, after, rows)
	if after != before {
		t.Errorf("a poll reads %d pages, and %d beside what is kept", before, after)
	}
	fetchOne(t, openSession(t, f), "a")
}

// newDatabase returns the address of a database that ends with the test.
func newDatabase(t *testing.T) string {
	t.Helper()
	u, err := url.Parse(servers.PostgresSchema(t))
	if err != nil {
		t.Fatal("the server's address cannot be parsed")
	}
	db, query := pool(t, u.String()), u.Query()
	name := query.Get("search_path")
	if _, err := db.ExecContext(t.Context(), `CREATE DATABASE `+name); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if _, err := db.ExecContext(context.Background(), `DROP DATABASE `+name+` WITH (FORCE)`); err != nil {
			t.Error(err)
		}
	})
	query.Del("search_path")
	u.Path, u.RawQuery = "/"+name, query.Encode()
	return u.String()
}

// logRates drains both in turns, so many times, and says at which share of usual's rate beside was drained.
func logRates(t *testing.T, beside, usual conformance.DialectFixture, backlog, rounds int) {
	t.Helper()
	var shares []float64
	for round := range rounds {
		took := map[bool]time.Duration{}
		for _, isBeside := range []bool{round%2 == 0, round%2 != 0} { // neither always comes behind the other
			f := usual
			if isBeside {
				f = beside
			}
			took[isBeside] = drain(t, f, backlog)
		}
		shares = append(shares, took[false].Seconds()/took[true].Seconds())
		t.Logf("%d events drained in %v usually, in %v beside it", backlog, took[false].Round(time.Millisecond), took[true].Round(time.Millisecond))
	}
	slices.Sort(shares)
	t.Logf("result: %d rounds: drained at %.2f of the usual rate (median), %.2f to %.2f", rounds, shares[rounds/2], shares[0], shares[rounds-1])
}

// tailOf is the last position that was taken.
func tailOf(t *testing.T, f conformance.DialectFixture) (last int64) {
	t.Helper()
	if err := f.DB.QueryRowContext(t.Context(), `SELECT last_value FROM outbox_position_seq`).Scan(&last); err != nil {
		t.Fatal(err)
	}
	return last
}

// pollCost is that of the cheapest of a few polls, in pages and milliseconds.
func pollCost(t *testing.T, f conformance.DialectFixture, position int64) (pages int, ms float64) {
	t.Helper()
	request := core.FetchRequest{After: position, Limit: 2000, MaxBytes: 4 << 20}
	statement := postgres.ExplainFetch(f.Dialect.(*postgres.Dialect), request)[0]
	for i := range 5 {
		root, took := explain(t, f, statement)
		if n := root.Hit + root.Read; i == 0 || n < pages {
			pages = n
		}
		if i == 0 || took < ms {
			ms = took
		}
	}
	return pages, ms
}

// drain enqueues n events and waits until the relay has removed the last of them, and with it, or soon after, all. It asks for
// one row: dead ones cost whoever looks for them.
func drain(t *testing.T, f conformance.DialectFixture, n int) time.Duration {
	t.Helper()
	before := tailOf(t, f)
	execute(t, f, fmt.Sprintf(`INSERT INTO outbox (topic, key, payload) SELECT 't', i, repeat('x', 300)::bytea FROM generate_series(1, %d) AS i`, n))
	begun, last := time.Now(), tailOf(t, f)
	gone := func(query string, args ...any) func() (bool, error) {
		return func() (gone bool, err error) {
			err = f.DB.QueryRowContext(t.Context(), query, args...).Scan(&gone)
			return gone, err
		}
	}
	eventually(t, "the backlog is drained", gone(`SELECT NOT EXISTS (SELECT FROM outbox WHERE position = $1)`, last))
	took := time.Since(begun)
	eventually(t, "all of it is drained", gone(`SELECT NOT EXISTS (SELECT FROM outbox WHERE position > $1)`, before))
	return took
}

// Forty clients share eight server connections: none gets an answer, or a value, of another one's.
func TestNobodyGetsAnothersAnswerBehindAPooler(t *testing.T) {
	t.Parallel()
	const clients = 40
	rounds := dose.Of(t, 20, 300)
	f := openBehindPooler(t)
	var group sync.WaitGroup
	for c := range clients {
		s := openArchive(t, f)
		group.Go(func() {
			for i := range rounds {
				if err := ownRound(t.Context(), f, s, fmt.Sprintf("client %d round %d", c, i)); err != nil {
					t.Errorf("client %d: %v", c, err)
					return
				}
			}
		})
	}
	group.Wait()
	t.Logf("result: %d clients, each with %d rounds", clients, rounds)
}

func openArchive(t *testing.T, f conformance.DialectFixture) core.Session {
	t.Helper()
	f.Dialect = f.Archiving
	return openSession(t, f)
}

// ownRound enqueues an event, fetches and delivers it, and reads it back from the archive.
func ownRound(ctx context.Context, f conformance.DialectFixture, s core.Session, id string) error {
	outbox := core.NewOutbox(f.Dialect, core.OutboxConfig{LockKeys: true})
	err := outbox.InTx(ctx, f.DB, core.InTxOptions{}, func(context.Context, *sql.Tx) ([]core.Message, error) {
		return []core.Message{{ID: id, Topic: "t", Key: id, Payload: []byte(id)}}, nil
	})
	if err != nil {
		return err
	}
	all, err := s.Fetch(ctx, core.FetchRequest{Limit: 1000, MaxBytes: 1 << 20})
	if err != nil {
		return err
	}
	var refs []core.Ref
	for _, r := range all.Records {
		if r.Message.ID != string(r.Message.Payload) || r.Message.ID != r.Message.Key {
			return fmt.Errorf("the parts of %+v are of different events", r)
		}
		if r.Message.ID == id {
			refs = append(refs, r.Ref())
		}
	}
	if len(refs) != 1 {
		return fmt.Errorf("%q was fetched %d times", id, len(refs))
	}
	if err := s.Acknowledge(ctx, refs); err != nil {
		return err
	}
	kept, err := s.(core.ArchiveStore).ListArchived(ctx, core.ArchiveFilter{ID: id}, core.Ref{}, 10)
	if err == nil && (len(kept) != 1 || kept[0].Message.ID != id) {
		err = fmt.Errorf("the archive has %v, want %q", kept, id)
	}
	return err
}
