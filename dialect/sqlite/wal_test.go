package sqlite_test

import (
	"context"
	"database/sql"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/lockstep-go/lockstep/conformance"
	"github.com/lockstep-go/lockstep/core"
	"github.com/lockstep-go/lockstep/dialect/sqlite"
	"github.com/lockstep-go/lockstep/internal/dose"
)

// mostWAL is what the WAL may grow to while nobody reads for long.
const mostWAL = 10 << 20

func walSize(t *testing.T, path string) int64 {
	t.Helper()
	info, err := os.Stat(path + "-wal")
	if err != nil {
		t.Fatal(err)
	}
	return info.Size()
}

// fill enqueues so many events of size bytes in transactions of ten.
func fill(t *testing.T, d *sqlite.Dialect, outbox *core.Outbox, events, size int) {
	t.Helper()
	for range events / 10 {
		err := outbox.InTx(t.Context(), d.DB(), core.InTxOptions{}, func(context.Context, *sql.Tx) (msgs []core.Message, err error) {
			for range 10 {
				msgs = append(msgs, core.Message{Topic: "t", Payload: make([]byte, size)})
			}
			return msgs, nil
		})
		if err != nil {
			t.Fatal(err)
		}
	}
}

// stalledBroker answers nothing before it is released.
type stalledBroker struct {
	conformance.Recorder
	called, released chan struct{}
}

func (b *stalledBroker) Publish(ctx context.Context, msgs []core.Message) error {
	select {
	case b.called <- struct{}{}:
	default:
	}
	select {
	case <-b.released:
		return b.Recorder.Publish(ctx, msgs)
	case <-ctx.Done():
		return ctx.Err()
	}
}

// running runs a relay; stop ends it.
func running(t *testing.T, d *sqlite.Dialect, broker core.Broker, config core.RelayConfig) (stop func()) {
	t.Helper()
	relay, err := core.NewRelay(d, broker, config)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- relay.Run(ctx) }()
	return func() {
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	}
}

// A relay whose calls do not return has no rows open: the WAL starts again from its beginning, however long that lasts and
// whatever the application writes meanwhile.
func TestTheWALStaysSmallWhileTheBrokerStalls(t *testing.T) {
	path := filepath.Join(t.TempDir(), "outbox.db")
	d := open(t, path, sqlite.Config{})
	waker := core.NewWaker()
	outbox := core.NewOutbox(d, core.OutboxConfig{Waker: waker})
	broker := &stalledBroker{called: make(chan struct{}), released: make(chan struct{})}
	stop := running(t, d, broker, core.RelayConfig{Waker: waker, PublishTimeout: 10 * time.Minute})
	fill(t, d, outbox, 10, 300)
	<-broker.called

	total, largest := 0, int64(0)
	for end := time.Now().Add(dose.Of(t, 0, time.Minute)); total < 24<<20 || time.Now().Before(end); total += 100 * 10_000 {
		fill(t, d, outbox, 100, 10_000)
		largest = max(largest, walSize(t, path))
	}
	t.Logf("%d MiB of events were enqueued, the WAL had at most %d KiB", total>>20, largest>>10)
	if largest > mostWAL {
		t.Errorf("the WAL grew to %d bytes, want at most %d", largest, mostWAL)
	}
	close(broker.released)
	stop()
}

// A report that somebody left open keeps the WAL growing, as it does without Lockstep. The outbox goes on beside it, and
// the file shrinks by itself when the report ends.
func TestAHeldSnapshotCostsOnlyTheWAL(t *testing.T) {
	path := filepath.Join(t.TempDir(), "outbox.db")
	d := open(t, path, sqlite.Config{})
	waker := core.NewWaker()
	outbox := core.NewOutbox(d, core.OutboxConfig{Waker: waker})
	var broker conformance.Recorder
	stop := running(t, d, &broker, core.RelayConfig{Waker: waker})

	reader := pool(t, "file:"+path)
	snapshot, err := reader.BeginTx(t.Context(), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer snapshot.Rollback()
	if _, err := snapshot.ExecContext(t.Context(), `SELECT count(*) FROM outbox`); err != nil {
		t.Fatal(err)
	}
	first := pollTime(t, d)
	// 2000 events per second, in 200 transactions.
	seconds := dose.Of(t, 3, 120)
	sent, started := 0, time.Now()
	for tick := time.NewTicker(5 * time.Millisecond); sent < seconds*2000; sent += 10 {
		<-tick.C
		fill(t, d, outbox, 10, 300)
	}
	held, last := walSize(t, path), pollTime(t, d)
	begun := time.Now()
	stop()
	rest := len(deliver(t, d))
	t.Logf("after %v: the WAL has %d MiB, a poll takes %v, at the beginning %v; %d of %d events were left, delivered in %v",
		time.Since(started).Round(time.Second), held>>20, last, first, rest, sent, time.Since(begun))
	if delivered := len(broker.Stored()) + rest; delivered != sent {
		t.Errorf("%d events were delivered beside the snapshot, want %d", delivered, sent)
	}
	if held < mostWAL {
		t.Errorf("the WAL has %d bytes: the snapshot held nothing, and this test shows nothing", held)
	}
	logRates(t, d, open(t, filepath.Join(t.TempDir(), "other.db"), sqlite.Config{}), dose.Of(t, 0, 9))

	if err := snapshot.Rollback(); err != nil {
		t.Fatal(err)
	}
	for n := 0; walSize(t, path) > mostWAL; n++ {
		if n > 1000 {
			t.Fatalf("the WAL still has %d bytes after 1000 more commits", walSize(t, path))
		}
		fill(t, d, outbox, 10, 300)
	}
}

// logRates drains a backlog of each file in turns, so many times, and says at which share of usual's rate beside was drained.
func logRates(t *testing.T, beside, usual *sqlite.Dialect, rounds int) {
	t.Helper()
	var shares []float64
	for range rounds {
		besideTook, usualTook := drain(t, beside), drain(t, usual)
		shares = append(shares, usualTook.Seconds()/besideTook.Seconds())
		t.Logf("a backlog was drained in %v usually, in %v beside a snapshot", usualTook, besideTook)
	}
	if rounds > 0 {
		slices.Sort(shares)
		t.Logf("result: %d rounds: drained at %.2f of the usual rate (median), %.2f to %.2f", rounds, shares[rounds/2], shares[0], shares[rounds-1])
	}
}

// drain enqueues a backlog, and is the time that a relay takes for it.
func drain(t *testing.T, d *sqlite.Dialect) time.Duration {
	t.Helper()
	const backlog, each = 50_000, 5_000
	msgs := slices.Repeat([]core.Message{{Topic: "t", Payload: make([]byte, 300)}}, each)
	for range backlog / each {
		err := core.NewOutbox(d, core.OutboxConfig{}).InTx(t.Context(), d.DB(), core.InTxOptions{},
			func(context.Context, *sql.Tx) ([]core.Message, error) { return msgs, nil })
		if err != nil {
			t.Fatal(err)
		}
	}
	begun := time.Now()
	if n := len(deliver(t, d)); n != backlog {
		t.Errorf("%d events were delivered, want %d", n, backlog)
	}
	return time.Since(begun).Round(time.Millisecond)
}

// pollTime is the median of some polls that find nothing new.
func pollTime(t *testing.T, d *sqlite.Dialect) time.Duration {
	t.Helper()
	s, err := d.Open(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	var took []time.Duration
	for range 101 {
		begun := time.Now()
		if _, err := s.Fetch(t.Context(), core.FetchRequest{After: 1 << 40, Limit: 100, MaxBytes: 1 << 20}); err != nil {
			t.Fatal(err)
		}
		took = append(took, time.Since(begun))
	}
	if err := s.Close(); err != nil && !errors.Is(err, sql.ErrConnDone) {
		t.Fatal(err)
	}
	slices.Sort(took)
	return took[len(took)/2]
}
