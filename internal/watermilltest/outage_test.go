package watermilltest

import (
	"context"
	"fmt"
	"log/slog"
	"testing"
	"time"

	"github.com/lockstep-go/lockstep/broker/watermill/wmkafka"
	"github.com/lockstep-go/lockstep/conformance"
	"github.com/lockstep-go/lockstep/core"
	"github.com/lockstep-go/lockstep/internal/servers"
)

// Kafka is killed while a relay publishes through watermill-kafka, and comes back: everything is there, the first
// occurrences of each key in order, and nothing was counted against a message.
func TestAKilledKafkaCostsNothingButTime(t *testing.T) {
	const partitions, rounds = 4, 20
	address := servers.Kafka(t)
	l := newLoad(servers.KafkaTopic(t, partitions))
	relay, err := core.NewRelay(l.memory, open(t, wmkafka.WithClasses(newKafka(t, wmkafka.PublisherConfig([]string{address})))), core.RelayConfig{
		PublishTimeout: 10 * time.Second, Waker: l.waker, Logger: slog.New(slog.DiscardHandler),
		Hooks: core.Hooks{
			Acknowledged: func(refs []core.Ref) { l.acknowledged <- len(refs) },
			Failed:       func(f core.Failure) { t.Errorf("a failed attempt was counted: %+v", f) },
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithTimeout(t.Context(), 10*time.Minute) // however long Kafka takes to come back
	defer stop()
	ended, written, enough := make(chan error, 1), make(chan error, 1), make(chan struct{})
	go func() { ended <- relay.Run(ctx) }()
	go func() { written <- l.run(ctx, enough) }()

	l.wait(rounds)
	servers.Control(t, "kill", "kafka")
	servers.Control(t, "up", "kafka")
	back := time.Now()
	for len(l.delivered) > 0 { // before it was killed
		<-l.delivered
	}
	t.Logf("delivery resumed %v after Kafka had", l.wait(1).Sub(back).Round(time.Millisecond))
	l.wait(rounds)
	close(enough)
	if err := <-written; err != nil {
		t.Fatal(err)
	}
	stop()
	if err := <-ended; err != nil {
		t.Fatal(err)
	}

	if left := l.memory.Contents(); len(left.Records) > 0 || len(left.Dead) > 0 {
		t.Errorf("%d messages are in the outbox and %d among the dead letters, want none", len(left.Records), len(left.Dead))
	}
	limited, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
	defer cancel()
	read, stored := reader(t, address, l.topic), firsts{}
	for n := 1; stored.count < keys*l.sent; n++ {
		msgs, err := read(limited, n)
		if err == nil {
			err = stored.add(msgs[n-1].ID)
		}
		if err != nil {
			t.Fatalf("after %d of %d messages: %v", stored.count, keys*l.sent, err)
		}
	}
	t.Logf("%d messages, and %d duplicates before the last of them", stored.count, stored.duplicates)
}

const keys = 20

// load commits messages in rounds, one of each key, and waits for each round's delivery. So some are under way at any
// time, and while Kafka is away a round is.
type load struct {
	memory       *conformance.Memory
	outbox       *core.Outbox
	waker        *core.Waker
	topic        string
	acknowledged chan int       // from the relay
	delivered    chan time.Time // when each round was; closed at the end, with room for all
	sent         int            // rounds; to be read after the end
}

func newLoad(topic string) *load {
	memory := conformance.NewMemory(conformance.MemoryConfig{})
	return &load{
		memory: memory, outbox: core.NewOutbox(memory, core.OutboxConfig{}), waker: core.NewWaker(), topic: topic,
		acknowledged: make(chan int, keys), delivered: make(chan time.Time, 100_000),
	}
}

// run goes on until enough is closed.
func (l *load) run(ctx context.Context, enough <-chan struct{}) error {
	defer close(l.delivered)
	for {
		select {
		case <-enough:
			return nil
		default:
		}
		if err := l.commit(ctx); err != nil {
			return err
		}
		l.sent++
		l.waker.Wake()
		for left := keys; left > 0; {
			select {
			case n := <-l.acknowledged:
				left -= n
			case <-ctx.Done():
				return fmt.Errorf("%d messages of round %d are not delivered: %w", left, l.sent, ctx.Err())
			}
		}
		l.delivered <- time.Now()
	}
}

func (l *load) commit(ctx context.Context) error {
	tx, err := l.memory.Begin(ctx)
	if err != nil {
		return err
	}
	for key := range keys {
		m := core.Message{ID: fmt.Sprintf("%d/%d", key, l.sent), Topic: l.topic, Key: fmt.Sprint(key)}
		if err := l.outbox.Enqueue(ctx, tx, m); err != nil {
			return err
		}
	}
	return tx.Commit()
}

// wait returns when so many more rounds are delivered, or run has ended, and tells when the last one was.
func (l *load) wait(rounds int) (last time.Time) {
	for range rounds {
		last = <-l.delivered
	}
	return last
}

// firsts are the first occurrences that were seen of each key.
type firsts struct {
	next              [keys]int
	count, duplicates int
}

func (f *firsts) add(id string) error {
	var key, n int
	if _, err := fmt.Sscanf(id, "%d/%d", &key, &n); err != nil {
		return err
	}
	switch next := f.next[key]; {
	case n > next:
		return fmt.Errorf("key %d: message %d stands where %d belongs", key, n, next)
	case n < next:
		f.duplicates++
	default:
		f.next[key]++
		f.count++
	}
	return nil
}
