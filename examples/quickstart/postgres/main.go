// Command postgres is an application with PostgreSQL: it commits an order and its event. A relay in another process
// delivers the event: lockstep relay.
package main

import (
	"context"
	"database/sql"
	"fmt"
	"log"
	"os"
	"strconv"

	"github.com/lockstep-go/lockstep/core"
	"github.com/lockstep-go/lockstep/dialect/postgres"
)

func main() {
	if len(os.Args) != 2 {
		log.Fatal("usage: postgres URL")
	}
	ctx, dsn := context.Background(), os.Args[1]

	db := must(postgres.OpenDB(dsn)) // or a *sql.DB of your own, of any driver
	must(db.ExecContext(ctx, `CREATE TABLE IF NOT EXISTS orders (id int GENERATED ALWAYS AS IDENTITY, item text)`))
	dialect := must(postgres.Open(dsn, postgres.Config{}))
	check(dialect.CheckDB(ctx, db)) // do this pool's transactions reach that outbox?
	outbox := core.NewOutbox(dialect, core.OutboxConfig{})

	check(outbox.InTx(ctx, db, core.InTxOptions{}, func(ctx context.Context, tx *sql.Tx) ([]core.Message, error) {
		var id int
		if err := tx.QueryRowContext(ctx, `INSERT INTO orders (item) VALUES ('a book') RETURNING id`).Scan(&id); err != nil {
			return nil, err
		}
		return []core.Message{{Topic: "orders", Key: strconv.Itoa(id), Payload: []byte(`{"item":"a book"}`)}}, nil
	}))
	fmt.Println("the order and its event are committed")
}

func check(err error) {
	if err != nil {
		log.Fatal(err)
	}
}

func must[T any](result T, err error) T {
	check(err)
	return result
}
