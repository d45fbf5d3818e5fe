package kafka_test

import (
	"math"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/lockstep-go/lockstep/broker/kafka"
	"github.com/lockstep-go/lockstep/core"
)

// aDay is longer than a session goes without being renewed, and shorter than the cluster remembers one.
const aDay = 24 * time.Hour

// The cluster forgets a session that nobody has renewed for a week, and with it whom it shuts out.
func TestAnOldSessionIsRenewed(t *testing.T) {
	t.Parallel()
	f := newFake(t, 1)
	f.inTerm(t)
	expectClass(t, "a", f.publish(t.Context(), t, core.Message{ID: "a"})[0], nil)
	expectClass(t, "b", f.publish(t.Context(), t, core.Message{ID: "b"})[0], nil)
	kafka.Age(f.publisher, aDay)
	expectClass(t, "c", f.publish(t.Context(), t, core.Message{ID: "c"})[0], nil)
	expectClass(t, "d", f.publish(t.Context(), t, core.Message{ID: "d"})[0], nil)
	f.expectNumbers(t, "epoch 0, 0 to 0", "epoch 0, 1 to 1", "epoch 1, 0 to 0", "epoch 1, 1 to 1")
}

// An earlier owner that wants to renew its session is told that there is a later one, before that has written anything.
func TestARenewalFindsOutALaterOwner(t *testing.T) {
	t.Parallel()
	f := newFake(t, 1)
	outbox := core.NewID()
	older, err := f.broker.ForTerm(t.Context(), core.Term{Outbox: outbox, Epoch: 1})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.broker.ForTerm(t.Context(), core.Term{Outbox: outbox, Epoch: 2}); err != nil {
		t.Fatal(err)
	}
	kafka.Age(older, aDay)
	f.publisher = older
	expectClass(t, "a", f.publish(t.Context(), t, core.Message{ID: "a"})[0], core.ErrFenced)
	if stored := f.stored(t); len(stored) > 0 {
		t.Errorf("it stored %v", stored)
	}
}

// A renewal gives the next epoch. One that is further says that another owner came between and is gone: what it wrote may
// be later than what is sent now.
func TestARenewalThatSkipsAnEpochIsAnotherOwners(t *testing.T) {
	t.Parallel()
	f := newFake(t, 1)
	f.inTerm(t)
	f.ControlKey(initProducerIDKey, func(r kmsg.Request) (kmsg.Response, error, bool) {
		request := r.(*kmsg.InitProducerIDRequest)
		answer := request.ResponseKind().(*kmsg.InitProducerIDResponse)
		answer.ProducerID, answer.ProducerEpoch = request.ProducerID, request.ProducerEpoch+2
		return answer, nil, true
	})
	kafka.Age(f.publisher, aDay)
	expectClass(t, "a", f.publish(t.Context(), t, core.Message{ID: "a"})[0], core.ErrFenced)
}

// Kafka's numbers have 31 bits: 0 follows the largest, also inside of a batch.
func TestNumbersBeginAgainBehindTheLargest(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		sequence int32
		records  int
		want     int32
	}{{0, 3, 3}, {math.MaxInt32, 1, 0}, {math.MaxInt32 - 1, 1, math.MaxInt32}, {math.MaxInt32 - 1, 3, 1}} {
		if got := kafka.SequenceAfter(tt.sequence, tt.records); got != tt.want {
			t.Errorf("after %d records from %d on: got %d, want %d", tt.records, tt.sequence, got, tt.want)
		}
	}
}
