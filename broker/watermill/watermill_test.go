package watermill_test

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	wmill "github.com/ThreeDotsLabs/watermill"
	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/ThreeDotsLabs/watermill/pubsub/gochannel"
	"go.uber.org/goleak"

	"github.com/lockstep-go/lockstep/broker/watermill"
	"github.com/lockstep-go/lockstep/conformance"
	"github.com/lockstep-go/lockstep/core"
)

// publisherFunc is a fake Watermill publisher.
type publisherFunc func(topic string, m *message.Message) error

func (f publisherFunc) Publish(topic string, msgs ...*message.Message) error {
	for _, m := range msgs {
		if err := f(topic, m); err != nil {
			return err
		}
	}
	return nil
}

func (publisherFunc) Close() error { return nil }

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// gochannel stores nothing. Its subscriber does here, and Publish waits until it has.
func TestConformance(t *testing.T) {
	conformance.TestBroker(t, func(t *testing.T) conformance.BrokerFixture {
		channel := gochannel.NewGoChannel(gochannel.Config{BlockPublishUntilSubscriberAck: true}, wmill.NopLogger{})
		t.Cleanup(func() { channel.Close() })
		received, err := channel.Subscribe(context.Background(), "orders")
		if err != nil {
			t.Fatal(err)
		}
		var silence sync.Mutex
		stored := make(chan core.Message, 10_000) // room for all that a check publishes
		go func() {
			for m := range received {
				silence.Lock()
				stored <- fromWatermill(m)
				m.Ack()
				silence.Unlock()
			}
		}()
		var msgs []core.Message
		return conformance.BrokerFixture{
			Broker: watermill.New(channel),
			Topic:  "orders",
			Read: func(ctx context.Context, n int) ([]core.Message, error) {
				for len(msgs) < n {
					select {
					case m := <-stored:
						msgs = append(msgs, m)
					case <-ctx.Done():
						return nil, ctx.Err()
					}
				}
				return msgs[:n], nil
			},
			Freeze: func() (thaw func(), err error) {
				silence.Lock()
				return silence.Unlock, nil
			},
		}
	})
}

func fromWatermill(m *message.Message) core.Message {
	headers := maps.Clone(m.Metadata)
	delete(headers, watermill.KeyMetadata)
	return core.Message{ID: m.UUID, Key: m.Metadata.Get(watermill.KeyMetadata), Headers: headers, Payload: m.Payload}
}

func TestPublishCarriesEveryPartOfTheMessage(t *testing.T) {
	channel := gochannel.NewGoChannel(gochannel.Config{BlockPublishUntilSubscriberAck: true}, wmill.NopLogger{})
	defer channel.Close()
	received, err := channel.Subscribe(t.Context(), "orders")
	if err != nil {
		t.Fatal(err)
	}
	published := make(chan error, 1)
	go func() {
		published <- watermill.New(channel).Publish(t.Context(), []core.Message{{
			ID: "id-1", Topic: "orders", Key: "42", Headers: map[string]string{"h": "v"}, Payload: []byte("{}"),
		}})
	}()

	got := <-received
	got.Ack()

	if err := <-published; err != nil {
		t.Fatalf("Publish: got %v, want nil", err)
	}
	if got.UUID != "id-1" || string(got.Payload) != "{}" {
		t.Errorf("got id %q and payload %q, want id-1 and {}", got.UUID, got.Payload)
	}
	if want := (message.Metadata{"h": "v", watermill.KeyMetadata: "42"}); !maps.Equal(got.Metadata, want) {
		t.Errorf("metadata: got %v, want %v", got.Metadata, want)
	}
}

func TestPublishGivesEachMessageItsResult(t *testing.T) {
	refused := errors.New("refused")
	broker := watermill.New(publisherFunc(func(_ string, m *message.Message) error {
		switch m.UUID {
		case "refused":
			return refused
		case "panics":
			panic("boom")
		}
		return nil
	}))

	err := broker.Publish(t.Context(), []core.Message{{ID: "ok"}, {ID: "refused"}, {ID: "panics"}, {ID: "ok too"}})

	var batch *core.BatchError
	if !errors.As(err, &batch) || len(batch.Results) != 4 {
		t.Fatalf("Publish: got %v, want a *BatchError with 4 results", err)
	}
	r := batch.Results
	if r[0] != nil || r[3] != nil || !errors.Is(r[1], refused) {
		t.Errorf("results: got %v, want [nil, refused, an error, nil]", r)
	}
	// Watermill does not say what an error means, so the message may be stored.
	if !errors.Is(r[1], core.ErrUncertain) || !errors.Is(r[2], core.ErrUncertain) {
		t.Errorf("results: got %v and %v, want uncertain ones", r[1], r[2])
	}
}

func TestPublishReturnsWhenItsTimeIsOver(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		release := make(chan struct{})
		broker := watermill.New(publisherFunc(func(_ string, m *message.Message) error {
			if m.UUID == "hangs" {
				<-release
			}
			return nil
		}))
		ctx, cancel := context.WithTimeout(t.Context(), 3*time.Second)
		defer cancel()

		err := broker.Publish(ctx, []core.Message{{ID: "ok"}, {ID: "hangs"}})

		var batch *core.BatchError
		if !errors.As(err, &batch) {
			t.Fatalf("Publish: got %v, want a *BatchError", err)
		}
		if batch.Results[0] != nil || !errors.Is(batch.Results[1], context.DeadlineExceeded) ||
			!errors.Is(batch.Results[1], core.ErrUncertain) {
			t.Errorf("results: got %v, want nil and the deadline's error, uncertain", batch.Results)
		}
		close(release) // synctest fails the test if the abandoned call's goroutines don't end
	})
}

func TestPublishBoundsTheCallsInFlight(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var mu sync.Mutex
		running, most := 0, 0
		broker := watermill.New(publisherFunc(func(string, *message.Message) error {
			mu.Lock()
			running++
			most = max(most, running)
			mu.Unlock()
			time.Sleep(time.Millisecond) // synctest's clock
			mu.Lock()
			running--
			mu.Unlock()
			return nil
		}))
		msgs := make([]core.Message, 100)
		for i := range msgs {
			msgs[i].ID = fmt.Sprint(i)
		}
		if err := broker.Publish(t.Context(), msgs); err != nil {
			t.Fatal(err)
		}
		if most != 32 {
			t.Errorf("most calls in flight: got %d, want 32", most)
		}
	})
}

// What was not begun is not stored, and says so: with a publisher that hangs, all but the first 32.
func TestWhatWasNotBegunIsNotAttempted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		hanging := newHangingPublisher()
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()

		err := watermill.New(hanging).Publish(ctx, make([]core.Message, 40))

		var batch *core.BatchError
		if !errors.As(err, &batch) || len(batch.Results) != 40 {
			t.Fatalf("Publish: got %v, want a *BatchError with 40 results", err)
		}
		for i, result := range batch.Results {
			want := core.ErrUncertain
			if i >= 32 {
				want = core.ErrNotAttempted
			}
			if !errors.Is(result, want) {
				t.Errorf("result %d: got %v, want %v", i, result, want)
			}
		}
		if n := hanging.running.Load(); n != 32 {
			t.Errorf("%d calls of the publisher, want 32", n)
		}
		close(hanging.release)
	})
}

func TestNothingIsBegunWithAnEndedContext(t *testing.T) {
	broker := watermill.New(publisherFunc(func(string, *message.Message) error {
		t.Error("the publisher was called")
		return nil
	}))
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	for range 20 {
		var batch *core.BatchError
		err := broker.Publish(ctx, make([]core.Message, 2))
		if !errors.As(err, &batch) || !errors.Is(batch.Results[0], core.ErrNotAttempted) || !errors.Is(batch.Results[1], core.ErrNotAttempted) {
			t.Fatalf("Publish: got %v, want two messages that were not attempted", err)
		}
	}
}

// A publisher that hangs for good costs a bounded number of goroutines, however long the relay tries.
func TestAbandonedCallsAreBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		hanging := newHangingPublisher()
		broker := watermill.New(hanging)
		var last error
		for range 40 {
			ctx, cancel := context.WithTimeout(t.Context(), time.Second)
			last = broker.Publish(ctx, make([]core.Message, 32))
			cancel()
		}
		if n := hanging.running.Load(); n != 512 {
			t.Errorf("%d calls of the publisher have not returned, want 512", n)
		}
		var batch *core.BatchError
		if !errors.As(last, &batch) {
			t.Fatalf("Publish: got %v, want a *BatchError", last)
		}
		for _, result := range batch.Results {
			if !errors.Is(result, core.ErrUnavailable) || errors.Is(result, context.DeadlineExceeded) {
				t.Errorf("a message that was not sent: got %v, want unavailable", result)
			}
		}
		close(hanging.release)
		if err := broker.Publish(t.Context(), make([]core.Message, 40)); err != nil {
			t.Errorf("Publish after the publisher came back: got %v, want nil", err)
		}
	})
}

// hangingPublisher is a Watermill publisher that answers nothing before release is closed.
type hangingPublisher struct {
	running atomic.Int64
	release chan struct{}
}

func newHangingPublisher() *hangingPublisher { return &hangingPublisher{release: make(chan struct{})} }

func (p *hangingPublisher) Publish(string, ...*message.Message) error {
	p.running.Add(1)
	defer p.running.Add(-1)
	<-p.release
	return nil
}

func (*hangingPublisher) Close() error { return nil }
