// Command multi-broker delivers an event to the broker that its configuration names. The configurations in this folder
// differ in one line, and the program knows no broker at all.
package main

import (
	"context"
	"database/sql"
	"flag"
	"fmt"
	"log"
	"log/slog"
	"os"

	"github.com/lockstep-go/lockstep/config"
	"github.com/lockstep-go/lockstep/config/all"
	"github.com/lockstep-go/lockstep/core"
	"github.com/lockstep-go/lockstep/dialect/sqlite"
)

func main() {
	file := flag.String("config", "stdout.yaml", "configuration `file`")
	topic := flag.String("topic", "orders", "topic of the event")
	key := flag.String("key", "42", "key of the event")
	flag.Parse()
	if err := run(context.Background(), *file, *topic, *key); err != nil {
		log.Fatal(err)
	}
}

func run(ctx context.Context, file, topic, key string) error {
	c, err := config.Load(config.Source{File: file})
	if err != nil {
		return err
	}
	opened, err := all.Registry().Open(c, slog.Default())
	if err != nil {
		return err
	}
	defer opened.Close()

	outbox := opened.Outboxes[0]
	if err := outbox.Dialect.Migrate(ctx); err != nil {
		return err
	}
	if err := place(ctx, os.Getenv("SHOP_DB"), topic, key); err != nil {
		return err
	}
	relay, err := core.NewRelay(outbox.Dialect, outbox.Broker, outbox.Relay)
	if err != nil {
		return err
	}
	held, err := relay.RunOnce(ctx)
	if err != nil {
		return err
	}
	if len(held) > 0 {
		return fmt.Errorf("held back, for what the log says: topic %q, key %q", held[0].Topic, held[0].Key)
	}
	fmt.Println("delivered")
	return nil
}

// place is the application: it commits an order and its event.
func place(ctx context.Context, path, topic, key string) error {
	dialect, err := sqlite.Open(path, sqlite.Config{})
	if err != nil {
		return err
	}
	defer dialect.Close()
	outbox := core.NewOutbox(dialect, core.OutboxConfig{})
	return outbox.InTx(ctx, dialect.DB(), core.InTxOptions{}, func(context.Context, *sql.Tx) ([]core.Message, error) {
		return []core.Message{{Topic: topic, Key: key, Payload: []byte("a book")}}, nil
	})
}
