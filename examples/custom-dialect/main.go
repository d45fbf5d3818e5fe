// Command custom-dialect carries events from an outbox of one's own: SQLite, through another driver than Lockstep's. It is
// a module of its own because of that driver. dialect.go is where to begin reading.
package main

import (
	"context"
	"database/sql"
	"fmt"
	"log"
	"os"
	"path/filepath"

	"github.com/lockstep-go/lockstep/core"
)

func main() {
	if err := run(context.Background()); err != nil {
		log.Fatal(err)
	}
}

// printer is a broker that stores nothing: it is the dialect that this program is about.
type printer struct{}

func (printer) Publish(_ context.Context, msgs []core.Message) error {
	for _, m := range msgs {
		fmt.Printf("received %s\n", m.Payload)
	}
	return nil
}

func run(ctx context.Context) error {
	dir, err := os.MkdirTemp("", "custom-dialect-*")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	dialect, err := Open(ctx, filepath.Join(dir, "shop.db"))
	if err != nil {
		return err
	}
	defer dialect.Close()
	outbox := core.NewOutbox(dialect, core.OutboxConfig{})
	for _, item := range []string{"a book", "a pen"} {
		err := outbox.InTx(ctx, dialect.DB(), core.InTxOptions{}, func(context.Context, *sql.Tx) ([]core.Message, error) {
			return []core.Message{{Topic: "orders", Key: "42", Payload: []byte(item)}}, nil
		})
		if err != nil {
			return err
		}
	}
	relay, err := core.NewRelay(dialect, printer{}, core.RelayConfig{})
	if err != nil {
		return err
	}
	_, err = relay.RunOnce(ctx)
	return err
}
