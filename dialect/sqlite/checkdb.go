package sqlite

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/jmoiron/sqlx"

	"github.com/lockstep-go/lockstep/core"
)

// CheckDB reports why an application must not enqueue through the transactions of db, a pool of its own with any driver
// (a *sqlx.DB has its *sql.DB in DB), as [core.SetupError]s: it is no SQLite or too old a one, another file or one
// attached to it, or its settings let a power loss take committed events (synchronous), or let SQLITE_BUSY surface
// (busy_timeout, BEGIN DEFERRED). With modernc.org/sqlite this will do:
//
//	file:shop.db?_pragma=journal_mode(WAL)&_pragma=synchronous(FULL)&_pragma=busy_timeout(10000)&_txlock=immediate
//
// It looks at one connection, so set these in the DSN, where they hold for all. Whether transactions are immediate cannot
// be told while another process writes; then CheckDB says nothing of it. Tables of the application in an attached file
// are its own responsibility: a power loss during COMMIT can keep them and lose the events, or the other way round.
func (d *Dialect) CheckDB(ctx context.Context, db *sql.DB) error {
	if db == d.writer.DB {
		return nil
	}
	conn, err := sqlx.NewDb(db, "").Connx(ctx)
	if err != nil {
		return explained(fmt.Errorf("check the pool: connect: %w", err))
	}
	return explained(errors.Join(d.checkPool(ctx, conn), conn.Close()))
}

func (d *Dialect) checkPool(ctx context.Context, conn *sqlx.Conn) error {
	if err := checkLibrary(ctx, conn); err != nil {
		var fault *core.SetupError
		if errors.As(err, &fault) {
			return err
		}
		return &core.SetupError{Problem: "the pool does not answer like SQLite", Cure: "pass the pool of the file with the outbox", Err: err}
	}
	if err := d.checkSame(ctx, conn); err != nil {
		return err
	}
	return errors.Join(d.checkJournal(ctx, conn), d.checkSettings(ctx, conn), d.checkImmediate(ctx, conn))
}

// checkSame says whether the pool's main file is the one with the outbox.
func (d *Dialect) checkSame(ctx context.Context, conn *sqlx.Conn) error {
	have, err := d.version(ctx, conn)
	if err != nil {
		return err
	}
	if have == 0 {
		attached, err := d.attached(ctx, conn)
		if err != nil || attached == "" {
			return errors.Join(err, d.versionFault(have))
		}
		return &core.SetupError{
			Problem: fmt.Sprintf("the outbox is in the attached database %q, and a commit over several files is not atomic at a power loss", attached),
			Cure:    "keep the outbox in the main file, that of the application's tables",
		}
	}
	var theirs, ours string
	const outbox = `SELECT outbox FROM {control}`
	if err := conn.GetContext(ctx, &theirs, d.names.Replace(outbox)); err != nil {
		return err
	}
	if err := d.reader.GetContext(ctx, &ours, d.names.Replace(outbox)); err != nil {
		return err
	}
	if theirs != ours {
		return &core.SetupError{
			Problem: "the pool's file holds another outbox than the one that this program relays",
			Cure:    "open both with the same path",
		}
	}
	return nil
}

// attached names the attached database in which the outbox is; empty where it is in none.
func (d *Dialect) attached(ctx context.Context, conn *sqlx.Conn) (string, error) {
	var names []string
	if err := conn.SelectContext(ctx, &names, `SELECT name FROM pragma_database_list WHERE name NOT IN ('main', 'temp')`); err != nil {
		return "", err
	}
	for _, name := range names {
		var tables []string
		err := conn.SelectContext(ctx, &tables, `SELECT name FROM pragma_table_list WHERE schema = ? AND type = 'table'`, name)
		if err != nil {
			return "", err
		}
		if slices.Contains(tables, d.prefix+"outbox_control") {
			return name, nil
		}
	}
	return "", nil
}

func (d *Dialect) checkSettings(ctx context.Context, conn *sqlx.Conn) error {
	var synchronous, timeout int
	if err := conn.GetContext(ctx, &synchronous, `PRAGMA main.synchronous`); err != nil {
		return err
	}
	if err := conn.GetContext(ctx, &timeout, `PRAGMA busy_timeout`); err != nil {
		return err
	}
	var faults []error
	if synchronous < 2 && !d.source.memory {
		faults = append(faults, &core.SetupError{
			Problem: fmt.Sprintf("the pool's synchronous is %d, with which a power loss takes committed orders and events", synchronous),
			Cure:    "set it to FULL in the pool's DSN (_pragma=synchronous(FULL))",
		})
	}
	if timeout == 0 {
		faults = append(faults, &core.SetupError{
			Problem: "the pool's busy_timeout is 0: its transactions fail whenever another connection writes",
			Cure:    "set it to some seconds in the pool's DSN (_pragma=busy_timeout(10000))",
		})
	}
	return errors.Join(faults...)
}

// checkImmediate begins a transaction of the pool and sees whether another can begin beside it.
func (d *Dialect) checkImmediate(ctx context.Context, conn *sqlx.Conn) error {
	if d.source.memory {
		return nil // a shared cache makes the other wait instead of telling it
	}
	theirs, err := conn.BeginTxx(ctx, nil)
	if err != nil {
		return err
	}
	defer theirs.Rollback()
	ours, err := d.connect(ctx, d.writer)
	if err != nil {
		return err
	}
	defer ours.Close()
	short, cancel := context.WithTimeout(ctx, 50*time.Millisecond)
	defer cancel()
	tx, err := ours.BeginTxx(short, nil)
	switch {
	case err == nil:
		return errors.Join(tx.Rollback(), &core.SetupError{
			Problem: "the pool's transactions begin DEFERRED: one that reads before it writes fails when another has written in between",
			Cure:    "let them begin IMMEDIATE (_txlock=immediate in the pool's DSN), and read through another pool",
		})
	case errors.Is(err, errHeld):
		return nil
	}
	return err
}
