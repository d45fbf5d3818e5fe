package postgres_test

import (
	"context"
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
	t.Cleanup(postgres.SetListenPing(50*time.Millisecond, 100*time.Millisecond)) // when Listen has returned
	dsn, proxy := through(t, servers.PostgresSchema(t))
	d := open(t, dsn, postgres.Config{}).Dialect.(*postgres.Dialect)
	_, ended := listening(t, d)
	proxy.Freeze()
	if err := <-ended; err == nil { // the test's time-out ends it otherwise
		t.Error("Listen on a silent server: got nil, want an error")
	}
	proxy.Thaw()
	listening(t, d)
	proxy.Cut()
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

// BenchmarkAnnouncing is what an application pays for the wake-up of other processes: transactions with it, as a part of
// those without it. Both are measured in turns, because nothing else on a machine stands still.
func BenchmarkAnnouncing(b *testing.B) {
	const writers, turn = 16, 200 * time.Millisecond
	f := open(b, servers.PostgresSchema(b), postgres.Config{})
	committed := make(chan struct{}, 1)
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- f.Dialect.(*postgres.Dialect).Notify(ctx, committed) }()
	var count [2]atomic.Int64 // without, and with
	for i := 0; b.Loop(); i++ {
		var group sync.WaitGroup
		for range writers {
			group.Go(func() {
				for end := time.Now().Add(turn); time.Now().Before(end); count[i%2].Add(1) {
					if err := commitOne(b.Context(), f); err != nil {
						b.Error(err)
						return
					}
					if i%2 == 1 {
						select {
						case committed <- struct{}{}:
						default:
						}
					}
				}
			})
		}
		group.Wait()
	}
	b.ReportMetric(float64(count[1].Load())/float64(max(1, count[0].Load())), "with/without")
	cancel()
	if err := <-ended; err != nil {
		b.Error(err)
	}
}

func commitOne(ctx context.Context, f conformance.DialectFixture) error {
	tx, err := f.DB.BeginTx(ctx, nil)
	if err != nil {
		return err
	}
	defer tx.Rollback()
	if err := core.NewOutbox(f.Dialect, core.OutboxConfig{}).Enqueue(ctx, tx, core.Message{Topic: "t", Key: "k"}); err != nil {
		return err
	}
	return tx.Commit()
}
