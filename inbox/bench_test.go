package inbox_test

import (
	"context"
	"database/sql"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/lockstep-go/lockstep/core"
	"github.com/lockstep-go/lockstep/dialect/mysql"
	"github.com/lockstep-go/lockstep/dialect/postgres"
	"github.com/lockstep-go/lockstep/dialect/sqlite"
	"github.com/lockstep-go/lockstep/inbox"
	"github.com/lockstep-go/lockstep/internal/servers"
)

// BenchmarkInbox is the throughput of a consumer with an inbox, as a ratio to the same consumer without: the same effect
// (one row), in transactions of the same number of goroutines, on the same server, by turns.
func BenchmarkInbox(b *testing.B) {
	const workers, perTurn = 8, 400
	for name, open := range map[string]func(b *testing.B) (core.Dialect, *sql.DB){
		"postgres": func(b *testing.B) (core.Dialect, *sql.DB) {
			dsn := servers.PostgresSchema(b)
			d, err := postgres.Open(dsn, postgres.Config{})
			return d, opened(b, err, func() (*sql.DB, error) { return postgres.OpenDB(dsn) })
		},
		"mysql":   func(b *testing.B) (core.Dialect, *sql.DB) { return openMySQL(b, servers.MySQLDatabase(b)) },
		"mariadb": func(b *testing.B) (core.Dialect, *sql.DB) { return openMySQL(b, servers.MariaDBDatabase(b)) },
		"sqlite": func(b *testing.B) (core.Dialect, *sql.DB) {
			d, err := sqlite.Open(filepath.Join(b.TempDir(), "consumer.db"), sqlite.Config{})
			return d, opened(b, err, func() (*sql.DB, error) { return d.DB(), nil })
		},
	} {
		b.Run(name, func(b *testing.B) {
			d, db := open(b)
			b.Cleanup(func() { d.(interface{ Close() error }).Close() })
			if err := d.(core.InboxStore).MigrateInbox(b.Context()); err != nil {
				b.Fatal(err)
			}
			if _, err := db.ExecContext(b.Context(), `CREATE TABLE effects (id varchar(64) PRIMARY KEY, n int NOT NULL)`); err != nil {
				b.Fatal(err)
			}
			box, err := inbox.New(d, inbox.Config{})
			if err != nil {
				b.Fatal(err)
			}
			insert := `INSERT INTO effects (id, n) VALUES ($1, 1)`
			if name == "mysql" || name == "mariadb" {
				insert = `INSERT INTO effects (id, n) VALUES (?, 1)`
			}
			effect := func(ctx context.Context, tx *sql.Tx, id string) error {
				_, err := tx.ExecContext(ctx, insert, id)
				return err
			}
			var took [2]time.Duration
			turns := 0
			for b.Loop() {
				turns++
				for with := range took {
					began := time.Now()
					consume(b, workers, perTurn, func(id string) error {
						if with == 1 {
							return box.Handle(b.Context(), db, "c", id, func(ctx context.Context, tx *sql.Tx) error { return effect(ctx, tx, id) })
						}
						return without(b.Context(), db, func(ctx context.Context, tx *sql.Tx) error { return effect(ctx, tx, id) })
					})
					took[with] += time.Since(began)
				}
			}
			perSecond := func(d time.Duration) float64 { return float64(turns*perTurn) / d.Seconds() }
			b.ReportMetric(perSecond(took[0]), "messages/s-without")
			b.ReportMetric(perSecond(took[1]), "messages/s-with")
			b.ReportMetric(perSecond(took[1])/perSecond(took[0]), "ratio")
			b.ReportMetric(0, "ns/op")
		})
	}
}

// consume gives n new messages to the workers.
func consume(b *testing.B, workers, n int, settle func(id string) error) {
	b.Helper()
	ids := make(chan string, n)
	for range n {
		ids <- core.NewID()
	}
	close(ids)
	var group sync.WaitGroup
	for range workers {
		group.Go(func() {
			for id := range ids {
				if err := settle(id); err != nil {
					b.Error(err)
				}
			}
		})
	}
	group.Wait()
}

// without is what Handle does, but for the inbox.
func without(ctx context.Context, db *sql.DB, effect func(context.Context, *sql.Tx) error) error {
	tx, err := db.BeginTx(ctx, nil)
	if err != nil {
		return err
	}
	defer tx.Rollback()
	if err := effect(ctx, tx); err != nil {
		return err
	}
	return tx.Commit()
}

func openMySQL(b *testing.B, dsn string) (core.Dialect, *sql.DB) {
	b.Helper()
	d, err := mysql.Open(dsn, mysql.Config{})
	return d, opened(b, err, func() (*sql.DB, error) { return mysql.OpenDB(dsn) })
}

func opened(b *testing.B, err error, open func() (*sql.DB, error)) *sql.DB {
	b.Helper()
	if err != nil {
		b.Fatal(err)
	}
	db, err := open()
	if err != nil {
		b.Fatal(err)
	}
	db.SetMaxIdleConns(8)
	b.Cleanup(func() { db.Close() })
	return db
}
