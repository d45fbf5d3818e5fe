// Package inboxtest is a consumer's database for the tests of the inbox's adapters: the effect of a message adds one to its
// row, and who delivers it does not matter.
package inboxtest

import (
	"context"
	"database/sql"
	"log/slog"
	"path/filepath"
	"testing"
	"time"

	"github.com/lockstep-go/lockstep/core"
	"github.com/lockstep-go/lockstep/dialect/sqlite"
	"github.com/lockstep-go/lockstep/inbox"
)

// Shop is a consumer with its database.
type Shop struct {
	DB       *sql.DB
	Consumer *inbox.Consumer
}

// New returns a shop whose dead letters go to topic at broker.
func New(t testing.TB, broker core.Broker, topic string) *Shop {
	t.Helper()
	d, err := sqlite.Open(filepath.Join(t.TempDir(), "consumer.db"), sqlite.Config{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { d.Close() })
	if err := d.MigrateInbox(t.Context()); err != nil {
		t.Fatal(err)
	}
	if _, err := d.DB().ExecContext(t.Context(), `CREATE TABLE effects (id text PRIMARY KEY, n int NOT NULL, place INTEGER)`); err != nil {
		t.Fatal(err)
	}
	box, err := inbox.New(d, inbox.Config{})
	if err != nil {
		t.Fatal(err)
	}
	consumer, err := inbox.NewConsumer(box, d.DB(), "billing", inbox.ConsumerConfig{
		DeadLetters: broker, DeadLetterTopic: topic, RetryDelay: 5 * time.Millisecond, Logger: slog.New(slog.DiscardHandler),
	})
	if err != nil {
		t.Fatal(err)
	}
	return &Shop{d.DB(), consumer}
}

// Effect adds one to the message's row.
func Effect(ctx context.Context, tx *sql.Tx, id string) error {
	_, err := tx.ExecContext(ctx, `INSERT INTO effects (id, n, place) VALUES (?, 1, (SELECT count(*) FROM effects))
ON CONFLICT (id) DO UPDATE SET n = n + 1`, id)
	return err
}

// Await returns when n messages had their effect.
func (s *Shop) Await(t testing.TB, n int) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for have := -1; ; <-tick.C {
		if err := s.DB.QueryRowContext(ctx, `SELECT count(*) FROM effects`).Scan(&have); err != nil {
			t.Fatalf("%d messages of %d had their effect: %v", have, n, err)
		}
		if have >= n {
			return
		}
	}
}

// ExpectOnce fails the test unless exactly these messages had their effect, once each.
func (s *Shop) ExpectOnce(t testing.TB, ids ...string) {
	t.Helper()
	want := map[string]bool{}
	for _, id := range ids {
		want[id] = true
	}
	for id, n := range s.Effects(t) {
		if !want[id] || n != 1 {
			t.Errorf("the message %q had its effect %d times, want once: %t", id, n, want[id])
		}
		delete(want, id)
	}
	if len(want) > 0 {
		t.Errorf("messages without an effect: %v", want)
	}
}

// Effects is how often each message had its effect.
func (s *Shop) Effects(t testing.TB) map[string]int {
	t.Helper()
	rows, err := s.DB.QueryContext(t.Context(), `SELECT id, n FROM effects`)
	if err != nil {
		t.Fatal(err)
	}
	defer rows.Close()
	effects := map[string]int{}
	for rows.Next() {
		var id string
		var n int
		if err := rows.Scan(&id, &n); err != nil {
			t.Fatal(err)
		}
		effects[id] = n
	}
	if err := rows.Err(); err != nil {
		t.Fatal(err)
	}
	return effects
}

// Running runs loop until the returned function is called, which expects that it ended without an error.
func Running(t testing.TB, loop interface {
	Run(ctx context.Context) error
}) (stop func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- loop.Run(ctx) }()
	stopped := false
	stop = func() {
		t.Helper()
		if stopped {
			return
		}
		stopped = true
		cancel()
		select {
		case err := <-ended:
			if err != nil {
				t.Errorf("Run: %v", err)
			}
		case <-time.After(30 * time.Second):
			t.Error("Run has not returned 30 s after its context ended")
		}
	}
	t.Cleanup(stop)
	return stop
}
