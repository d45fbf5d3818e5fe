package inbox_test

import (
	"context"
	"errors"
	"log/slog"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/lockstep-go/lockstep/core"
	"github.com/lockstep-go/lockstep/inbox"
)

// forgetting is a fake store in which there are left ids to forget.
type forgetting struct {
	core.Dialect
	core.InboxStore
	left   int
	asked  func()
	limits []int
	answer error // of the next call alone
	breaks int   // how many are left when the database goes away; 0 for never
}

func (f *forgetting) Forget(_ context.Context, _ time.Duration, limit int) (int, error) {
	if f.asked != nil {
		f.asked()
	}
	f.limits = append(f.limits, limit)
	if err := f.answer; err != nil {
		f.answer = nil
		return 0, err
	}
	n := min(limit, f.left)
	f.left -= n
	if f.breaks > 0 && f.left <= f.breaks {
		return n, errors.New("the database is away")
	}
	return n, nil
}

// A transaction that removes all at once would keep consumers waiting, however much it is.
func TestPurgeGoesInBatches(t *testing.T) {
	store := &forgetting{left: 3500}
	box, err := inbox.New(store, inbox.Config{})
	if err != nil {
		t.Fatal(err)
	}
	if n, err := box.Purge(t.Context()); n != 3500 || err != nil {
		t.Errorf("Purge: got %d, %v, want 3500", n, err)
	}
	if want := []int{1000, 1000, 1000, 1000}; !slices.Equal(store.limits, want) {
		t.Errorf("batches of at most %v, want %v", store.limits, want)
	}
}

// What it has forgotten it says beside an error, too.
func TestAPurgeThatFailsSaysHowFarItGot(t *testing.T) {
	box, err := inbox.New(&forgetting{left: 3500, breaks: 1500}, inbox.Config{})
	if err != nil {
		t.Fatal(err)
	}
	if n, err := box.Purge(t.Context()); n != 2000 || err == nil {
		t.Errorf("Purge: got %d, %v, want 2000 and an error", n, err)
	}
}

// Run purges at its start and once an hour, also after a purge that failed.
func TestRunPurgesOnceAnHour(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		began := time.Now()
		var at []time.Duration
		store := &forgetting{asked: func() { at = append(at, time.Since(began)) }, answer: errors.New("the database is away")}
		box, err := inbox.New(store, inbox.Config{Logger: slog.New(slog.DiscardHandler)})
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), 150*time.Minute)
		defer cancel()
		box.Run(ctx)
		if want := []time.Duration{0, time.Hour, 2 * time.Hour}; !slices.Equal(at, want) {
			t.Errorf("purged after %v, want %v", at, want)
		}
	})
}
