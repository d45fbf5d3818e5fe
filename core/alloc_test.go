package core

import (
	"context"
	"database/sql"
	"fmt"
	"testing"
)

// allocEvents is how many events a cycle of these tests carries.
const allocEvents = 1000

// noExecer and noDialect take everything and do nothing.
type noExecer struct{}

func (noExecer) ExecContext(context.Context, string, ...any) (sql.Result, error) { return nil, nil }

type noDialect struct{}

func (noDialect) Enqueue(context.Context, Execer, []Message) error { return nil }
func (noDialect) Retryable(error) bool                             { return false }
func (noDialect) Open(context.Context) (Session, error)            { return nil, nil }

type noBroker struct{}

func (noBroker) Publish(context.Context, []Message) error { return nil }
func (noBroker) KeyOrdered()                              {}

func enqueueCycle() func() {
	outbox := NewOutbox(noDialect{}, OutboxConfig{})
	msgs := make([]Message, allocEvents)
	for i := range msgs {
		msgs[i] = Message{ID: fmt.Sprint(i), Topic: "t", Key: fmt.Sprint(i % 100), Payload: make([]byte, 300)}
	}
	return func() {
		if err := outbox.Enqueue(context.Background(), noExecer{}, msgs...); err != nil {
			panic(err)
		}
	}
}

// laneCycle takes events from a fetch to their lanes, into calls, and out of flight again. Each key has its turn with one
// event, as where there are many keys.
func laneCycle(keys int) func() {
	config, err := RelayConfig{}.withDefaults()
	if err != nil {
		panic(err)
	}
	e := newEngine(context.Background(), &config, usualLimits, noDialect{}, noBroker{})
	records := make([]Record, allocEvents)
	for i := range records {
		records[i] = Record{Position: int64(i + 1), Message: Message{ID: fmt.Sprint(i), Topic: "t", Key: fmt.Sprint(i % keys)}}
	}
	return func() {
		for i := range records {
			e.dispatch(&records[i])
		}
		for _, l := range e.lanes {
			for {
				batch := l.takeBatch(config.BatchSize, config.BatchBytes, e.several)
				if len(batch) == 0 {
					break
				}
				for _, it := range batch {
					e.leave(it)
					l.landed(it)
				}
			}
		}
		if e.count != 0 || len(e.reader.flight) != 0 {
			panic("events stayed in flight")
		}
	}
}

func resultsCycle() func() {
	return func() {
		if len(Results(nil, allocEvents)) != allocEvents {
			panic("too few")
		}
	}
}

// TestAllocations holds what an event costs in allocations: a number that is the same on every machine. Whoever raises one
// says why.
func TestAllocations(t *testing.T) {
	for _, test := range []struct {
		name  string
		cycle func()
		most  float64 // for allocEvents events
	}{
		{"enqueue", enqueueCycle(), 8},                  // the ids' set and the messages, for all of them
		{"lanes, many keys", laneCycle(1000), 1080},     // an item each, and the calls' slices
		{"lanes, a hundred keys", laneCycle(100), 1480}, // and the keys' queues
		{"results", resultsCycle(), 1},
	} {
		if got := testing.AllocsPerRun(20, test.cycle); got > test.most {
			t.Errorf("%s: %v allocations for %d events, want at most %v", test.name, got, allocEvents, test.most)
		} else {
			t.Logf("%s: %v allocations for %d events", test.name, got, allocEvents)
		}
	}
}

func BenchmarkEnqueue(b *testing.B) { perEvent(b, enqueueCycle()) }
func BenchmarkLanes(b *testing.B)   { perEvent(b, laneCycle(1000)) }

// perEvent tells what a cycle costs for each event.
func perEvent(b *testing.B, cycle func()) {
	b.Helper()
	b.ReportAllocs()
	for b.Loop() {
		cycle()
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/allocEvents, "ns/event")
}
