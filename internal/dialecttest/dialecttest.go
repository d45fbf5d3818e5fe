// Package dialecttest holds what the tests of dialects on servers have in common beside the conformance suite: the faults of a
// network, and the search for gaps that are declared dead too early. What concerns one database alone stands beside its dialect.
package dialecttest

import (
	"cmp"
	"context"
	"errors"
	"flag"
	"log/slog"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/lockstep-go/lockstep/conformance"
	"github.com/lockstep-go/lockstep/core"
)

// Outbox is one on a real server, reached in two ways. The fixture leads there directly.
type Outbox struct {
	conformance.DialectFixture
	// Through is the same outbox, seen through Proxy.
	Through core.Dialect
	Proxy   *conformance.Proxy
}

// Main is the TestMain of such tests. They wait for their server more than they compute, so that many of them run side by side,
// whatever the number of processors, unless -parallel says otherwise.
func Main(m *testing.M, parallel int) {
	if err := flag.Set("test.parallel", strconv.Itoa(parallel)); err != nil {
		panic(err) // the testing package has renamed it
	}
	goleak.VerifyTestMain(m)
}

// ExpectSetup expects a SetupError that holds the words, in its problem or its cure.
func ExpectSetup(t *testing.T, what string, err error, words ...string) {
	t.Helper()
	var setup *core.SetupError
	if !errors.As(err, &setup) || setup.Problem == "" || setup.Cure == "" {
		t.Errorf("%s: got %v, want a SetupError with a problem and a cure", what, err)
		return
	}
	for _, word := range words {
		if !strings.Contains(err.Error(), word) {
			t.Errorf("%s: got %q, want it to say %q", what, err, word)
		}
	}
}

// limit is how long what must happen is waited for.
const limit = time.Minute

// Eventually waits until done, a minute at most.
func Eventually(t testing.TB, what string, done func() (bool, error)) {
	t.Helper()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for end := time.Now().Add(limit); ; <-tick.C {
		ok, err := done()
		switch {
		case ok:
			return
		case err != nil:
			t.Fatalf("until %s: %v", what, err)
		case time.Now().After(end):
			t.Fatalf("not within %v: %s", limit, what)
		}
	}
}

// OpenSession opens a session that ends with the test.
func OpenSession(t testing.TB, f conformance.DialectFixture) core.Session {
	t.Helper()
	s, err := f.Dialect.Open(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s
}

// Execute runs statements, each by itself.
func Execute(t testing.TB, f conformance.DialectFixture, statements ...string) {
	t.Helper()
	for _, statement := range statements {
		if _, err := f.DB.ExecContext(t.Context(), statement); err != nil {
			t.Fatalf("%.200s: %v", statement, err)
		}
	}
}

// Emptied removes everything that a check left: making the tables anew takes longer than most checks. values is what a row of
// defaults is inserted with.
func Emptied(t testing.TB, f conformance.DialectFixture, prefix, values string) {
	t.Helper()
	for _, table := range []string{"outbox", "outbox_delayed", "outbox_dead", "outbox_archive", "outbox_blocked", "outbox_lease"} {
		Execute(t, f, "DELETE FROM "+prefix+table)
	}
	Execute(t, f, "INSERT INTO "+prefix+"outbox_lease "+values)
}

// Count is the number that a query is for.
func Count(t testing.TB, f conformance.DialectFixture, query string) (n int) {
	t.Helper()
	if err := f.DB.QueryRowContext(t.Context(), query).Scan(&n); err != nil {
		t.Fatalf("%.200s: %v", query, err)
	}
	return n
}

// Enqueued commits an event.
func Enqueued(t testing.TB, f conformance.DialectFixture, m core.Message) {
	t.Helper()
	tx, err := f.DB.BeginTx(t.Context(), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer tx.Rollback()
	if err := core.NewOutbox(f.Dialect, core.OutboxConfig{}).Enqueue(t.Context(), tx, m); err != nil {
		t.Fatal(err)
	}
	if err := tx.Commit(); err != nil {
		t.Fatal(err)
	}
}

// FetchAll fetches all there is.
func FetchAll(t testing.TB, s core.Session) core.FetchResult {
	t.Helper()
	result, err := s.Fetch(t.Context(), core.FetchRequest{Limit: 100_000, MaxBytes: 1 << 30})
	if err != nil {
		t.Fatal(err)
	}
	return result
}

// Started runs a relay until stop is called, or the test ends. Its Logger defaults to none.
func Started(t *testing.T, d core.Dialect, broker core.Broker, config core.RelayConfig) (stop func()) {
	t.Helper()
	config.Logger = cmp.Or(config.Logger, slog.New(slog.DiscardHandler))
	relay, err := core.NewRelay(d, broker, config)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- relay.Run(ctx) }()
	stop = sync.OnceFunc(func() {
		cancel()
		if err := <-ended; err != nil && !errors.Is(err, context.Canceled) {
			t.Errorf("Run: %v", err)
		}
	})
	t.Cleanup(stop)
	return stop
}
