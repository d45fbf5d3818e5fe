package main

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"

	"github.com/lockstep-go/lockstep/broker/amqp"
	"github.com/lockstep-go/lockstep/core"
)

var errNoFunds = errors.New("no funds")

// Spent is the event of a transaction.
type Spent struct {
	Account string `json:"account"`
	Cents   int    `json:"cents"`
}

// Bank keeps accounts. Each transaction is a row, a new balance and an event, or none of them.
type Bank struct {
	db       *sql.DB
	outbox   *core.Outbox
	exchange string
}

func openBank(ctx context.Context, db *sql.DB, outbox *core.Outbox, exchange string) (*Bank, error) {
	for _, statement := range []string{
		`CREATE TABLE IF NOT EXISTS accounts (name VARCHAR(40) PRIMARY KEY, cents INT NOT NULL)`,
		`CREATE TABLE IF NOT EXISTS transactions (id INT AUTO_INCREMENT PRIMARY KEY, account VARCHAR(40), cents INT)`,
		`REPLACE INTO accounts VALUES ('ann', 100000), ('ben', 100000)`,
	} {
		if _, err := db.ExecContext(ctx, statement); err != nil {
			return nil, err
		}
	}
	return &Bank{db, outbox, exchange}, nil
}

// Spend takes cents from an account. Where it has too few it returns errNoFunds, and nothing has happened. A deadlock rolls
// the transaction back and it is run again, three times at most.
func (b *Bank) Spend(ctx context.Context, account string, cents int) error {
	return b.outbox.InTx(ctx, b.db, core.InTxOptions{Retries: 3}, func(ctx context.Context, tx *sql.Tx) ([]core.Message, error) {
		_, err := tx.ExecContext(ctx, `INSERT INTO transactions (account, cents) VALUES (?, ?)`, account, cents)
		if err != nil {
			return nil, err
		}
		result, err := tx.ExecContext(ctx, `UPDATE accounts SET cents = cents - ? WHERE name = ? AND cents >= ?`, cents, account, cents)
		if err != nil {
			return nil, err
		}
		if n, err := result.RowsAffected(); err != nil || n == 0 {
			return nil, errors.Join(errNoFunds, err) // rolls back the transaction's row as well
		}
		payload, err := json.Marshal(Spent{account, cents})
		return []core.Message{{
			Topic: b.exchange, Key: account, Payload: payload,
			Headers: map[string]string{amqp.RoutingKeyHeader: "transaction.recorded", amqp.ContentTypeHeader: "application/json"},
		}}, err
	})
}
