package main

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"

	amqp091 "github.com/rabbitmq/amqp091-go"

	"github.com/lockstep-go/lockstep/inbox"
)

// limit is what an account may spend before somebody looks at it.
const limit = 1000_00

// FraudDetection adds up what accounts spend. A sum is an effect that must not happen twice for one event: the inbox notes
// the event's id in the transaction that adds.
type FraudDetection struct {
	db  *sql.DB
	box *inbox.Inbox
}

func openFraudDetection(ctx context.Context, db *sql.DB, box *inbox.Inbox) (*FraudDetection, error) {
	for _, statement := range []string{
		`CREATE TABLE IF NOT EXISTS spending (account VARCHAR(40) PRIMARY KEY, cents INT NOT NULL)`,
		`DELETE FROM spending`, // a new day
	} {
		if _, err := db.ExecContext(ctx, statement); err != nil {
			return nil, err
		}
	}
	return &FraudDetection{db, box}, nil
}

// Work settles n events, and says what it found. It forgets to acknowledge the first one, as a consumer does that is killed
// after its COMMIT, and gets it again. A consumer that forgets nothing, and knows what to do about events that fail, is
// inbox/amqp's.
func (f *FraudDetection) Work(ctx context.Context, deliveries <-chan amqp091.Delivery, n int) error {
	forgetful := true
	for settled := 0; settled < n; {
		delivery, open := <-deliveries
		if !open {
			return errors.New("the connection is gone")
		}
		first := false
		err := f.box.Handle(ctx, f.db, "fraud-detection", delivery.MessageId, func(ctx context.Context, tx *sql.Tx) error {
			first = true
			return f.add(ctx, tx, delivery.Body)
		})
		if err != nil {
			return err
		}
		// nil: the effect is committed, by this delivery or by an earlier one. Now the event can be acknowledged.
		if !first {
			fmt.Println("fraud detection: an event came again, and was not counted again")
		}
		if forgetful {
			forgetful = false
			if err := delivery.Nack(false, true); err != nil { // back into the queue
				return err
			}
			continue
		}
		if err := delivery.Ack(false); err != nil {
			return err
		}
		settled++
	}
	return f.report(ctx)
}

func (f *FraudDetection) add(ctx context.Context, tx *sql.Tx, payload []byte) error {
	var event Spent
	if err := json.Unmarshal(payload, &event); err != nil {
		return err
	}
	_, err := tx.ExecContext(ctx, `INSERT INTO spending VALUES (?, ?) ON DUPLICATE KEY UPDATE cents = cents + ?`,
		event.Account, event.Cents, event.Cents)
	return err
}

func (f *FraudDetection) report(ctx context.Context) error {
	rows, err := f.db.QueryContext(ctx, `SELECT account, cents FROM spending ORDER BY account`)
	if err != nil {
		return err
	}
	defer rows.Close()
	for rows.Next() {
		var account string
		var cents int
		if err := rows.Scan(&account, &cents); err != nil {
			return err
		}
		verdict := "fine"
		if cents > limit {
			verdict = "look at it"
		}
		fmt.Printf("fraud detection: %s spent %d, %s\n", account, cents/100, verdict)
	}
	return rows.Err()
}
