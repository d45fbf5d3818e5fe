package sqlite_test

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/lockstep-go/lockstep/dialect/sqlite"
)

// listening runs Listen until the test ends. woken receives after each wake-up, several as one.
func listening(t testing.TB, d *sqlite.Dialect) (woken <-chan struct{}) {
	t.Helper()
	ctx, stop := context.WithCancel(t.Context())
	wake, ended := make(chan struct{}, 1), make(chan error, 1)
	go func() {
		ended <- d.Listen(ctx, func() {
			select {
			case wake <- struct{}{}:
			default:
			}
		})
	}()
	t.Cleanup(func() {
		stop()
		if err := <-ended; !errors.Is(err, context.Canceled) {
			t.Errorf("Listen: got %v, want the context's error", err)
		}
	})
	<-wake // it listens
	return wake
}

func TestListenHearsOfCommitsInAnotherProcess(t *testing.T) {
	path := filepath.Join(t.TempDir(), "outbox.db")
	d := open(t, path, sqlite.Config{})
	other := startChild(t, order{Do: "commit", Path: path})
	woken := listening(t, d)
	for range 3 {
		fmt.Fprintln(other.in)
		other.line(t)
		select {
		case <-woken:
		case <-time.After(30 * time.Second):
			t.Fatal("no wake-up after another process's commit")
		}
	}
	// Nothing happens for longer than a listener asks by itself. Not to wait for something: the pause is the test's input.
	time.Sleep(time.Second)
	fmt.Fprintln(other.in)
	other.line(t)
	select {
	case <-woken:
	case <-time.After(30 * time.Second):
		t.Fatal("no wake-up after another process's commit that followed a pause")
	}
	if a := other.end(t); a.Error != "" {
		t.Error(a.Error)
	}
}

func TestListenEndsWhenTheDialectIsClosed(t *testing.T) {
	d, err := sqlite.Open(filepath.Join(t.TempDir(), "outbox.db"), sqlite.Config{})
	if err != nil {
		t.Fatal(err)
	}
	if err := d.Close(); err != nil {
		t.Fatal(err)
	}
	if err := d.Listen(t.Context(), func() {}); err == nil {
		t.Error("Listen on a closed dialect: got nil, want an error")
	}
}

// From the moment at which COMMIT returned in another process to the wake-up here. RULES 25 wants a p99 below 30 ms.
func BenchmarkListenAcrossProcesses(b *testing.B) {
	path := filepath.Join(b.TempDir(), "outbox.db")
	d := open(b, path, sqlite.Config{})
	other := startChild(b, order{Do: "commit", Path: path})
	woken := listening(b, d)
	var took []time.Duration
	for b.Loop() {
		fmt.Fprintln(other.in)
		<-woken
		at := time.Now()
		committed, err := strconv.ParseInt(strings.TrimSpace(other.line(b)), 10, 64)
		if err != nil {
			b.Fatal(err)
		}
		took = append(took, at.Sub(time.Unix(0, committed)))
	}
	other.end(b)
	slices.Sort(took)
	b.ReportMetric(float64(took[len(took)/2])/1e6, "ms-p50")
	b.ReportMetric(float64(took[len(took)*99/100])/1e6, "ms-p99")
}

// What listening costs while nothing happens. RULES 25 wants less than 0.5 % of a core.
func BenchmarkListenIdle(b *testing.B) {
	d := open(b, filepath.Join(b.TempDir(), "outbox.db"), sqlite.Config{})
	listening(b, d)
	time.Sleep(time.Second) // it settles
	before, begun := processorTime(b), time.Now()
	for b.Loop() {
		time.Sleep(time.Second) // what is measured is this time
	}
	b.ReportMetric(100*float64(processorTime(b)-before)/float64(time.Since(begun)), "%core")
}

func processorTime(tb testing.TB) time.Duration {
	tb.Helper()
	var usage syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &usage); err != nil {
		tb.Fatal(err)
	}
	return time.Duration(usage.Utime.Nano() + usage.Stime.Nano())
}
