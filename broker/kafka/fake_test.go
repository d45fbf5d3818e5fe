package kafka_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	kafkago "github.com/segmentio/kafka-go"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/lockstep-go/lockstep/broker/kafka"
	"github.com/lockstep-go/lockstep/core"
)

const produceKey = 0

// fake is a cluster in memory with one topic, and a broker for it.
type fake struct {
	*kfake.Cluster
	topic      string
	partitions int
	broker     *kafka.Broker
	publisher  core.Broker // what publish uses: broker, or that of a term

	mu       sync.Mutex
	requests []*kmsg.ProduceRequest
}

func newFake(t *testing.T, partitions int, options ...kfake.Opt) *fake {
	t.Helper()
	cluster, err := kfake.NewCluster(append([]kfake.Opt{kfake.SeedTopics(int32(partitions), "orders")}, options...)...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(cluster.Close)
	f := &fake{Cluster: cluster, topic: "orders", partitions: partitions, broker: open(t, cluster.ListenAddrs()[0])}
	f.publisher = f.broker
	cluster.ControlKey(produceKey, func(r kmsg.Request) (kmsg.Response, error, bool) {
		f.mu.Lock()
		defer f.mu.Unlock()
		f.requests = append(f.requests, r.(*kmsg.ProduceRequest))
		return nil, nil, false
	})
	return f
}

// seen returns the produce requests so far.
func (f *fake) seen() []*kmsg.ProduceRequest {
	f.mu.Lock()
	defer f.mu.Unlock()
	return slices.Clone(f.requests)
}

// publish publishes to the topic and returns one result for each message.
func (f *fake) publish(ctx context.Context, t *testing.T, msgs ...core.Message) []error {
	t.Helper()
	for i := range msgs {
		msgs[i].Topic = f.topic
	}
	return resultsOf(t, f.publisher.Publish(ctx, msgs), len(msgs))
}

// resultsOf returns what Publish says of each of n messages.
func resultsOf(t *testing.T, err error, n int) []error {
	t.Helper()
	if err == nil {
		return make([]error, n)
	}
	var batch *core.BatchError
	if !errors.As(err, &batch) || len(batch.Results) != n {
		t.Fatalf("Publish: got %v, want a *BatchError with %d results", err, n)
	}
	return batch.Results
}

// stored returns the IDs of all that the topic holds, each partition's in order.
func (f *fake) stored(t *testing.T) []string {
	t.Helper()
	total := 0
	for p := range f.partitions {
		total += int(f.PartitionInfo(f.topic, int32(p)).HighWatermark)
	}
	if total == 0 {
		return nil
	}
	ctx, cancel := context.WithTimeout(t.Context(), longEnough)
	defer cancel()
	msgs, err := read(ctx, f.ListenAddrs()[0], f.topic, f.partitions, total)
	if err != nil {
		t.Fatal(err)
	}
	var ids []string
	for _, m := range msgs {
		ids = append(ids, m.ID)
	}
	return ids
}

// answering makes the cluster answer every produce request with what edit makes of an answer that says all is stored,
// and store nothing.
func (f *fake) answering(edit func(*kmsg.ProduceResponseTopicPartition)) {
	f.ControlKey(produceKey, func(r kmsg.Request) (kmsg.Response, error, bool) {
		f.KeepControl()
		request := r.(*kmsg.ProduceRequest)
		answer := request.ResponseKind().(*kmsg.ProduceResponse)
		for _, t := range request.Topics {
			topic := kmsg.NewProduceResponseTopic()
			topic.Topic = t.Topic
			for _, p := range t.Partitions {
				partition := kmsg.NewProduceResponseTopicPartition()
				partition.Partition = p.Partition
				edit(&partition)
				topic.Partitions = append(topic.Partitions, partition)
			}
			answer.Topics = append(answer.Topics, topic)
		}
		return answer, nil, true
	})
}

// orphan makes the cluster say that nobody leads the topic's last partition, until the returned function is called.
func (f *fake) orphan(t *testing.T) (adopt func()) {
	t.Helper()
	const metadataKey = 3
	var over atomic.Bool
	host, port, err := net.SplitHostPort(f.ListenAddrs()[0])
	if err != nil {
		t.Fatal(err)
	}
	number, err := strconv.ParseInt(port, 10, 32)
	if err != nil {
		t.Fatal(err)
	}
	leader := f.LeaderFor(f.topic, 0)
	f.ControlKey(metadataKey, func(r kmsg.Request) (kmsg.Response, error, bool) {
		if over.Load() {
			return nil, nil, false
		}
		f.KeepControl()
		answer := r.ResponseKind().(*kmsg.MetadataResponse)
		broker := kmsg.NewMetadataResponseBroker()
		broker.NodeID, broker.Host, broker.Port = leader, host, int32(number)
		topic := kmsg.NewMetadataResponseTopic()
		topic.Topic = &f.topic
		for p := range int32(f.partitions) {
			partition := kmsg.NewMetadataResponseTopicPartition()
			partition.Partition, partition.Leader = p, leader
			if p == int32(f.partitions-1) {
				partition.Leader, partition.ErrorCode = -1, kerr.LeaderNotAvailable.Code
			}
			topic.Partitions = append(topic.Partitions, partition)
		}
		answer.Brokers, answer.Topics = append(answer.Brokers, broker), append(answer.Topics, topic)
		return answer, nil, true
	})
	return func() { over.Store(true) }
}

// keyOf returns a key whose messages go to a partition.
func (f *fake) keyOf(partition int) string {
	for n := 0; ; n++ {
		if key := fmt.Sprint(n); int(f.broker.HashKey(f.topic, key))%f.partitions == partition {
			return key
		}
	}
}

// holding matches produce requests with text in a record.
func holding(text string) func(kmsg.Request) bool {
	return func(r kmsg.Request) bool {
		for _, t := range r.(*kmsg.ProduceRequest).Topics {
			for _, p := range t.Partitions {
				if bytes.Contains(p.Records, []byte(text)) {
					return true
				}
			}
		}
		return false
	}
}

func expectClass(t *testing.T, what string, got, want error) {
	t.Helper()
	if (want == nil) != (got == nil) || !errors.Is(got, want) {
		t.Errorf("%s: got %v, want %v", what, got, want)
		return
	}
	for _, class := range []error{core.ErrPermanent, core.ErrUnavailable, core.ErrUncertain, core.ErrNotAttempted, core.ErrFenced} {
		if got != nil && !errors.Is(want, class) && errors.Is(got, class) {
			t.Errorf("%s: %v is also %v", what, got, class)
		}
	}
}

// Rules 28 and 30: acks=all, and the time of the call instead of half a second.
func TestARequestAsksForEveryReplicaAndGivesItTime(t *testing.T) {
	f := newFake(t, 1)
	expectClass(t, "a", f.publish(context.Background(), t, core.Message{ID: "a"})[0], nil)
	for _, r := range f.seen() {
		if r.Acks != -1 {
			t.Errorf("acks: got %d, want -1, all of them", r.Acks)
		}
		if r.TimeoutMillis < 5000 {
			t.Errorf("the broker is given %d ms to replicate a batch, want seconds", r.TimeoutMillis)
		}
	}
	if len(f.seen()) != 1 {
		t.Errorf("%d requests for one message", len(f.seen()))
	}
}

// Rule 36. What the cluster answers, and what it means. A fault with NotEnoughReplicasAfterAppend stores all the same.
func TestAnswersHaveTheirClasses(t *testing.T) {
	for _, tt := range []struct {
		answer *kerr.Error
		want   error
		cure   string
	}{
		{kerr.NotLeaderForPartition, core.ErrUnavailable, ""},
		{kerr.KafkaStorageError, core.ErrUnavailable, ""},
		{kerr.NotEnoughReplicas, core.ErrUnavailable, "min.insync.replicas"},
		{kerr.TopicAuthorizationFailed, core.ErrUnavailable, "grant"},
		{kerr.NotEnoughReplicasAfterAppend, core.ErrUncertain, ""},
		{kerr.RequestTimedOut, core.ErrUncertain, ""},
		{kerr.UnknownServerError, core.ErrUncertain, ""},
		{kerr.TransactionAbortable, core.ErrUncertain, ""}, // younger than kafka-go
		{kerr.InvalidTopicException, core.ErrPermanent, ""},
		{kerr.MessageTooLarge, core.ErrPermanent, "max.message.bytes"},
		{kerr.InvalidRecord, core.ErrPermanent, ""},
	} {
		t.Run(tt.answer.Message, func(t *testing.T) {
			t.Parallel()
			f := newFake(t, 1)
			fault := f.Fault(kfake.Fault{Keys: []kmsg.Key{produceKey}, Err: tt.answer, Count: -1})
			got := f.publish(t.Context(), t, core.Message{ID: "a"})[0]
			expectClass(t, tt.answer.Message, got, tt.want)
			var code kafkago.Error
			if !errors.As(got, &code) || int16(code) != tt.answer.Code || !strings.Contains(fmt.Sprint(got), tt.cure) {
				t.Errorf("the error %q does not carry the code %d and %q", got, tt.answer.Code, tt.cure)
			}
			fault.Remove()
			expectClass(t, "afterwards", f.publish(t.Context(), t, core.Message{ID: "b"})[0], nil)
		})
	}
}

// It is the message's own fault, but it may have been the line's: an attempt is counted.
func TestADamagedRecordIsAnOrdinaryRefusal(t *testing.T) {
	f := newFake(t, 1)
	f.Fault(kfake.Fault{Keys: []kmsg.Key{produceKey}, Err: kerr.CorruptMessage, Count: -1, When: holding("poison")})
	got := f.publish(t.Context(), t, core.Message{ID: "a"}, core.Message{ID: "poison"}, core.Message{ID: "b"})
	expectClass(t, "a", got[0], nil)
	expectClass(t, "b", got[2], nil)
	expectClass(t, "poison", got[1], kafkago.InvalidMessage)
}

func TestAContradictoryAnswerIsNoConfirmation(t *testing.T) {
	f := newFake(t, 1)
	f.answering(func(p *kmsg.ProduceResponseTopicPartition) {
		p.ErrorRecords = append(p.ErrorRecords, kmsg.NewProduceResponseTopicPartitionErrorRecord())
	})
	got := f.publish(t.Context(), t, core.Message{ID: "a"}, core.Message{ID: "b"})
	expectClass(t, "a", got[0], core.ErrUncertain)
	expectClass(t, "b", got[1], core.ErrUncertain)
}

func TestALostAnswerIsUncertain(t *testing.T) {
	f := newFake(t, 1)
	f.ControlKey(produceKey, func(kmsg.Request) (kmsg.Response, error, bool) {
		return nil, errors.New("cut the connection"), true
	})
	got := f.publish(t.Context(), t, core.Message{ID: "a", Key: "k"}, core.Message{ID: "b", Key: "k"})
	expectClass(t, "a", got[0], core.ErrUncertain)
	expectClass(t, "b", got[1], core.ErrUncertain)
}

func TestWhatPassesIsWaitedFor(t *testing.T) {
	for _, answer := range []*kerr.Error{kerr.NotLeaderForPartition, kerr.LeaderNotAvailable, kerr.UnknownTopicOrPartition, kerr.KafkaStorageError} {
		t.Run(answer.Message, func(t *testing.T) {
			t.Parallel()
			f := newFake(t, 1)
			f.Fault(kfake.Fault{Keys: []kmsg.Key{produceKey}, Err: answer, Count: 2})
			expectClass(t, "a", f.publish(t.Context(), t, core.Message{ID: "a"})[0], nil)
			if got := f.stored(t); !slices.Equal(got, []string{"a"}) {
				t.Errorf("stored: got %v, want a once", got)
			}
		})
	}
}

// persist publishes a message as the engine does, again while it is unavailable, and returns how many calls that took: one,
// where the machine does not stand still just when the cluster is asked anew.
func (f *fake) persist(t *testing.T, m core.Message) (calls int) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), longEnough)
	defer cancel()
	for calls = 1; ; calls++ {
		err := resultsOf(t, f.publisher.Publish(ctx, []core.Message{m}), 1)[0]
		if err == nil {
			return calls
		}
		if ctx.Err() != nil || !errors.Is(err, core.ErrUnavailable) {
			t.Fatalf("%s, call %d: %v", m.ID, calls, err)
		}
	}
}

// Rule 31: the leader moves, and delivery goes on in order.
func TestALeaderMoves(t *testing.T) {
	const rounds = 6
	f := newFake(t, 1, kfake.NumBrokers(3))
	var want []string
	calls := 0
	for n := range rounds {
		if err := f.MoveTopicPartition(f.topic, 0, int32(n%3)); err != nil {
			t.Fatal(err)
		}
		id := fmt.Sprint(n)
		calls += f.persist(t, core.Message{ID: id, Topic: f.topic, Key: "k"})
		want = append(want, id)
	}
	if calls > rounds*3/2 { // twice as many with the metadata's usual life of six seconds
		t.Errorf("%d calls after %d moves: a call lasts for longer than a move may stay unnoticed", calls, rounds)
	}
	if got := f.stored(t); !slices.Equal(got, want) {
		t.Errorf("stored: got %v, want %v", got, want)
	}
}

// Rule 31: while nobody leads the partition nothing is sent, and nothing is in doubt; the others go on.
func TestNobodyLeads(t *testing.T) {
	f := newFake(t, 2, kfake.NumBrokers(1))
	adopt := f.orphan(t)
	f.inTerm(t)
	led, orphaned := core.Message{ID: "a", Topic: f.topic, Key: f.keyOf(0)}, core.Message{ID: "b", Topic: f.topic, Key: f.keyOf(1)}
	f.persist(t, led)
	expectClass(t, "the other partition", f.publish(t.Context(), t, orphaned)[0], core.ErrUnavailable)
	f.expectNumbers(t, "epoch 0, 0 to 0")
	adopt()
	f.persist(t, led)
	if calls := f.persist(t, orphaned); calls > 2 {
		t.Errorf("after there was a leader it took %d calls", calls)
	}
	numbers, _ := f.batches(t)
	slices.Sort(numbers)
	if want := []string{"epoch 0, 0 to 0", "epoch 0, 0 to 0", "epoch 0, 1 to 1"}; !slices.Equal(numbers, want) {
		t.Errorf("numbers: got %v, want %v: nothing was in doubt", numbers, want)
	}
}

func TestATopicMayBeYoungerThanTheMetadata(t *testing.T) {
	f := newFake(t, 1)
	expectClass(t, "old", f.publish(t.Context(), t, core.Message{ID: "old"})[0], nil)
	if err := f.CreateTopic("young", 1, nil); err != nil {
		t.Fatal(err)
	}
	if calls := f.persist(t, core.Message{ID: "a", Topic: "young"}); calls > 2 {
		t.Errorf("Publish to a topic that was just made: %d calls, and one is to wait for the metadata", calls)
	}
}

// kafka-go gives the cluster a second for its first answer, the life of the metadata, and says after it that there is none.
func TestAClusterMayTakeItsTimeForItsFirstAnswer(t *testing.T) {
	t.Parallel()
	const metadataKey = 3
	f := newFake(t, 1)
	f.ControlKey(metadataKey, func(kmsg.Request) (kmsg.Response, error, bool) {
		return nil, nil, true // not at all: it is asked again after its second
	})
	if calls := f.persist(t, core.Message{ID: "a", Topic: f.topic}); calls > 2 {
		t.Errorf("Publish while the cluster has not answered yet: %d calls, and one is to wait for the answer", calls)
	}
}

func TestATopicThatCannotExist(t *testing.T) {
	f := newFake(t, 1)
	for _, name := range []string{"a b", ".", "..", "é", strings.Repeat("x", 250)} {
		err := f.broker.Publish(t.Context(), []core.Message{{ID: "a", Topic: name}, {ID: "b", Topic: f.topic}})
		got := resultsOf(t, err, 2)
		expectClass(t, name, got[0], core.ErrPermanent)
		expectClass(t, f.topic, got[1], nil)
	}
}
