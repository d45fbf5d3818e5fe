package mysql_test

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/lockstep-go/lockstep/conformance"
	"github.com/lockstep-go/lockstep/core"
	"github.com/lockstep-go/lockstep/dialect/mysql"
)

// asRelay opens an outbox with one event in it, at position 1, and a session of a relay's user with these privileges.
func asRelay(t *testing.T, flavour flavour, privileges ...string) (conformance.DialectFixture, core.Session) {
	t.Helper()
	dsn := flavour.database(t)
	f := open(t, dsn, mysql.Config{})
	s := openSession(t, as(t, f, dsn, relayUser, privileges...))
	enqueued(t, f, core.Message{Topic: "t"})
	return f, s
}

// running runs a statement that sleeps, over a connection of its own, and returns when it does. kill ends it.
func running(t *testing.T, f conformance.DialectFixture, statement string) (kill func()) {
	t.Helper()
	conn, err := f.DB.Conn(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	var id int64
	if err := conn.QueryRowContext(t.Context(), `SELECT CONNECTION_ID()`).Scan(&id); err != nil {
		t.Fatal(err)
	}
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		_, _ = conn.ExecContext(context.WithoutCancel(t.Context()), statement) // it is killed
	}()
	kill = sync.OnceFunc(func() {
		if _, err := f.DB.ExecContext(context.WithoutCancel(t.Context()), fmt.Sprintf(`KILL CONNECTION %d`, id)); err != nil {
			t.Error(err)
		}
		<-ended
		_ = conn.Close() // which the server closed
	})
	t.Cleanup(kill)
	eventually(t, "the statement runs", func() bool {
		var n int
		err := f.DB.QueryRowContext(t.Context(), `SELECT COUNT(*) FROM information_schema.processlist WHERE id = ? AND state = 'User sleep'`, id).Scan(&n)
		return err == nil && n == 1
	})
	return kill
}

// looked asks after one gap.
func looked(t *testing.T, s core.Session, gaps []core.Gap) (dead bool) {
	t.Helper()
	if err := s.ResolveGaps(t.Context(), gaps); err != nil {
		t.Fatal(err)
	}
	return gaps[0].Dead
}

// keptAlive looks at a gap for so long, while it must not die.
func keptAlive(t *testing.T, s core.Session, gaps []core.Gap, d time.Duration, why string) {
	t.Helper()
	for end := time.Now().Add(d); time.Now().Before(end); time.Sleep(100 * time.Millisecond) { // between two looks
		if looked(t, s, gaps) {
			t.Fatalf("the gap was declared dead while %s", why)
		}
	}
}

// longerThanBeginning is more than it takes until the transactions that run are taken for all that can fill a gap (beganBy).
const longerThanBeginning = 3 * time.Second

// The table is never without a statement that has it open. With the PROCESS privilege the relay sees that it locks nothing;
// without, the gap stays until the statement ends. One that may insert is waited for in any case.
func TestGapsOfATableThatIsNeverQuiet(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		busy       string
		privileges []string
		dead       bool // while it runs
	}{
		"a reader, with PROCESS": {`SELECT SLEEP(60) FROM outbox LIMIT 1`, []string{"PROCESS"}, true},
		"a reader, without":      {`SELECT SLEEP(60) FROM outbox LIMIT 1`, nil, false},
		"a writer, with PROCESS": {`INSERT INTO outbox (topic, payload) VALUES ('t', 'x'), ('t', SLEEP(60))`, []string{"PROCESS"}, false},
	} {
		each(t, name, func(t *testing.T, flavour flavour) {
			flavour.slowWriters(t)
			f, s := asRelay(t, flavour, tt.privileges...)
			kill := running(t, f, tt.busy)
			enqueued(t, f, core.Message{Topic: "t"})
			gaps := []core.Gap{{Range: core.Range{First: 3, Last: 3}}} // the writer's second position
			if tt.dead {
				eventually(t, "the gap dies beside a reader", func() bool { return looked(t, s, gaps) })
			} else {
				keptAlive(t, s, gaps, longerThanBeginning, "the statement ran")
			}
			kill()
			eventually(t, "the gap dies when the statement is over", func() bool { return looked(t, s, gaps) })
		})
	}
}

// A writer took its position, and the server's thread did not run until the first look was over: its transaction is in no list
// yet. No server can be made to do so, so the writer names a position that is in the gap, and begins after the first look.
func TestAWriterThatWasNotInTheListYet(t *testing.T) {
	t.Parallel()
	onBoth(t, func(t *testing.T, flavour flavour) {
		flavour.slowWriters(t)
		f, s := asRelay(t, flavour, "PROCESS")
		running(t, f, `SELECT SLEEP(60) FROM outbox LIMIT 1`) // the table is never quiet
		for {
			gaps := []core.Gap{{Range: core.Range{First: 3, Last: 3}}}
			begun := time.Now()
			dead := false
			for range 2 { // the first sees the gap, the second could ask for the list
				dead = looked(t, s, gaps)
			}
			if dead && time.Since(begun) < time.Second {
				t.Fatal("the gap was declared dead before a writer's transaction had the time to begin")
			}
			kill := running(t, f, `INSERT INTO outbox (position, topic, payload) VALUES (10, 't', 'x'), (3, 't', SLEEP(60))`)
			if took := time.Since(begun); took > time.Second {
				t.Logf("the writer began after %v only, which is too late to mean anything: once more", took)
				kill()
				continue
			}
			keptAlive(t, s, gaps, longerThanBeginning, "a writer ran that was not in the list at first")
			kill()
			eventually(t, "the gap dies when the writer has gone", func() bool { return looked(t, s, gaps) })
			return
		}
	})
}

// There is always a writer, and never one for long. Those that began when the gap's own must have begun are waited for, and
// nobody who came later.
func TestAGapDiesBesideLaterWriters(t *testing.T) {
	t.Parallel()
	onBoth(t, func(t *testing.T, flavour flavour) {
		flavour.slowWriters(t)
		f, s := asRelay(t, flavour, "PROCESS")
		const write = `INSERT INTO outbox (topic, payload) VALUES ('t', 'x'), ('t', SLEEP(60))`
		kill := running(t, f, write)
		gaps := []core.Gap{{Range: core.Range{First: 3, Last: 3}}} // the writer's second position
		keptAlive(t, s, gaps, longerThanBeginning, "its writer ran")
		running(t, f, write)
		kill()
		eventually(t, "the gap dies when its own writer has gone", func() bool { return looked(t, s, gaps) })
	})
}

// A server that lists nothing of the table has told nothing. It does so when nothing of the table is cached any more, and it
// may where the table's name is not written as the server writes it.
func TestATableThatIsNotListedIsNotQuiet(t *testing.T) {
	t.Parallel()
	onBoth(t, func(t *testing.T, flavour flavour) {
		f := open(t, flavour.database(t), mysql.Config{})
		s := openSession(t, f)
		enqueued(t, f, core.Message{Topic: "t"})
		execute(t, f, `FLUSH TABLES outbox`)
		gaps := []core.Gap{{Range: core.Range{First: 2, Last: 2}}}
		if looked(t, s, gaps) {
			t.Error("the gap was declared dead, and the server said nothing of the table")
		}
		fetchAll(t, s) // which opens it
		eventually(t, "the gap dies when the table is listed", func() bool { return looked(t, s, gaps) })
	})
}

// The table was quiet once while the gap's writer held its row: that its statements are over stays true, whoever uses the table
// later.
func TestThatATableWasQuietIsRemembered(t *testing.T) {
	t.Parallel()
	onBoth(t, func(t *testing.T, flavour flavour) {
		f, s := asRelay(t, flavour)
		writer, err := f.DB.BeginTx(t.Context(), nil)
		if err != nil {
			t.Fatal(err)
		}
		defer writer.Rollback()
		if _, err := writer.ExecContext(t.Context(), `INSERT INTO outbox (topic, payload) VALUES ('t', 'x')`); err != nil {
			t.Fatal(err)
		}
		gaps := []core.Gap{{Range: core.Range{First: 2, Last: 2}}}
		if looked(t, s, gaps) {
			t.Fatal("the gap was declared dead while its writer held it")
		}
		running(t, f, `SELECT SLEEP(60) FROM outbox LIMIT 1`) // the relay has no PROCESS privilege to see what it is
		if err := writer.Rollback(); err != nil {
			t.Fatal(err)
		}
		eventually(t, "the gap dies", func() bool { return looked(t, s, gaps) })
	})
}

// The server makes its list of transactions anew only when nobody has read it for 0.1 s. A monitor that reads it all the time
// keeps a list that is from before the gap's writer began, with the relay's own look of that time in it.
func TestAnOldListOfTransactionsIsNotBelieved(t *testing.T) {
	onBoth(t, func(t *testing.T, flavour flavour) {
		f, s := asRelay(t, flavour, "PROCESS")
		running(t, f, `SELECT SLEEP(60) FROM outbox LIMIT 1`) // the table is never quiet
		const rounds = 5
		for round := range int64(rounds) {
			far := []core.Gap{{Range: core.Range{First: 1000 + round, Last: 1000 + round}}}
			eventually(t, "a gap dies beside a reader: the list was asked for", func() bool { return looked(t, s, far) })
			stop := monitored(t, f)
			kill := running(t, f, `INSERT INTO outbox (topic, payload) VALUES ('t', 'x'), ('t', SLEEP(60))`)
			second := 3 + 2*round // the writer's second position
			gaps := []core.Gap{{Range: core.Range{First: second, Last: second}}}
			keptAlive(t, s, gaps, longerThanBeginning+time.Second, "its writer ran, and the list was from before that")
			kept := stop()
			kill()
			eventually(t, "the gap dies when its writer has gone", func() bool { return looked(t, s, gaps) })
			if kept {
				return
			}
		}
		t.Logf("the list of transactions was made anew in each of %d rounds, on a machine that is too busy to keep it old: this run shows nothing", rounds)
	})
}

// monitored reads the list of transactions all the time. stop ends that, and reports whether the list was the same all the time:
// no writer got into it.
func monitored(t *testing.T, f conformance.DialectFixture) (stop func() (kept bool)) {
	t.Helper()
	var anew atomic.Bool
	ended := make(chan struct{})
	var group sync.WaitGroup
	for range 4 {
		group.Go(func() {
			for {
				select {
				case <-ended:
					return
				default:
				}
				var n int
				err := f.DB.QueryRowContext(context.WithoutCancel(t.Context()),
					`SELECT COUNT(*) FROM information_schema.innodb_trx WHERE trx_query LIKE 'INSERT INTO outbox%SLEEP%'`).Scan(&n)
				if err != nil {
					t.Errorf("monitor: %v", err)
					return
				}
				if n > 0 {
					anew.Store(true)
				}
			}
		})
	}
	end := sync.OnceFunc(func() { close(ended); group.Wait() })
	t.Cleanup(end)
	return func() bool {
		end()
		return !anew.Load()
	}
}
