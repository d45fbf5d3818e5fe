package watermill_test

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"

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

// A decorator that knows the publisher's errors says what they mean. Nothing that may be stored is said not to be.
func TestAnErrorMayBringItsClass(t *testing.T) {
	for _, test := range []struct{ err, want error }{
		{fmt.Errorf("too large: %w", core.ErrPermanent), core.ErrPermanent},
		{fmt.Errorf("%w: away", core.ErrUnavailable), core.ErrUnavailable},
		{fmt.Errorf("%w: no time", core.ErrNotAttempted), core.ErrNotAttempted},
		{fmt.Errorf("%w: %w", core.ErrUncertain, core.ErrUnavailable), core.ErrUncertain},
	} {
		err := open(t, publisherFunc(func(string, *message.Message) error { return test.err })).Publish(t.Context(), []core.Message{{ID: "1"}})
		var batch *core.BatchError
		if !errors.As(err, &batch) || !errors.Is(batch.Results[0], test.want) {
			t.Errorf("an error %q: got %v, want %q", test.err, err, test.want)
		}
		if got := core.ClassOf(batch.Results[0]); !strings.HasPrefix(test.want.Error(), got) {
			t.Errorf("an error %q: it is %q, want %q", test.err, got, test.want)
		}
	}
}

func TestPublishGivesEachMessageItsResult(t *testing.T) {
	refused := errors.New("refused")
	broker := open(t, publisherFunc(func(_ string, m *message.Message) error {
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
		broker := open(t, publisherFunc(func(_ string, m *message.Message) error {
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
		broker := open(t, publisherFunc(func(string, *message.Message) error {
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

		err := open(t, hanging).Publish(ctx, make([]core.Message, 40))

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
	broker := open(t, publisherFunc(func(string, *message.Message) error {
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
		broker := open(t, hanging)
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

// callsOf is a fake publisher that keeps the calls as they are made.
type callsOf struct {
	mu    sync.Mutex
	calls [][]*message.Message
}

func (p *callsOf) Publish(_ string, msgs ...*message.Message) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.calls = append(p.calls, msgs)
	return nil
}

func (*callsOf) Close() error { return nil }

// Where a publisher fails in the midst of its arguments, nobody knows which of them are stored.
func TestEachCallHasOneMessage(t *testing.T) {
	publisher := &callsOf{}
	if err := open(t, publisher).Publish(t.Context(), []core.Message{{ID: "a"}, {ID: "b"}, {ID: "c"}}); err != nil {
		t.Fatal(err)
	}
	if len(publisher.calls) != 3 {
		t.Errorf("%d calls of the publisher for 3 messages", len(publisher.calls))
	}
	for _, msgs := range publisher.calls {
		if len(msgs) != 1 {
			t.Errorf("a call of the publisher has %d messages, want 1", len(msgs))
		}
	}
}

func TestAFailureIsItsOwnMessagesAlone(t *testing.T) {
	const count = 40 // more than are in flight
	for guilty := range count {
		publisher := publisherFunc(func(_ string, m *message.Message) error {
			if m.UUID == fmt.Sprint(guilty) {
				return errors.New("refused")
			}
			return nil
		})
		msgs := make([]core.Message, count)
		for i := range msgs {
			msgs[i].ID = fmt.Sprint(i)
		}
		var batch *core.BatchError
		if err := open(t, publisher).Publish(t.Context(), msgs); !errors.As(err, &batch) || len(batch.Results) != count {
			t.Fatalf("message %d fails: got %v, want a *BatchError with %d results", guilty, err, count)
		}
		for i, result := range batch.Results {
			if errors.Is(result, core.ErrUncertain) != (i == guilty) || (result == nil) != (i != guilty) {
				t.Errorf("message %d fails: the result of message %d is %v", guilty, i, result)
			}
		}
	}
}

// As t.FailNow does in a fake.
func TestAPublisherThatEndsItsGoroutineHasAnswered(t *testing.T) {
	broker := open(t, publisherFunc(func(string, *message.Message) error {
		runtime.Goexit()
		return nil
	}))
	for range 20 { // more than 512 messages: each gives its slot back
		var batch *core.BatchError
		err := broker.Publish(t.Context(), make([]core.Message, 32))
		if !errors.As(err, &batch) || !errors.Is(batch.Results[0], core.ErrUncertain) {
			t.Fatalf("Publish: got %v, want uncertain messages", err)
		}
	}
}

// Watermill lets publishers change messages and keep them. The engine's memory is not theirs, and nobody else's message
// gets the memory of one that they keep.
func TestThePublisherGetsACopy(t *testing.T) {
	var kept []*message.Message
	broker := open(t, publisherFunc(func(_ string, m *message.Message) error {
		kept = append(kept, m)
		m.Payload[0] = 'X'
		_ = append(m.Payload, 'X')
		m.Metadata.Set("h", "X"+m.Metadata.Get("h"))
		m.Metadata.Set("i", "X")
		m.UUID = "X"
		return nil
	}))
	const count = 3
	for i := range count {
		room := []byte("payload and room")
		copy(room, fmt.Sprint("payloa", i))
		before := string(room)
		m := core.Message{ID: "a", Topic: "orders", Headers: map[string]string{"h": fmt.Sprint(i)}, Payload: room[:len("payload")]}
		if err := broker.Publish(t.Context(), []core.Message{m}); err != nil {
			t.Fatal(err)
		}
		if string(room) != before || len(m.Headers) != 1 || m.Headers["h"] != fmt.Sprint(i) {
			t.Errorf("the publisher changed the engine's message: %+v, payload and room %q", m, room)
		}
		clear(room) // it is the engine's to use again
		clear(m.Headers)
	}
	for i, m := range kept {
		payload, header := fmt.Sprint("Xayloa", i), fmt.Sprint("X", i)
		if string(m.Payload) != payload || m.Metadata.Get("h") != header {
			t.Errorf("what the publisher kept has become %q with the header %q, want %q and %q", m.Payload, m.Metadata.Get("h"), payload, header)
		}
	}
}

// A call that was abandoned goes on, and reads its message whenever it likes: what it delivers late is what it was given.
func TestAnAbandonedCallKeepsItsMessage(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		release := make(chan struct{})
		late := make(chan string, 1)
		broker := open(t, publisherFunc(func(_ string, m *message.Message) error {
			if m.UUID == "hangs" {
				<-release
				late <- fmt.Sprintf("%s %s %s", m.UUID, m.Payload, m.Metadata.Get("h"))
			}
			return nil
		}))
		payload, headers := []byte("first"), map[string]string{"h": "v"}
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		msgs := []core.Message{{ID: "hangs", Headers: headers, Payload: payload}}
		if err := broker.Publish(ctx, msgs); !errors.Is(err, context.DeadlineExceeded) {
			t.Fatalf("Publish: got %v, want the deadline's error", err)
		}
		copy(payload, "other") // the engine's memory is used again
		headers["h"] = "w"
		msgs[0] = core.Message{ID: "next", Headers: map[string]string{"h": "x"}, Payload: []byte("third")}
		if err := broker.Publish(t.Context(), msgs); err != nil {
			t.Fatal(err)
		}
		close(release)
		if got := <-late; got != "hangs first v" {
			t.Errorf("the abandoned call delivers %q, want what it was given", got)
		}
	})
}

func TestTheMessageHasTheCallsContext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		broker := open(t, publisherFunc(func(_ string, m *message.Message) error {
			<-m.Context().Done() // a publisher that looks at it ends with it
			return m.Context().Err()
		}))
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		var batch *core.BatchError
		err := broker.Publish(ctx, []core.Message{{ID: "a"}})
		if !errors.As(err, &batch) || !errors.Is(batch.Results[0], core.ErrUncertain) || !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("Publish: got %v, want the deadline's error, uncertain", err)
		}
	})
}
