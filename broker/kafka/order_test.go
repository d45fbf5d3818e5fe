package kafka_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/lockstep-go/lockstep/core"
)

// silence makes the cluster take the next produce request and never answer. asked is closed when it came.
func (f *fake) silence() (asked chan struct{}) {
	asked = make(chan struct{})
	f.ControlKey(produceKey, func(kmsg.Request) (kmsg.Response, error, bool) {
		close(asked)
		return nil, nil, true
	})
	return asked
}

// Rule 29: Publish ends with its context.
func TestPublishReturnsWhenItsContextEnds(t *testing.T) {
	f := newFake(t, 1)
	expectClass(t, "before", f.publish(t.Context(), t, core.Message{ID: "before"})[0], nil)
	asked := f.silence()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	go func() {
		<-asked
		cancel()
	}()
	got := f.publish(ctx, t, core.Message{ID: "during"})[0]
	expectClass(t, "during", got, core.ErrUncertain)
	if !errors.Is(got, context.Canceled) {
		t.Errorf("Publish ended by %v, and not with its context", got)
	}
	expectClass(t, "after", f.publish(t.Context(), t, core.Message{ID: "after"})[0], nil)
}

// Rule 29. Nothing is sent after its time, so it is known not to be stored.
func TestNothingIsSentWithAnEndedContext(t *testing.T) {
	f := newFake(t, 1)
	expectClass(t, "before", f.publish(t.Context(), t, core.Message{ID: "before"})[0], nil)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	for range 20 {
		expectClass(t, "after", f.publish(ctx, t, core.Message{ID: "after"})[0], core.ErrUnavailable)
	}
	if n := len(f.seen()); n != 1 {
		t.Errorf("%d requests, want that of the first message", n)
	}
}

// Rule 29. One record batch in flight for each partition: a second call waits, as long as its context lets it.
func TestCallsQueueForAPartition(t *testing.T) {
	f := newFake(t, 1)
	asked := f.silence()
	first, giveUp := context.WithCancel(t.Context())
	defer giveUp()
	done := make(chan []error, 1)
	go func() { done <- f.publish(first, t, core.Message{ID: "first", Key: "a"}) }()
	<-asked

	second, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
	defer cancel()
	expectClass(t, "second", f.publish(second, t, core.Message{ID: "second", Key: "b"})[0], core.ErrUnavailable)
	if n := len(f.seen()); n != 1 {
		t.Errorf("%d requests are in flight for one partition, want 1", n)
	}
	giveUp()
	expectClass(t, "first", (<-done)[0], core.ErrUncertain)
	expectClass(t, "third", f.publish(t.Context(), t, core.Message{ID: "third"})[0], nil)
	if got := f.stored(t); !slices.Equal(got, []string{"third"}) {
		t.Errorf("stored: got %v, want what was sent last", got)
	}
}

// The guilty one alone is refused, and what follows it of its key waits.
func TestOrderAroundARefusedRecord(t *testing.T) {
	for _, answer := range []*kerr.Error{kerr.MessageTooLarge, kerr.RecordListTooLarge, kerr.InvalidRecord} {
		t.Run(answer.Message, func(t *testing.T) {
			t.Parallel()
			f := newFake(t, 1)
			f.Fault(kfake.Fault{Keys: []kmsg.Key{produceKey}, Err: answer, Count: -1, When: holding("poison")})
			var msgs []core.Message
			for i := range 100 {
				msgs = append(msgs, core.Message{ID: fmt.Sprint(i), Key: fmt.Sprint("k", i%5)})
			}
			msgs[32].Payload = []byte("poison") // of key k2
			msgs[90].Key, msgs[91].Key = "", ""
			got := f.publish(t.Context(), t, msgs...)
			var want []string
			for i, m := range msgs {
				switch {
				case i == 32:
					expectClass(t, m.ID, got[i], core.ErrPermanent)
				case m.Key == "k2" && i > 32:
					expectClass(t, m.ID, got[i], core.ErrNotAttempted)
				default:
					expectClass(t, m.ID, got[i], nil)
					want = append(want, m.ID)
				}
			}
			if stored := f.stored(t); !slices.Equal(stored, want) {
				t.Errorf("stored: got %v, want %v", stored, want)
			}
		})
	}
}

// When the first of a partition's batches fails, nothing overtakes it.
func TestNothingOvertakesAFailedBatch(t *testing.T) {
	for answer, class := range map[*kerr.Error]error{
		kerr.NotEnoughReplicas:  core.ErrUnavailable,
		kerr.UnknownServerError: core.ErrUncertain,
	} {
		f := newFake(t, 1)
		f.Fault(kfake.Fault{Keys: []kmsg.Key{produceKey}, Err: answer, Count: 1})
		var msgs []core.Message
		for i := range 4 {
			msgs = append(msgs, core.Message{ID: fmt.Sprint(i), Key: fmt.Sprint("k", i/2), Payload: make([]byte, 400_000)})
		}
		msgs[1].Key = "other" // with the first in one batch; the others make the next
		got := f.publish(t.Context(), t, msgs...)
		for i, want := range []error{class, class, core.ErrNotAttempted, core.ErrNotAttempted} {
			expectClass(t, fmt.Sprint(answer.Message, " ", i), got[i], want)
		}
		if stored := f.stored(t); len(stored) > 0 {
			t.Errorf("stored: got %v, want nothing", stored)
		}
	}
}

func TestTheLaterOnesOfAKeyInAFailedBatch(t *testing.T) {
	for answer, later := range map[*kerr.Error]error{
		kerr.NotEnoughReplicas:  core.ErrNotAttempted,
		kerr.UnknownServerError: core.ErrUncertain, // they may be stored, as the first may
	} {
		f := newFake(t, 1)
		f.Fault(kfake.Fault{Keys: []kmsg.Key{produceKey}, Err: answer, Count: 1})
		got := f.publish(t.Context(), t, core.Message{ID: "a", Key: "k"}, core.Message{ID: "b", Key: "k"})
		expectClass(t, answer.Message, got[1], later)
	}
}

func TestBatchesFitTheTopic(t *testing.T) {
	const limit = 1_048_588 // max.message.bytes by default
	f := newFake(t, 1)
	var msgs []core.Message
	for i := range 300 {
		msgs = append(msgs, core.Message{
			ID: fmt.Sprint(i), Key: fmt.Sprint(i % 7), Payload: bytes.Repeat([]byte("x"), 10_000),
			Headers: map[string]string{"a": "b", "c": "d"},
		})
	}
	for i, err := range f.publish(t.Context(), t, msgs...) {
		expectClass(t, fmt.Sprint(i), err, nil)
	}
	sizes := 0
	for _, r := range f.seen() {
		n := len(r.Topics[0].Partitions[0].Records)
		if n > limit {
			t.Errorf("a batch of %d bytes, want at most %d", n, limit)
		}
		sizes += n
	}
	if n := len(f.seen()); n > 5 {
		t.Errorf("%d requests for %d bytes, want few", n, sizes)
	}
}
