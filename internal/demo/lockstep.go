package demo

import (
	"context"
	"database/sql"

	"github.com/lockstep-go/lockstep/core"
)

// lockstep writes the order and its event in one transaction. A relay, see runRelay, tells the broker.
func lockstep(ctx context.Context, s *shop, o order) error {
	err := s.inTx(ctx, func(tx *sql.Tx) error {
		if err := insertOrder(ctx, tx, o); err != nil {
			return err
		}
		event := core.Message{Topic: s.topic, Key: o.ID, Payload: o.payload()}
		if err := s.outbox.Enqueue(ctx, tx, event); err != nil {
			return err
		}
		s.crashBeforeCommit()
		return nil
	})
	if err == nil {
		s.crashAfterCommit()
	}
	return err
}
