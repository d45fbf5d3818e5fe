package sqlite

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// listenInterval is how often the file is asked whether it changed. It bounds what a wake-up takes; a question costs
// some microseconds.
const listenInterval = 20 * time.Millisecond

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
	tick := time.NewTicker(listenInterval)
	defer tick.Stop()
	for seen := int64(-1); ; {
		var is int64
		if err := version.GetContext(context.WithoutCancel(ctx), &is); err != nil {
			return err
		}
		if is != seen {
			seen = is
			wake()
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-tick.C:
		}
	}
}
