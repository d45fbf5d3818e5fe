package outboxtest_test

import (
	"context"
	"database/sql"
	"fmt"
	"log"

	_ "modernc.org/sqlite"

	"github.com/lockstep-go/lockstep/core"
	"github.com/lockstep-go/lockstep/core/outboxtest"
)

// Shop is the application under test.
type Shop struct {
	db     *sql.DB
	outbox *core.Outbox
}

// PlaceOrder stores an order and tells the world about it.
func (s *Shop) PlaceOrder(ctx context.Context, id, item string) error {
	return s.outbox.InTx(ctx, s.db, core.InTxOptions{}, func(ctx context.Context, tx *sql.Tx) ([]core.Message, error) {
		if _, err := tx.ExecContext(ctx, `INSERT INTO orders (id, item) VALUES (?, ?)`, id, item); err != nil {
			return nil, err
		}
		return []core.Message{{Topic: "order.created", Key: id, Payload: []byte(`{"item":"` + item + `"}`)}}, nil
	})
}

// Placing an order enqueues order.created, with the order's id as its key.
func Example() {
	recorder := outboxtest.NewRecorder()
	shop := &Shop{db: openShopDB(), outbox: core.NewOutbox(recorder, core.OutboxConfig{})}
	defer shop.db.Close()

	err := shop.PlaceOrder(context.Background(), "42", "a book")
	fmt.Println("placed:", err)
	fmt.Println(outboxtest.Compare(recorder.All(),
		core.Message{Topic: "order.created", Key: "42", Payload: []byte(`{"item":"a book"}`)}))
	// What a failure looks like.
	fmt.Println(outboxtest.Compare(recorder.Last(),
		core.Message{Topic: "order.created", Key: "43", Payload: []byte(`{"item":"a pen"}`)}))
	// Output:
	// placed: <nil>
	// <nil>
	// message 0: Key is "42", want "43"; Payload is "{\"item\":\"a book\"}", want "{\"item\":\"a pen\"}"
}

func openShopDB() *sql.DB {
	db, err := sql.Open("sqlite", ":memory:")
	if err != nil {
		log.Fatal(err)
	}
	db.SetMaxOpenConns(1) // each connection would have a database of its own
	if _, err := db.Exec(`CREATE TABLE orders (id TEXT PRIMARY KEY, item TEXT)`); err != nil {
		log.Fatal(err)
	}
	return db
}
