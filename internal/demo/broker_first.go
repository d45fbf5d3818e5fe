package demo

import (
	"context"
	"database/sql"
)

// brokerFirst tells the broker and then commits the order.
func brokerFirst(ctx context.Context, s *shop, o order) error {
	if err := s.publish(o); err != nil {
		return err
	}
	s.crashBetweenWrites()
	return s.inTx(ctx, func(tx *sql.Tx) error {
		return insertOrder(ctx, tx, o)
	})
}
