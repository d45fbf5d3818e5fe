package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/lockstep-go/lockstep/conformance"
	"github.com/lockstep-go/lockstep/core"
)

// The whole contract, and then the promises: with a database in memory, whose harm the suite brings along.
func TestConformance(t *testing.T) { conformance.TestBroker(t, open) }

func TestPair(t *testing.T) {
	conformance.TestPair(t, func(*testing.T) conformance.DialectFixture {
		return conformance.MemoryFixture(conformance.NewMemory(conformance.MemoryConfig{}))
	}, open)
}

// open is a broker with a directory of its own, and what can be done to it: its disk goes away or loses its power, and a
// message has too many headers. There are no connections to cut and no server to be slow, so nothing is said of those.
func open(t *testing.T) conformance.BrokerFixture {
	dir := filepath.Join(t.TempDir(), "events")
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	return fixture(NewFileBroker(dir), t.Errorf)
}

func fixture(broker *FileBroker, complain func(format string, args ...any)) conformance.BrokerFixture {
	dir := broker.dir
	elsewhere := NewFileBroker(dir) // what another process has: nothing but the files is common to both
	read := func(topic string) func(context.Context, int) ([]core.Message, error) {
		return func(ctx context.Context, n int) ([]core.Message, error) { return first(ctx, broker, topic, n) }
	}
	return conformance.BrokerFixture{
		Broker:    broker,
		Elsewhere: elsewhere,
		Topic:     "orders",
		Read:      read("orders"),
		Stored:    func(context.Context) ([]core.Message, error) { return broker.Read("orders") },

		OtherTopic: "payments",
		ReadOther:  read("payments"),

		Outage: func() (heal func(), err error) {
			return func() {
				if err := os.Rename(dir+".away", dir); err != nil {
					complain("the disk does not come back: %v", err)
				}
			}, os.Rename(dir, dir+".away")
		},
		Restart: powerOf(broker, elsewhere),
		Poison: func(m core.Message) core.Message {
			m.Headers = map[string]string{}
			for i := range maxHeaders + 1 {
				m.Headers[fmt.Sprint(i)] = "x"
			}
			return m
		},
	}
}

// first waits until a topic holds n messages.
func first(ctx context.Context, broker *FileBroker, topic string, n int) ([]core.Message, error) {
	for {
		msgs, err := broker.Read(topic)
		if err != nil || len(msgs) >= n {
			return msgs[:min(n, len(msgs))], err
		}
		select {
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-time.After(10 * time.Millisecond):
		}
	}
}

func TestATopicThatCannotBeAFile(t *testing.T) {
	err := NewFileBroker(t.TempDir()).Publish(t.Context(), []core.Message{{ID: "a", Topic: "../orders"}, {ID: "b", Topic: "orders"}})
	var batch *core.BatchError
	if !errors.As(err, &batch) || !errors.Is(batch.Results[0], core.ErrPermanent) || batch.Results[1] != nil {
		t.Errorf("got %v, want ErrPermanent for the first message alone", err)
	}
}

// What a crash left of a line is not a message, and the next one does not begin behind it.
func TestATornLineIsOverwritten(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "orders.jsonl")
	if err := os.WriteFile(path, []byte("{\"id\":\"a\"}\n{\"id\":\"b\",\"pay"), 0o600); err != nil {
		t.Fatal(err)
	}
	broker := NewFileBroker(dir)
	if err := broker.Publish(t.Context(), []core.Message{{ID: "c", Topic: "orders"}}); err != nil {
		t.Fatal(err)
	}
	stored, err := broker.Read("orders")
	if err != nil || len(stored) != 2 || stored[0].ID != "a" || stored[1].ID != "c" {
		t.Errorf("got %v and %v, want a and c", stored, err)
	}
}

// Two processes have a FileBroker each on one directory, as while an outbox changes hands. What either one confirmed stays.
func TestTwoProcessesKeepEachOthersLines(t *testing.T) {
	const calls = 100
	dir := t.TempDir()
	var processes sync.WaitGroup
	for process := range 2 {
		broker := NewFileBroker(dir)
		processes.Go(func() {
			for n := range calls {
				m := core.Message{ID: fmt.Sprintf("%d/%d", process, n), Topic: "orders"}
				if err := broker.Publish(t.Context(), []core.Message{m}); err != nil {
					t.Error(err)
				}
			}
		})
	}
	processes.Wait()
	stored, err := NewFileBroker(dir).Read("orders")
	next := [2]int{}
	for _, m := range stored {
		for process := range next {
			if m.ID == fmt.Sprintf("%d/%d", process, next[process]) {
				next[process]++
				break
			}
		}
	}
	if err != nil || next != [2]int{calls, calls} || len(stored) != 2*calls {
		t.Errorf("of %d messages of each process, all confirmed, %v are stored in order, of %d in all (%v)", calls, next, len(stored), err)
	}
}

// A process that hangs with the file locked costs time, and the call's context ends the wait.
func TestTheWaitForALockEndsWithItsContext(t *testing.T) {
	dir := t.TempDir()
	other, err := os.Create(filepath.Join(dir, "orders.jsonl"))
	if err != nil {
		t.Fatal(err)
	}
	defer other.Close()
	if err := lock(t.Context(), other); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	broker := NewFileBroker(dir)
	m := core.Message{ID: "a", Topic: "orders"}
	if err := broker.Publish(ctx, []core.Message{m}); !errors.Is(err, core.ErrUnavailable) || !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("while another process has the file: got %v, want ErrUnavailable for the context's end", err)
	}
	other.Close()
	if err := broker.Publish(t.Context(), []core.Message{m}); err != nil {
		t.Errorf("after the other process gave it up: %v", err)
	}
}

func TestItRuns(t *testing.T) {
	out, err := exec.CommandContext(t.Context(), "go", "run", ".").CombinedOutput()
	if got, want := string(out), "a book of 42\na pen of 42\n"; err != nil || got != want {
		t.Errorf("go run .: got %q and %v, want %q", got, err, want)
	}
}
