package main

import (
	"context"
	"database/sql"
)

// Once makes an effect happen once for each event. It notes the event's id in the transaction of the effect: both are
// committed, or neither is.
//
// Lockstep's inbox does this, with retries, dead letters and the forgetting of old ids. It takes the place of this file.
type Once struct{ db *sql.DB }

func openOnce(ctx context.Context, db *sql.DB) (*Once, error) {
	_, err := db.ExecContext(ctx, `CREATE TABLE IF NOT EXISTS received (id VARBINARY(255) PRIMARY KEY)`)
	return &Once{db}, err
}

// Do runs effect in a transaction, unless one that ran it for this id has committed. It reports whether it did.
func (o *Once) Do(ctx context.Context, id string, effect func(tx *sql.Tx) error) (first bool, err error) {
	tx, err := o.db.BeginTx(ctx, nil)
	if err != nil {
		return false, err
	}
	defer tx.Rollback()
	result, err := tx.ExecContext(ctx, `INSERT IGNORE INTO received VALUES (?)`, id)
	if err != nil {
		return false, err
	}
	if n, err := result.RowsAffected(); err != nil || n == 0 {
		return false, err
	}
	if err := effect(tx); err != nil {
		return false, err
	}
	return true, tx.Commit()
}
