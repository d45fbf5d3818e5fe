package bench

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
)

// What stands in front in the blocked section: as many events as come behind them, a hundred for each key.
const (
	blockedEach   = 100
	blockedPrefix = "blocked"
)

// variant is a drain by Lockstep under a condition, beside one without.
func (b *bench) variant(ctx context.Context, name, title, condition string, target func(*Ratio), change func(*trial)) (Section, error) {
	s := Section{Name: name, Title: title}
	var all []trial
	for _, broker := range b.config.Brokers {
		for _, database := range b.config.Databases {
			plain := trial{way: wayLockstep, database: database, broker: broker, backlog: b.usual()}
			changed := plain
			changed.label = condition
			change(&changed)
			all = append(all, plain, changed)
		}
	}
	err := b.trials(ctx, &s, all)
	for _, broker := range b.config.Brokers {
		for _, database := range b.config.Databases {
			s.compare(database, broker, condition, wayLockstep, "events/s", target)
		}
	}
	return s, err
}

func (b *bench) hotKey(ctx context.Context) (Section, error) {
	return b.variant(ctx, HotKey, "A hot key: every second event is of one key", "hot key", nil,
		func(t *trial) { t.backlog.hot = true })
}

func (b *bench) archived(ctx context.Context) (Section, error) {
	return b.variant(ctx, ArchiveIn, "Delivered events are moved to the archive, instead of being deleted", "archive", nil,
		func(t *trial) { t.archive = true })
}

// snapshot keeps a transaction open that has read something before the drain began, so that nothing deleted in it can be
// cleaned up.
func (b *bench) snapshot(ctx context.Context) (Section, error) {
	return b.variant(ctx, Snapshot, "A transaction of the database holds a snapshot all the time", "held snapshot", atLeast(0.9),
		func(t *trial) { t.around = holdSnapshot })
}

func holdSnapshot(ctx context.Context, d database, _ trial) (undo func() error, err error) {
	db, err := d.pool()
	if err != nil {
		return nil, err
	}
	level := sql.LevelRepeatableRead
	if d.place().Kind == SQLite {
		level = sql.LevelDefault
	}
	tx, err := db.BeginTx(ctx, &sql.TxOptions{Isolation: level, ReadOnly: true})
	if err == nil {
		var n int
		err = tx.QueryRowContext(ctx, "SELECT count(*) FROM outbox").Scan(&n)
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("hold a snapshot: %w", err), db.Close())
	}
	return func() error { return errors.Join(tx.Rollback(), db.Close()) }, nil
}

// blocked puts events in front that nobody may deliver before an operator decides.
func (b *bench) blocked(ctx context.Context) (Section, error) {
	return b.variant(ctx, Blocked, fmt.Sprintf("%d events of %d blocked keys stand in front", b.config.Events, blockedKeys(b.config.Events)), "behind blocked", atLeast(0.8),
		func(t *trial) { t.around = blockKeys })
}

func blockedKeys(events int) int { return max(1, events/blockedEach) }

func blockKeys(ctx context.Context, d database, t trial) (undo func() error, err error) {
	db, err := d.pool()
	if err != nil {
		return nil, err
	}
	defer closing(&err, db.Close)
	s, topic := d.statements(), t.backlog.topic
	front := backlog{topic: topic, events: t.backlog.events, keys: blockedKeys(t.backlog.events), payload: t.backlog.payload, prefix: blockedPrefix}
	if err := fill(ctx, db, s, front); err != nil {
		return nil, err
	}
	_, err = db.ExecContext(ctx, fmt.Sprintf("INSERT INTO outbox_blocked (topic, %s, position) SELECT topic, %[1]s, min(position) FROM outbox GROUP BY topic, %[1]s", s.key))
	if err != nil {
		return nil, fmt.Errorf("block keys: %w", err)
	}
	return func() error { return nil }, nil
}

// growth drains larger and larger backlogs. The larger the backlog, the longer it takes: once round is enough for what takes
// longest, and the rounds are the same for all, so that ratios can be made.
func (b *bench) growth(ctx context.Context) (Section, error) {
	s := Section{Name: Growth, Title: "Larger and larger backlogs"}
	label := func(n int) string { return fmt.Sprintf("%d events", n) }
	var all []trial
	for _, broker := range b.config.Brokers {
		for _, database := range b.config.Databases {
			for _, n := range b.config.Backlogs {
				t := trial{way: wayLockstep, database: database, broker: broker, backlog: b.usual(), label: label(n)}
				t.backlog.events = n
				all = append(all, t)
			}
		}
	}
	err := b.trials(ctx, &s, all)
	for _, broker := range b.config.Brokers {
		for _, database := range b.config.Databases {
			least, most := b.config.Backlogs[0], b.config.Backlogs[len(b.config.Backlogs)-1]
			for _, n := range b.config.Backlogs {
				if n == 100_000 {
					least = n
				}
			}
			if most != least {
				s.compare(database, broker, label(most), label(least), "events/s", atLeast(0.9))
			}
		}
	}
	return s, err
}
