package main

import (
	"context"
	"database/sql"
	"slices"
	"testing"

	"github.com/lockstep-go/lockstep/config"
	"github.com/lockstep-go/lockstep/config/all"
	"github.com/lockstep-go/lockstep/core"
)

// countedDialect counts the sessions that are opened.
type countedDialect struct {
	config.Dialect
	opened int
}

func (d *countedDialect) Open(ctx context.Context) (core.Session, error) {
	d.opened++
	return d.Dialect.Open(ctx)
}

// Paused topics are found behind blocked keys, and not by reading all of these.
func TestPausedTopicsAreFoundBehindBlockedKeys(t *testing.T) {
	for name, address := range databaseAddresses {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			where := address(t)
			opened, err := all.Registry().OpenDialect(config.NewURL(where), config.Options{})
			if err != nil {
				t.Fatal(err)
			}
			defer opened.Close()
			var db *sql.DB
			if own, ok := opened.(interface{ DB() *sql.DB }); ok {
				db = own.DB()
			} else {
				db = applicationPool(t, where)
			}
			if err := opened.Migrate(t.Context()); err != nil {
				t.Fatal(err)
			}
			err = core.NewOutbox(opened, core.OutboxConfig{}).InTx(t.Context(), db, core.InTxOptions{}, func(context.Context, *sql.Tx) (msgs []core.Message, err error) {
				for _, key := range []string{"1", "2", "3", "4", "\U0010FFFF", "ÿ"} {
					for _, topic := range []string{"b", "d", "e"} {
						msgs = append(msgs, core.Message{ID: core.NewID(), Topic: topic, Key: key, Payload: []byte("poison")})
					}
				}
				return msgs, nil
			})
			if err != nil {
				t.Fatal(err)
			}
			relay, err := core.NewRelay(opened, fakeBroker{}, core.RelayConfig{})
			if err != nil {
				t.Fatal(err)
			}
			if _, err := relay.RunOnce(t.Context()); err != nil {
				t.Fatal(err)
			}
			dialect := &countedDialect{Dialect: opened}
			op := core.NewOperator(dialect)
			want := []string{"a", "c", "d", "f"} // of which d has blocked keys too
			for _, topic := range want {
				if _, err := op.PauseTopic(t.Context(), topic); err != nil {
					t.Fatal(err)
				}
			}
			for page, most := range map[int]int{1: 7, 2: 7, 1000: 1} { // six topics, and one look past the last
				dialect.opened = 0
				if got, err := pausedTopics(t.Context(), op, page); err != nil || !slices.Equal(got, want) || dialect.opened > most {
					t.Errorf("in pages of %d: got %q, %v in %d looks, want %q in %d at most", page, got, err, dialect.opened, want, most)
				}
			}
		})
	}
}
