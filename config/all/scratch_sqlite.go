package all

import (
	"context"
	"database/sql"
	"errors"
	"net/url"
	"os"
	"path/filepath"

	"github.com/lockstep-go/lockstep/config"
	"github.com/lockstep-go/lockstep/dialect/sqlite"
)

// Scratch implements [config.ScratchDialect]: a file of its own in the same directory. In the same file the checks would
// keep the application from writing.
func (d sqliteDatabase) Scratch(ctx context.Context, name string, _ config.Through) (*config.ScratchOutbox, error) {
	at := filepath.Join(filepath.Dir(d.path), name+".db")
	var pool *sql.DB
	s, err := scratchDialects(ctx, "the file "+at, scratchTable("", name, ident),
		func(archive []string) (config.Dialect, error) {
			own, err := sqlite.Open(at, sqlite.Config{Prefix: d.prefix, Archive: archive})
			if err == nil && pool == nil {
				pool = own.DB()
			}
			return own, err
		},
		func() (*sql.DB, error) { return pool, nil },
		func(context.Context) error {
			var errs []error
			for _, suffix := range []string{"", "-wal", "-shm"} {
				if err := os.Remove(at + suffix); err != nil && !errors.Is(err, os.ErrNotExist) {
					errs = append(errs, err)
				}
			}
			return errors.Join(errs...)
		})
	if err != nil {
		return nil, err
	}
	s.ConcurrentWriters = false
	s.Outage = func() (heal func(), err error) { return lockFile(at) }
	return s, nil
}

// lockFile keeps everybody from writing, as another process does that holds its transaction open.
func lockFile(path string) (unlock func(), err error) {
	db, err := sql.Open("sqlite", "file:"+(&url.URL{Path: path}).EscapedPath()+"?_txlock=immediate&_pragma=busy_timeout(10000)")
	if err != nil {
		return nil, err
	}
	tx, err := db.Begin()
	if err != nil {
		return nil, errors.Join(err, db.Close())
	}
	return func() { _ = errors.Join(tx.Rollback(), db.Close()) }, nil
}
