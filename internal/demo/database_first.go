package demo

import (
	"context"
	"database/sql"
)

// databaseFirst commits the order and then tells the broker.
func databaseFirst(ctx context.Context, s *shop, o order) error {
	err := s.inTx(ctx, func(tx *sql.Tx) error {
		return insertOrder(ctx, tx, o)
	})
	if err != nil {
		return err
	}
	s.crashBetweenWrites()
	return s.publish(o)
}
