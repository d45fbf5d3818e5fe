package sqlite_test

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/lockstep-go/lockstep/conformance"
	"github.com/lockstep-go/lockstep/core"
	"github.com/lockstep-go/lockstep/dialect/sqlite"
	"github.com/lockstep-go/lockstep/internal/dose"
)

// complaints is the log of relays, from warnings on.
type complaints struct {
	mu   sync.Mutex
	text strings.Builder
}

func (c *complaints) Write(p []byte) (int, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.text.Write(p)
}

func (c *complaints) logger() *slog.Logger {
	return slog.New(slog.NewTextHandler(c, &slog.HandlerOptions{Level: slog.LevelWarn}))
}

func (c *complaints) String() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.text.String()
}

// work has three producers write their orders and events for a while, as fast as they can, and two relays deliver.
func work(ctx context.Context, d *sqlite.Dialect, name string, lasting time.Duration) (a answer, err error) {
	var broker conformance.Recorder
	var complaints complaints
	outbox := core.NewOutbox(d, core.OutboxConfig{})
	relaying, stop := context.WithCancel(ctx)
	errs := make(chan error, 5)
	var relays, producers sync.WaitGroup
	for range 2 {
		relay, err := core.NewRelay(d, &broker, core.RelayConfig{Logger: complaints.logger()})
		if err != nil {
			stop()
			return a, err
		}
		relays.Go(func() { errs <- relay.Run(relaying) })
	}
	committed, slowest := make([][]string, 3), make([]time.Duration, 3)
	for p := range committed {
		producer := fmt.Sprintf("%s-%d", name, p)
		producers.Go(func() {
			end := time.Now().Add(lasting)
			var err error
			for n := 0; err == nil && (n == 0 || time.Now().Before(end)); n++ {
				begun := time.Now()
				event := core.Message{ID: fmt.Sprintf("%s-%d", producer, n), Topic: "orders", Key: producer}
				err = outbox.InTx(ctx, d.DB(), core.InTxOptions{}, func(ctx context.Context, tx *sql.Tx) ([]core.Message, error) {
					return []core.Message{event}, orders(ctx, tx, producer, n)
				})
				committed[p], slowest[p] = append(committed[p], event.ID), max(slowest[p], time.Since(begun))
			}
			errs <- err
		})
	}
	producers.Wait()
	stop()
	relays.Wait()
	close(errs)
	for e := range errs {
		err = errors.Join(err, e)
	}
	for _, delivery := range broker.Stored() {
		a.Delivered = append(a.Delivered, delivery.Message.ID)
	}
	a.Committed, a.Slowest, a.Complaints = slices.Concat(committed...), slices.Max(slowest), complaints.String()
	return a, errors.Join(err, errors.Join(broker.Misuse()...))
}

// orders reads before it writes, as applications do.
func orders(ctx context.Context, tx *sql.Tx, producer string, n int) error {
	var have int
	if err := tx.QueryRowContext(ctx, `SELECT count(*) FROM orders WHERE producer = ?`, producer).Scan(&have); err != nil {
		return err
	}
	if have != n {
		return fmt.Errorf("%s has %d orders, want %d", producer, have, n)
	}
	_, err := tx.ExecContext(ctx, `INSERT INTO orders (producer) VALUES (?)`, producer)
	return err
}

// A process's transactions wait for each other in its pool, where each has its turn, and not in SQLite, where one may wait for
// seconds. Who reads waits for none of them.
func TestAProcessHasOneWriter(t *testing.T) {
	t.Parallel()
	d := open(t, filepath.Join(t.TempDir(), "shop.db"), sqlite.Config{})
	if n := d.DB().Stats().MaxOpenConnections; n != 1 {
		t.Errorf("a process has %d connections that write, want 1", n)
	}
	s, err := d.Open(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	tx, err := d.DB().BeginTx(t.Context(), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer tx.Rollback()
	if err := d.Enqueue(t.Context(), tx, []core.Message{{Topic: "t"}}); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Fetch(t.Context(), core.FetchRequest{Limit: 1, MaxBytes: 1}); err != nil {
		t.Errorf("Fetch beside a transaction: %v", err)
	}
}

// Two processes, each with three producers and two relays, on one file, as fast as it goes: no SQLITE_BUSY reaches any of
// them, and every event is delivered. SQLite's lock is not fair between processes, so a relay may be told that its time
// is over, which it says, and goes on.
func TestProcessesShareAFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "outbox.db")
	d := open(t, path, sqlite.Config{})
	execute(t, d.DB(), `CREATE TABLE orders (producer TEXT NOT NULL); CREATE INDEX by_producer ON orders (producer)`)
	seconds := dose.Of(t, 3.0, 60.0)
	var children []*child
	for _, name := range []string{"a", "b"} {
		children = append(children, startChild(t, order{Do: "work", Path: path, Name: name, Seconds: seconds}))
	}
	var committed, delivered []string
	for _, c := range children {
		a := c.end(t)
		if a.Error != "" || strings.Contains(a.Complaints, "SQLITE_BUSY") {
			t.Errorf("a process was told: %s\n%s", a.Error, a.Complaints)
		}
		committed, delivered = append(committed, a.Committed...), append(delivered, a.Delivered...)
		t.Logf("a process committed %d orders, the slowest in %v, and delivered %d events; it was warned:\n%s",
			len(a.Committed), a.Slowest, len(a.Delivered), a.Complaints)
	}
	if longest := longestTurn(t, d); longest > 500 {
		t.Errorf("while one process waited, the other wrote %d orders, want at most 500", longest)
	} else {
		t.Logf("while one process waited, the other wrote at most %d orders", longest)
	}
	delivered = append(delivered, deliver(t, d)...)
	t.Logf("%d deliveries of %d events", len(delivered), len(committed))
	slices.Sort(committed)
	slices.Sort(delivered)
	if different := slices.Compact(delivered); !slices.Equal(different, committed) {
		t.Errorf("delivered are %d different events, want each of the %d that were committed", len(different), len(committed))
	}
}

// longestTurn is the largest number of orders that a process wrote in a row, between two of the other's. Each always had
// one more to write.
func longestTurn(t *testing.T, d *sqlite.Dialect) (longest int) {
	t.Helper()
	turn, seen, last := 0, map[byte]bool{}, byte(0)
	for _, producer := range query(t, d.DB(), `SELECT producer FROM orders ORDER BY rowid`) {
		if producer[0] != last {
			if len(seen) == 2 { // the first turn is also what one process wrote before the other had started
				longest = max(longest, turn)
			}
			turn, last = 0, producer[0]
			seen[last] = true
		}
		turn++
	}
	return longest
}

// deliver delivers what is left, and returns the ids.
func deliver(t *testing.T, d *sqlite.Dialect) (ids []string) {
	t.Helper()
	var broker conformance.Recorder
	relay, err := core.NewRelay(d, &broker, core.RelayConfig{})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := relay.RunOnce(t.Context()); err != nil {
		t.Fatal(err)
	}
	for _, delivery := range broker.Stored() {
		ids = append(ids, delivery.Message.ID)
	}
	return ids
}
