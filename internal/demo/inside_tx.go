package demo

import (
	"context"
	"database/sql"
)

// insideTx tells the broker from inside the transaction, so that a publish that fails rolls the order back.
func insideTx(ctx context.Context, s *shop, o order) error {
	return s.inTx(ctx, func(tx *sql.Tx) error {
		if err := insertOrder(ctx, tx, o); err != nil {
			return err
		}
		if err := s.publish(o); err != nil {
			return err
		}
		s.crashBetweenWrites()
		return nil
	})
}
