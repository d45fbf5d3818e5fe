package postgres_test

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/lockstep-go/lockstep/conformance"
	"github.com/lockstep-go/lockstep/core"
	"github.com/lockstep-go/lockstep/dialect/postgres"
	"github.com/lockstep-go/lockstep/internal/servers"
)

// call runs f until the test ends, or stop is called.
func call(t *testing.T, f func(ctx context.Context) error) (ended <-chan error, stop func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	gone := make(chan struct{})
	go func() {
		defer close(gone)
		done <- f(ctx)
	}()
	t.Cleanup(func() { cancel(); <-gone })
	return done, cancel
}

// listening returns what Listen wakes, once it has begun.
func listening(t *testing.T, d *postgres.Dialect) (woke chan struct{}, ended <-chan error) {
	t.Helper()
	woke = make(chan struct{}, 1000)
	ended, _ = call(t, func(ctx context.Context) error {
		return d.Listen(ctx, func() { woke <- struct{}{} })
	})
	select {
	case <-woke:
	case err := <-ended:
		t.Fatalf("Listen: %v", err)
	}
	return woke, ended
}

// The connection that listens falls silent, as it does when a firewall forgets it: Listen finds out by itself, and
// returns, so that it is called again.
func TestListenLeavesASilentServer(t *testing.T) {
	t.Cleanup(postgres.SetListenPing(50*time.Millisecond, time.Second)) // undone when Listen has returned
	dsn, proxy := through(t, servers.PostgresSchema(t))
	d := open(t, dsn, postgres.Config{}).Dialect.(*postgres.Dialect)
	ended := listeningAtLast(t, d)
	proxy.Freeze()
	if err := <-ended; err == nil { // the test's time-out ends it otherwise
		t.Error("Listen on a silent server: got nil, want an error")
	}
	proxy.Thaw()
	listeningAtLast(t, d)
	proxy.Cut()
}

// listeningAtLast calls Listen until it has begun: a busy server may be taken for a silent one.
func listeningAtLast(t *testing.T, d *postgres.Dialect) (ended <-chan error) {
	t.Helper()
	for {
		woke := make(chan struct{}, 1000)
		ended, _ := call(t, func(ctx context.Context) error {
			return d.Listen(ctx, func() { woke <- struct{}{} })
		})
		select {
		case <-woke:
			return ended
		case err := <-ended:
			t.Logf("Listen begins anew: %v", err)
		}
	}
}

func TestListenAndNotifyReturnWhenTheConnectionIsCut(t *testing.T) {
	dsn, proxy := through(t, servers.PostgresSchema(t))
	d := open(t, dsn, postgres.Config{}).Dialect.(*postgres.Dialect)
	woke, listened := listening(t, d)
	committed := make(chan struct{}, 1)
	notified, _ := call(t, func(ctx context.Context) error { return d.Notify(ctx, committed) })
	<-woke // Notify announces when it begins
	proxy.Cut()
	committed <- struct{}{}
	if err := <-listened; err == nil {
		t.Error("Listen: got nil, want an error")
	}
	if err := <-notified; err == nil {
		t.Error("Notify: got nil, want an error")
	}
	// The commit that the lost connection did not announce is announced by the next one.
	woke, _ = listening(t, d)
	call(t, func(ctx context.Context) error { return d.Notify(ctx, committed) })
	<-woke
}

// NOTIFY in the business transaction would take a lock that is one for the cluster, at each COMMIT.
func TestEnqueueNotifiesNobody(t *testing.T) {
	f := open(t, servers.PostgresSchema(t), postgres.Config{})
	woke, _ := listening(t, f.Dialect.(*postgres.Dialect))
	for range 10 {
		enqueued(t, f, core.Message{Topic: "t", Key: "k"})
	}
	// Notifications come in the order of the commits: what is heard now is the first there was.
	execute(t, f, `DO $$ BEGIN EXECUTE format('NOTIFY lockstep_%s', 'outbox'::regclass::oid); END $$`)
	<-woke
	if n := len(woke); n != 0 {
		t.Errorf("%d further wake-ups, want none: Enqueue has announced something", n)
	}
	// The announcement above was one of plain SQL, as docs/table.md has it for other languages.
}

// A thousand commits in a row are announced together.
func TestNotifyCoalesces(t *testing.T) {
	f := open(t, servers.PostgresSchema(t), postgres.Config{})
	d := f.Dialect.(*postgres.Dialect)
	woke, _ := listening(t, d)
	committed := make(chan struct{})
	begun := time.Now()
	call(t, func(ctx context.Context) error { return d.Notify(ctx, committed) })
	for range 5 {
		committed <- struct{}{} // taken 10 ms apart at the least
	}
	if took := time.Since(begun); took < 40*time.Millisecond {
		t.Errorf("5 announcements within %v, want one in 10 ms at most", took)
	}
	<-woke
}

func TestListenNeedsAnOutbox(t *testing.T) {
	d := dialect(t, servers.PostgresSchema(t), postgres.Config{})
	expectSetup(t, "Listen", d.Listen(t.Context(), func() {}), "Migrate")
	expectSetup(t, "Notify", d.Notify(t.Context(), nil), "Migrate")
}

// BenchmarkAnnouncing is what an application of 64 connections pays for the wake-up of other processes: its transactions in a
// turn with it, as a part of those in the turn without it before, the median of all pairs. The same without it twice tells what
// chance does, and a NOTIFY inside each transaction what was avoided. Neither goes first more often than the other.
func BenchmarkAnnouncing(b *testing.B) {
	const writers, turn = 64, 200 * time.Millisecond
	f := open(b, servers.PostgresSchema(b), postgres.Config{})
	f.DB.SetMaxIdleConns(writers) // or each transaction dials
	committed := make(chan struct{}, 1)
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- f.Dialect.(*postgres.Dialect).Notify(ctx, committed) }()
	ratios := map[string][]float64{}
	for round := 0; b.Loop(); round++ {
		for _, way := range []string{"without", "announced", "NOTIFY-inside"} {
			var count [2]int64 // without, and this way
			for i := range 2 {
				which := (i + round) % 2
				count[which] = commits(b, f, writers, turn, []string{"without", way}[which], committed)
			}
			ratios[way] = append(ratios[way], float64(count[1])/float64(max(1, count[0])))
		}
	}
	for way, r := range ratios {
		slices.Sort(r)
		b.ReportMetric(r[len(r)/2], way+"/without")
	}
	cancel()
	if err := <-ended; err != nil {
		b.Error(err)
	}
}

// commits counts the transactions of so many writers in a turn.
func commits(b *testing.B, f conformance.DialectFixture, writers int, turn time.Duration, way string, committed chan<- struct{}) int64 {
	b.Helper()
	var count atomic.Int64
	var group sync.WaitGroup
	for w := range writers {
		group.Go(func() {
			for end := time.Now().Add(turn); time.Now().Before(end); count.Add(1) {
				if err := commitOne(b.Context(), f, fmt.Sprint(w), way == "NOTIFY-inside"); err != nil {
					b.Error(err)
					return
				}
				if way == "announced" {
					select {
					case committed <- struct{}{}:
					default:
					}
				}
			}
		})
	}
	group.Wait()
	return count.Load()
}

func commitOne(ctx context.Context, f conformance.DialectFixture, key string, notify bool) error {
	tx, err := f.DB.BeginTx(ctx, nil)
	if err != nil {
		return err
	}
	defer tx.Rollback()
	if err := core.NewOutbox(f.Dialect, core.OutboxConfig{}).Enqueue(ctx, tx, core.Message{Topic: "t", Key: key}); err != nil {
		return err
	}
	if notify {
		if _, err := tx.ExecContext(ctx, `NOTIFY lockstep_benchmark`); err != nil {
			return err
		}
	}
	return tx.Commit()
}
