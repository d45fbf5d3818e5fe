// Command custom-broker carries events from SQLite to a broker of one's own: files with a JSON object on each line.
//
//	broker.go        the broker, written as the tutorial
//	lock_unix.go     what two processes need that write to one topic
//	broker_test.go   the conformance suite on it
//	power_test.go    its power cut, which loses what was not synced
package main

import (
	"context"
	"database/sql"
	"fmt"
	"log"
	"os"
	"path/filepath"

	"github.com/lockstep-go/lockstep/core"
	"github.com/lockstep-go/lockstep/dialect/sqlite"
)

func main() {
	if err := run(context.Background()); err != nil {
		log.Fatal(err)
	}
}

func run(ctx context.Context) error {
	dir, err := os.MkdirTemp("", "custom-broker-*")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	dialect, err := sqlite.Open(filepath.Join(dir, "shop.db"), sqlite.Config{})
	if err != nil {
		return err
	}
	defer dialect.Close()
	if err := dialect.Migrate(ctx); err != nil {
		return err
	}
	outbox := core.NewOutbox(dialect, core.OutboxConfig{})
	for _, item := range []string{"a book", "a pen"} {
		err := outbox.InTx(ctx, dialect.DB(), core.InTxOptions{}, func(context.Context, *sql.Tx) ([]core.Message, error) {
			return []core.Message{{Topic: "orders", Key: "42", Payload: []byte(item)}}, nil
		})
		if err != nil {
			return err
		}
	}

	broker := NewFileBroker(dir)
	relay, err := core.NewRelay(dialect, broker, core.RelayConfig{})
	if err != nil {
		return err
	}
	if _, err := relay.RunOnce(ctx); err != nil {
		return err
	}
	stored, err := broker.Read("orders")
	for _, m := range stored {
		fmt.Printf("%s of %s\n", m.Payload, m.Key)
	}
	return err
}
