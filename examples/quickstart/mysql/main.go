// Command mysql is an application with MySQL or MariaDB: it commits an order and its event. A relay in another process
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
	"github.com/lockstep-go/lockstep/dialect/mysql"
)

func main() {
	if len(os.Args) != 2 {
		log.Fatal("usage: mysql URL")
	}
	ctx, dsn := context.Background(), os.Args[1]

	db := must(mysql.OpenDB(dsn)) // or a *sql.DB of your own
	must(db.ExecContext(ctx, `CREATE TABLE IF NOT EXISTS orders (id INT AUTO_INCREMENT PRIMARY KEY, item TEXT)`))
	dialect := must(mysql.Open(dsn, mysql.Config{}))
	check(dialect.CheckDB(ctx, db)) // can this pool enqueue?
	outbox := core.NewOutbox(dialect, core.OutboxConfig{})

	retry := core.InTxOptions{Retries: 3} // after a deadlock, from BEGIN on
	check(outbox.InTx(ctx, db, retry, func(ctx context.Context, tx *sql.Tx) ([]core.Message, error) {
		result, err := tx.ExecContext(ctx, `INSERT INTO orders (item) VALUES ('a book')`)
		if err != nil {
			return nil, err
		}
		id, err := result.LastInsertId()
		return []core.Message{{Topic: "orders", Key: strconv.FormatInt(id, 10), Payload: []byte(`{"item":"a book"}`)}}, err
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
