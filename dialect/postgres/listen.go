package postgres

import (
	"context"
	"database/sql/driver"
	"errors"
	"fmt"
	"time"

	"github.com/lib/pq"

	"github.com/lockstep-go/lockstep/core"
)

var (
	_ core.Listener = (*Dialect)(nil)
	_ core.Notifier = (*Dialect)(nil)
)

// Only this package's own tests change these.
var (
	// listenPing is how long a listening connection may be quiet before the server is asked whether it is still there.
	listenPing = 10 * time.Second

	// wakeTimeout bounds each exchange with the server over the connections that wake.
	wakeTimeout = 5 * time.Second
)

// announceEvery is the least time between two announcements. Each takes a lock that is one for the whole cluster.
const announceEvery = 10 * time.Millisecond

// Listen implements [core.Listener] by LISTEN, over a connection to Config.ListenDSN.
//
// lib/pq reads notifications only while it reads an answer, and its own listener hangs on a silent peer. So the
// connection is asked for nothing until bytes arrive on it, and then for a ping, whose answer comes behind them.
func (d *Dialect) Listen(ctx context.Context, wake func()) error {
	s, err := d.dial(ctx, d.listenDSN, &wire{peeked: true})
	if err != nil {
		return fmt.Errorf("listen: %w", err)
	}
	heard := false
	err = s.listen(ctx, func(*pq.Notification) { heard = true })
	if err == nil {
		wake()
	}
	for err == nil {
		if err = s.wire.await(ctx, listenPing); err != nil {
			break
		}
		heard = false
		if err = s.ping(ctx); heard {
			wake()
		}
	}
	return leave(ctx, "listen", err, s)
}

// leave closes the session of a loop that ended, as it should when ctx is done.
func leave(ctx context.Context, what string, err error, s *session) error {
	closed := s.Close()
	if ctx.Err() != nil {
		return nil
	}
	return fmt.Errorf("%s: %w", what, errors.Join(err, closed))
}

func (s *session) listen(ctx context.Context, hear func(*pq.Notification)) error {
	ctx, cancel := context.WithTimeout(ctx, wakeTimeout)
	defer cancel()
	channel, err := s.channel(ctx)
	if err != nil {
		return err
	}
	err = s.conn.Raw(func(native any) error {
		pq.SetNotificationHandler(native.(driver.Conn), hear)
		return nil
	})
	if err != nil {
		return err
	}
	return s.exec(ctx, `LISTEN `+channel)
}

func (s *session) ping(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, wakeTimeout)
	defer cancel()
	return s.guard(ctx, s.conn.PingContext)
}

// channel is the outbox's, an identifier. It is made of the table's number in the database, which is the same however
// the table is named, and for every program.
func (s *session) channel(ctx context.Context) (string, error) {
	var number int64
	err := s.queryRow(ctx, `SELECT coalesce(to_regclass(`+text(s.sql("{outbox}"))+`)::oid, 0)::bigint`, &number)
	switch {
	case err != nil:
		return "", err
	case number == 0:
		return "", errNotMigrated
	}
	return "lockstep_" + integer(number), nil
}

// Notify implements [core.Notifier] by NOTIFY, in transactions of its own that do not wait for the disk. It announces
// once at the beginning: of what was committed while nobody did.
func (d *Dialect) Notify(ctx context.Context, committed <-chan struct{}) error {
	s, err := d.connect(ctx)
	if err != nil {
		return fmt.Errorf("notify: %w", err)
	}
	return leave(ctx, "notify", s.announce(ctx, committed), s)
}

func (s *session) announce(ctx context.Context, committed <-chan struct{}) error {
	channel, err := s.channel(ctx)
	if err != nil {
		return err
	}
	pause := time.NewTimer(0)
	defer pause.Stop()
	for {
		if err := s.notify(ctx, channel); err != nil {
			return err
		}
		pause.Reset(announceEvery)
		select {
		case <-ctx.Done():
			return nil
		case <-pause.C:
		}
		select {
		case <-ctx.Done():
			return nil
		case <-committed:
		}
	}
}

func (s *session) notify(ctx context.Context, channel string) error {
	ctx, cancel := context.WithTimeout(ctx, wakeTimeout)
	defer cancel()
	return s.exec(ctx, `SET LOCAL synchronous_commit = off; NOTIFY `+channel)
}
