package main

import (
	"context"
	"database/sql"

	"github.com/lockstep-go/lockstep/core"
)

// databaseFirst commits the order, and then tells the broker. Whatever happens in between, or at the broker, leaves an
// order that nobody hears of. Publishing again helps while the process lives, and the program remembers.
func (s *Shop) databaseFirst(ctx context.Context, order Order) error {
	tx, err := s.db.BeginTx(ctx, nil)
	if err != nil {
		return err
	}
	defer tx.Rollback()
	if err := insert(ctx, tx, order); err != nil {
		return err
	}
	if err := tx.Commit(); err != nil {
		return err
	}
	s.mayBeKilled()
	return s.broker.Publish(ctx, []core.Message{order.event()})
}

// brokerFirst tells the broker, and then commits the order. What the broker has cannot be taken back, and so others act on
// an order that does not exist. An error of Publish says nothing either: the broker may have stored the event.
func (s *Shop) brokerFirst(ctx context.Context, order Order) error {
	if err := s.broker.Publish(ctx, []core.Message{order.event()}); err != nil {
		return err
	}
	s.mayBeKilled()
	tx, err := s.db.BeginTx(ctx, nil)
	if err != nil {
		return err
	}
	defer tx.Rollback()
	if err := insert(ctx, tx, order); err != nil {
		return err
	}
	return tx.Commit()
}

// insideTx publishes before COMMIT, and rolls back where that fails. It looks like one transaction and is not: the broker
// takes no part in it. It also holds locks for as long as the broker takes.
func (s *Shop) insideTx(ctx context.Context, order Order) error {
	tx, err := s.db.BeginTx(ctx, nil)
	if err != nil {
		return err
	}
	defer tx.Rollback()
	if err := insert(ctx, tx, order); err != nil {
		return err
	}
	if err := s.broker.Publish(ctx, []core.Message{order.event()}); err != nil {
		return err
	}
	s.mayBeKilled()
	return tx.Commit()
}

// withOutbox writes once. The event is a row beside the order's, and carrying it to the broker is a relay's work, which can
// be done again until it is done.
func (s *Shop) withOutbox(ctx context.Context, order Order) error {
	err := s.outbox.InTx(ctx, s.db, core.InTxOptions{}, func(ctx context.Context, tx *sql.Tx) ([]core.Message, error) {
		return []core.Message{order.event()}, insert(ctx, tx, order)
	})
	if err != nil {
		return err
	}
	s.mayBeKilled()
	return nil
}
