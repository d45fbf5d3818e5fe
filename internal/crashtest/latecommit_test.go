package crashtest

import (
	"context"
	"database/sql"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/lockstep-go/lockstep/conformance"
	"github.com/lockstep-go/lockstep/core"
	"github.com/lockstep-go/lockstep/internal/dose"
)

// T1 enqueues and stays open, T2 enqueues and commits, the relay delivers T2, T1 commits: the first fetch that begins
// after T1's commit brings its event, and the event is published from that fetch. Meanwhile a bystander keeps a
// transaction open all along, and others of T1's age roll back.
func TestALateCommitIsPublishedByTheNextFetch(t *testing.T) {
	dsn := newDatabase(t, onPostgres)
	shop := newShop(t, onPostgres, dsn, "orders")
	inner, err := onPostgres.open(dsn)
	if err != nil {
		t.Fatal(err)
	}
	defer inner.Close()
	dialect, recorder := &countingDialect{Dialect: inner, first: map[string]int{}}, &conformance.Recorder{}
	relay, err := core.NewRelay(dialect, recorder, core.RelayConfig{LeaseTTL: patience})
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- relay.Run(ctx) }()
	defer func() {
		stop()
		if err := <-done; err != nil {
			t.Errorf("Run: %v", err)
		}
	}()

	bystander := begin(t, shop.db)
	defer bystander.Rollback()
	if _, err := bystander.ExecContext(t.Context(), `INSERT INTO orders VALUES ('bystander', 1, 1)`); err != nil {
		t.Fatal(err)
	}
	for round := range dose.Of(t, 30, 1_000) {
		late, early := fmt.Sprintf("late %d", round), fmt.Sprintf("early %d", round)
		t0, t1, t2 := begin(t, shop.db), begin(t, shop.db), begin(t, shop.db)
		enqueue(t, shop, t0, fmt.Sprintf("never %d", round))
		enqueue(t, shop, t1, late)
		enqueue(t, shop, t2, early)
		end(t, t2.Commit)
		awaitStored(t, recorder, early)
		if round%2 == 0 {
			end(t, t0.Rollback)
		}
		end(t, t1.Commit)
		begun := dialect.begun() // every later fetch begins after the commit
		awaitStored(t, recorder, late)
		if first := dialect.firstWith(late); first > begun+1 {
			t.Errorf("round %d: the event came with fetch %d, want %d, the first after its commit, or one before", round, first, begun+1)
		}
		if round%2 != 0 {
			end(t, t0.Rollback)
		}
	}
	deliveries := map[string]int{}
	for _, d := range recorder.Stored() {
		deliveries[d.Message.ID]++
		if deliveries[d.Message.ID] > 1 {
			t.Errorf("%s was delivered %d times", d.Message.ID, deliveries[d.Message.ID])
		}
	}
}

func begin(t *testing.T, db *sql.DB) *sql.Tx {
	t.Helper()
	tx, err := db.BeginTx(t.Context(), nil)
	if err != nil {
		t.Fatal(err)
	}
	return tx
}

func end(t *testing.T, how func() error) {
	t.Helper()
	if err := how(); err != nil {
		t.Fatal(err)
	}
}

func enqueue(t *testing.T, s *shop, tx *sql.Tx, id string) {
	t.Helper()
	if err := s.outbox.Enqueue(t.Context(), tx, core.Message{ID: id, Topic: s.topic, Key: id}); err != nil {
		t.Fatal(err)
	}
}

// awaitStored waits until the recorder has the message of that id.
func awaitStored(t *testing.T, recorder *conformance.Recorder, id string) {
	t.Helper()
	deadline := time.Now().Add(patience)
	for tick := time.NewTicker(time.Millisecond); time.Now().Before(deadline); <-tick.C {
		if slices.ContainsFunc(recorder.Stored(), func(d conformance.Delivery) bool { return d.Message.ID == id }) {
			return
		}
	}
	t.Fatalf("%s is not delivered after %v", id, patience)
}

// countingDialect numbers fetches, from 1, and notes which was the first to bring each message.
type countingDialect struct {
	core.Dialect

	mu      sync.Mutex
	fetches int
	first   map[string]int // by id
}

func (d *countingDialect) Open(ctx context.Context) (core.Session, error) {
	s, err := d.Dialect.Open(ctx)
	return countingSession{s, d}, err
}

func (d *countingDialect) begun() int {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.fetches
}

func (d *countingDialect) firstWith(id string) int {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.first[id]
}

type countingSession struct {
	core.Session
	d *countingDialect
}

func (s countingSession) Fetch(ctx context.Context, request core.FetchRequest) (core.FetchResult, error) {
	s.d.mu.Lock()
	s.d.fetches++
	number := s.d.fetches
	s.d.mu.Unlock()
	result, err := s.Session.Fetch(ctx, request)
	s.d.mu.Lock()
	defer s.d.mu.Unlock()
	for _, r := range result.Records {
		if s.d.first[r.Message.ID] == 0 {
			s.d.first[r.Message.ID] = number
		}
	}
	return result, err
}
