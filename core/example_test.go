package core_test

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"log"
	"os"
	"path/filepath"

	"github.com/lockstep-go/lockstep/core"
	"github.com/lockstep-go/lockstep/core/outboxtest"
	"github.com/lockstep-go/lockstep/dialect/sqlite"
)

// The events are what the function returns: they cannot be forgotten, and they are the last thing before COMMIT.
func ExampleOutbox_InTx() {
	ctx := context.Background()
	dialect, remove := exampleShop() // a SQLite file with an order in it
	defer remove()
	db, outbox := dialect.DB(), core.NewOutbox(dialect, core.OutboxConfig{})

	pay := func(id string) error {
		// Should the database report a deadlock, the whole function is run again.
		return outbox.InTx(ctx, db, core.InTxOptions{Retries: 3}, func(ctx context.Context, tx *sql.Tx) ([]core.Message, error) {
			result, err := tx.ExecContext(ctx, `UPDATE orders SET state = 'paid' WHERE id = ? AND state <> 'paid'`, id)
			if err != nil {
				return nil, err
			}
			if n, err := result.RowsAffected(); n == 0 {
				return core.NoEvents, err // it is paid already, and everybody knows
			}
			return []core.Message{{Topic: "order.paid", Key: id, Payload: []byte(`{"id":"` + id + `"}`)}}, nil
		})
	}
	for range 2 {
		err := pay("42")
		if errors.Is(err, core.ErrCommitUnknown) {
			log.Print("look whether the order is paid: ", err)
		}
		fmt.Println("pay:", err)
	}
	events, err := outboxtest.Committed(ctx, dialect)
	for _, m := range events {
		fmt.Println(m.Topic, m.Key, string(m.Payload))
	}
	fmt.Println(err)
	// Output:
	// pay: <nil>
	// pay: <nil>
	// order.paid 42 {"id":"42"}
	// <nil>
}

// In a transaction that somebody else began and ends, such as an ORM's. See Execer for the line that each takes.
func ExampleOutbox_Enqueue() {
	ctx := context.Background()
	dialect, remove := exampleShop() // a SQLite file with an order in it
	defer remove()
	outbox := core.NewOutbox(dialect, core.OutboxConfig{Waker: core.NewWaker()})

	tx, err := dialect.DB().BeginTx(ctx, nil)
	if err != nil {
		log.Fatal(err)
	}
	defer tx.Rollback()
	if _, err := tx.ExecContext(ctx, `UPDATE orders SET state = 'paid' WHERE id = '42'`); err != nil {
		log.Fatal(err)
	}
	err = outbox.Enqueue(ctx, tx,
		core.Message{Topic: "order.paid", Key: "42"},
		core.Message{Topic: "mail", Key: "42", Payload: []byte("How did you like it?"), Headers: map[string]string{"to": "ann"}},
	)
	if err != nil {
		log.Fatal(err)
	}
	// A message that cannot be sent is refused before anything is written. The transaction goes on.
	fmt.Println(outbox.Enqueue(ctx, tx, core.Message{Key: "42"}))
	if err := tx.Commit(); err != nil {
		log.Fatal(err)
	}
	outbox.Wake() // the relay with the same Waker looks now, instead of at its next poll

	events, err := outboxtest.Committed(ctx, dialect)
	for _, m := range events {
		fmt.Println(m.Topic, m.Key)
	}
	fmt.Println(err)
	// Output:
	// enqueue: message 0: Topic is empty: set it to the topic or exchange that the event goes to
	// order.paid 42
	// mail 42
	// <nil>
}

// exampleShop returns a database with an outbox and an order in it, and what removes it.
func exampleShop() (dialect *sqlite.Dialect, remove func()) {
	dir, err := os.MkdirTemp("", "lockstep")
	if err != nil {
		log.Fatal(err)
	}
	dialect, err = sqlite.Open(filepath.Join(dir, "shop.db"), sqlite.Config{})
	if err == nil {
		err = dialect.Migrate(context.Background())
	}
	if err == nil {
		_, err = dialect.DB().Exec(`CREATE TABLE orders (id TEXT PRIMARY KEY, state TEXT); INSERT INTO orders VALUES ('42', 'new')`)
	}
	if err != nil {
		log.Fatal(err)
	}
	return dialect, func() {
		dialect.Close()
		os.RemoveAll(dir)
	}
}
