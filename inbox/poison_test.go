package inbox_test

import (
	"cmp"
	"context"
	"database/sql"
	"errors"
	"log/slog"
	"path/filepath"
	"testing"
	"time"

	"github.com/lockstep-go/lockstep/core"
	"github.com/lockstep-go/lockstep/dialect/mysql"
	"github.com/lockstep-go/lockstep/dialect/sqlite"
	"github.com/lockstep-go/lockstep/inbox"
	"github.com/lockstep-go/lockstep/internal/servers"
)

// poison is an effect that fails each time, and how often it is tried.
type poison struct {
	effect func(ctx context.Context, tx *sql.Tx) error
	runs   int
	rushed bool // its deadline can pass before its statement begins: it has one attempt, and runs is the most that it makes of it
}

// expectBuried settles a message with each of the poisons. None may go on for ever.
func expectBuried(t *testing.T, box *inbox.Inbox, db *sql.DB, poisons map[string]poison) {
	t.Helper()
	for name, p := range poisons {
		t.Run(name, func(t *testing.T) {
			g, runs, maxAttempts := &grave{}, 0, 0
			if p.rushed {
				maxAttempts = 1
			}
			ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
			defer cancel()
			m := order
			m.ID = name
			consumer, err := inbox.NewConsumer(box, db, "billing", inbox.ConsumerConfig{
				DeadLetters: g, DeadLetterTopic: "dead", MaxAttempts: maxAttempts, RetryDelay: time.Microsecond,
				Logger: slog.New(slog.DiscardHandler),
			})
			if err != nil {
				t.Fatal(err)
			}
			err = consumer.Settle(ctx, m, func(ctx context.Context, tx *sql.Tx, _ core.Message) error {
				runs++
				return p.effect(ctx, tx)
			})
			if err != nil || len(g.letters()) != 1 || runs > p.runs || runs < p.runs && !p.rushed {
				t.Errorf("got %v, %d dead letters and %d runs, want one after %d (or fewer: %t)", err, len(g.letters()), runs, p.runs, p.rushed)
			}
			if err := box.Handle(t.Context(), db, "billing", name, func(context.Context, *sql.Tx) error { runs = -1; return nil }); err != nil || runs != -1 {
				t.Errorf("the dead letter, sent again: got %v, %t, want an effect, as it was not noted", err, runs == -1)
			}
		})
	}
}

func TestPoisonThatIsNoErrorOfTheEffectIsBuriedOnPostgreSQL(t *testing.T) {
	box, db := onPostgres(t, servers.PostgresSchema(t))
	_, err := db.ExecContext(t.Context(), `CREATE TABLE p (id int PRIMARY KEY); INSERT INTO p VALUES (1);
CREATE TABLE c (p int REFERENCES p(id) DEFERRABLE INITIALLY DEFERRED);
CREATE TABLE checked (by_what text);
CREATE FUNCTION checks() RETURNS trigger LANGUAGE plpgsql AS $$BEGIN
  IF NEW.by_what = 'arithmetic' THEN PERFORM 1/0; END IF;
  RAISE 'not that';
END$$;
CREATE CONSTRAINT TRIGGER late AFTER INSERT ON checked DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION checks()`)
	if err != nil {
		t.Fatal(err)
	}
	checked := func(by string) func(context.Context, *sql.Tx) error {
		return func(ctx context.Context, tx *sql.Tx) error {
			_, err := tx.ExecContext(ctx, `INSERT INTO checked VALUES ($1)`, by)
			return err
		}
	}
	breaks := func(ctx context.Context, tx *sql.Tx) error {
		_, err := tx.ExecContext(ctx, `SELECT pg_terminate_backend(pg_backend_pid())`)
		return err
	}
	expectBuried(t, box, db, map[string]poison{
		"a deferred constraint": {func(ctx context.Context, tx *sql.Tx) error {
			_, err := tx.ExecContext(ctx, `INSERT INTO c VALUES (42)`)
			return err
		}, 5, false},
		"a deferred trigger that says no": {checked("itself"), 5, false},
		"a deferred trigger that fails":   {checked("arithmetic"), 5, false},
		"a failure that is ignored": {func(ctx context.Context, tx *sql.Tx) error {
			_, _ = tx.ExecContext(ctx, `INSERT INTO p VALUES (1)`)
			return nil
		}, 5, false},
		// Ten times, where each loses its connection, and 5 s: lib/pq's word that a statement be cancelled is lost where it comes
		// before the statement. The ROLLBACK is answered then, as it is where nothing was sent, and that is the one failure.
		"a deadline of its own": {func(ctx context.Context, tx *sql.Tx) error {
			ctx, cancel := context.WithTimeout(ctx, 50*time.Millisecond)
			defer cancel()
			_, err := tx.ExecContext(ctx, `SELECT pg_sleep(5)`)
			return cmp.Or(err, ctx.Err())
		}, 10, true},
		"breaks its connection": {breaks, 50, false},
		"breaks its connection and ignores it": {func(ctx context.Context, tx *sql.Tx) error {
			_ = breaks(ctx, tx)
			return nil
		}, 50, false},
		"breaks its connection for good": {func(ctx context.Context, tx *sql.Tx) error {
			return errors.Join(core.ErrPermanent, breaks(ctx, tx))
		}, 1, false},
	})
}

// On MySQL nothing that is in a transaction makes its COMMIT fail; what is left is a connection that the effect breaks.
func TestPoisonThatBreaksItsConnectionIsBuriedOnMySQL(t *testing.T) {
	dsn := servers.MySQLDatabase(t)
	d, err := mysql.Open(dsn, mysql.Config{})
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	if err := d.MigrateInbox(t.Context()); err != nil {
		t.Fatal(err)
	}
	db, err := sql.Open("mysql", dsn)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	box, err := inbox.New(d, inbox.Config{})
	if err != nil {
		t.Fatal(err)
	}
	expectBuried(t, box, db, map[string]poison{
		"breaks its connection and ignores it": {func(ctx context.Context, tx *sql.Tx) error {
			_, _ = tx.ExecContext(ctx, `KILL CONNECTION_ID()`)
			return nil
		}, 50, false},
	})
}

func TestPoisonThatFailsAtCommitIsBuriedOnSQLite(t *testing.T) {
	path := filepath.Join(t.TempDir(), "consumer.db")
	d, err := sqlite.Open(path, sqlite.Config{})
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	if err := d.MigrateInbox(t.Context()); err != nil {
		t.Fatal(err)
	}
	db, err := sql.Open("sqlite", "file:"+path+"?_pragma=foreign_keys(1)&_pragma=busy_timeout(5000)&_txlock=immediate")
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	_, err = db.ExecContext(t.Context(), `CREATE TABLE p (id INTEGER PRIMARY KEY);
CREATE TABLE c (p INTEGER REFERENCES p(id) DEFERRABLE INITIALLY DEFERRED)`)
	if err != nil {
		t.Fatal(err)
	}
	box, err := inbox.New(d, inbox.Config{})
	if err != nil {
		t.Fatal(err)
	}
	expectBuried(t, box, db, map[string]poison{
		"a deferred constraint": {func(ctx context.Context, tx *sql.Tx) error {
			_, err := tx.ExecContext(ctx, `INSERT INTO c VALUES (42)`)
			return err
		}, 5, false},
		// An answer to the ROLLBACK comes nevertheless. The statement ends by itself, because the driver's word that it be interrupted is
		// lost where it comes before the statement.
		"a deadline of its own": {func(ctx context.Context, tx *sql.Tx) error {
			ctx, cancel := context.WithTimeout(ctx, 5*time.Millisecond)
			defer cancel()
			_, err := tx.ExecContext(ctx, `WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i+1 FROM n LIMIT 2000000) SELECT max(i) FROM n`)
			return cmp.Or(err, errors.New("late"))
		}, 5, false},
		"ends its transaction": {func(ctx context.Context, tx *sql.Tx) error {
			_, err := tx.ExecContext(ctx, `ROLLBACK`)
			return err
		}, 5, false},
		"a conflict that ends its transaction, ignored": {func(ctx context.Context, tx *sql.Tx) error {
			_, _ = tx.ExecContext(ctx, `INSERT OR ROLLBACK INTO p VALUES (1), (1)`)
			return nil
		}, 5, false},
	})
	t.Run("which had been made by the effect", func(t *testing.T) {
		g, runs := &grave{}, 0
		err := newConsumer(t, box, db, g).Settle(t.Context(), order, func(ctx context.Context, tx *sql.Tx, _ core.Message) error {
			runs++
			_, err := tx.ExecContext(ctx, `COMMIT`)
			return err
		})
		if err != nil || len(g.letters()) != 0 || runs != 1 {
			t.Errorf("got %v, %d dead letters and %d runs, want one run: its effect is committed", err, len(g.letters()), runs)
		}
	})
}

// Where the database does not answer on another connection either, it is away, and nothing is counted, however often. The fake
// is the answer: every second BEGIN fails.
func TestAConnectionThatIsLostInAnOutageCountsNothing(t *testing.T) {
	l, g, begins, runs := newLedger(t), &grave{}, 0, 0
	db := beginner(func(ctx context.Context, opts *sql.TxOptions) (*sql.Tx, error) {
		if begins++; begins%2 == 0 {
			return nil, errors.New("the database is away")
		}
		return l.dialect.DB().BeginTx(ctx, opts)
	})
	consumer, err := inbox.NewConsumer(l.box, db, "billing", inbox.ConsumerConfig{
		DeadLetters: g, DeadLetterTopic: "dead", RetryDelay: time.Microsecond, Logger: slog.New(slog.DiscardHandler),
	})
	if err != nil {
		t.Fatal(err)
	}
	err = consumer.Settle(t.Context(), order, func(ctx context.Context, tx *sql.Tx, m core.Message) error {
		if runs++; runs > 60 {
			return add(ctx, tx, m.ID)
		}
		if err := tx.Rollback(); err != nil { // so that Handle's own has no answer
			t.Error(err)
		}
		return errors.New("connection lost")
	})
	if n := l.times(t, order.ID); err != nil || len(g.letters()) != 0 || n != 1 {
		t.Errorf("got %v, %d dead letters and %d effects, want one effect", err, len(g.letters()), n)
	}
}

// What of a message was lost, and what failed, is told apart, and counted together where it ends. The fake is the connection: an
// effect that ends its own transaction leaves Handle without an answer.
func TestAttemptsThatLoseTheirConnection(t *testing.T) {
	lose := func(tx *sql.Tx) error { return errors.Join(errors.New("connection lost"), tx.Rollback()) }
	fault := errors.New("out of stock")
	for name, tt := range map[string]struct {
		maxAttempts int
		effect      func(ctx context.Context, tx *sql.Tx, run int) error
		attempts    string // of the dead letter; empty where there is none, and an effect
	}{
		"for want of what is away count nothing": {1, func(ctx context.Context, tx *sql.Tx, run int) error {
			if run > 12 {
				return add(ctx, tx, order.ID)
			}
			return errors.Join(core.ErrUnavailable, lose(tx))
		}, ""},
		"may have committed, the last one too": {1, func(ctx context.Context, tx *sql.Tx, run int) error {
			if run < 10 {
				return lose(tx)
			}
			return errors.Join(add(ctx, tx, order.ID), tx.Commit(), errors.New("connection lost"))
		}, ""},
		"count with the failures after them": {2, func(_ context.Context, tx *sql.Tx, run int) error {
			if run <= 3 {
				return lose(tx)
			}
			return fault
		}, "5"},
		"count with the failures before them": {2, func(_ context.Context, tx *sql.Tx, run int) error {
			if run == 1 {
				return fault
			}
			return lose(tx)
		}, "21"},
	} {
		t.Run(name, func(t *testing.T) {
			l, g, runs := newLedger(t), &grave{}, 0
			consumer, err := inbox.NewConsumer(l.box, l.dialect.DB(), "billing", inbox.ConsumerConfig{
				DeadLetters: g, DeadLetterTopic: "dead", MaxAttempts: tt.maxAttempts, RetryDelay: time.Microsecond, Logger: slog.New(slog.DiscardHandler),
			})
			if err != nil {
				t.Fatal(err)
			}
			err = consumer.Settle(t.Context(), order, func(ctx context.Context, tx *sql.Tx, _ core.Message) error {
				runs++
				return tt.effect(ctx, tx, runs)
			})
			effects, letters := l.times(t, order.ID), g.letters()
			if err != nil || len(letters)+effects != 1 {
				t.Fatalf("got %v, %d dead letters and %d effects after %d runs, want one or the other", err, len(letters), effects, runs)
			}
			got := ""
			if len(letters) == 1 {
				got = letters[0].Headers[inbox.AttemptsHeader]
			}
			if got != tt.attempts {
				t.Errorf("the dead letter counts %q attempts after %d runs, want %q", got, runs, tt.attempts)
			}
		})
	}
}
