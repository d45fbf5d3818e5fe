package sqlite

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/jmoiron/sqlx"
)

// listenInterval is how often the file is asked whether it changed, and bounds what a wake-up takes. A question costs 10 µs,
// and 200 µs where the processor had other things to do in between, as it has: too much for a file in which nothing happens.
// So after listenOn without a commit the question waits for the system to say that the WAL was written to, where the
// system can say so. It says so before the commit is there to be seen, hence the wait in that order.
const (
	listenInterval = 20 * time.Millisecond
	listenOn       = 500 * time.Millisecond
)

// Listen implements [core.Listener]. SQLite tells nobody of a commit, but answers cheaply whether there was one, by
// anybody else and of anything: wake is called for those without events too.
func (d *Dialect) Listen(ctx context.Context, wake func()) error {
	err := d.listen(ctx, wake)
	if ctx.Err() != nil {
		return ctx.Err()
	}
	return fmt.Errorf("listen for commits: %w", err)
}

func (d *Dialect) listen(ctx context.Context, wake func()) (err error) {
	conn, err := d.connect(ctx, d.reader)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, conn.Close()) }()
	version, err := conn.PreparexContext(ctx, `PRAGMA data_version`)
	if err != nil {
		return err
	}
	defer version.Close()
	wal, unwatch, err := d.watch(ctx, conn)
	if err != nil {
		return err
	}
	defer unwatch()
	tick := time.NewTicker(listenInterval)
	defer tick.Stop()
	active := time.Now()
	for seen := int64(-1); ; {
		var is int64
		if err := version.GetContext(ctx, &is); err != nil {
			return err
		}
		if is != seen {
			seen, active = is, time.Now()
			wake()
		}
		if wal != nil && time.Since(active) > listenOn {
			tick.Stop()
			if err := waitForWrite(wal); err != nil {
				return err
			}
			active = time.Now()
			tick.Reset(listenInterval)
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-tick.C:
		}
	}
}

// watch returns what becomes readable when the file's WAL is written to, and whose reads end with ctx; nil where there is
// no such thing. The connection keeps the WAL from being removed.
func (d *Dialect) watch(ctx context.Context, conn *sqlx.Conn) (wal *os.File, unwatch func(), err error) {
	if d.source.memory {
		return nil, func() {}, nil
	}
	var path string
	if err := conn.GetContext(ctx, &path, `SELECT file FROM pragma_database_list WHERE name = 'main'`); err != nil {
		return nil, nil, err
	}
	wal, err = watchWrites(path + "-wal")
	if err != nil { // too many watches, perhaps: asking does as well
		return nil, func() {}, nil //nolint:nilerr // see above
	}
	stop := context.AfterFunc(ctx, func() { _ = wal.SetReadDeadline(time.Now()) })
	return wal, func() { stop(); wal.Close() }, nil
}

// waitForWrite takes one notice. Those that nobody takes become one.
func waitForWrite(wal *os.File) error {
	var notice [4096]byte
	_, err := wal.Read(notice[:])
	return err
}
