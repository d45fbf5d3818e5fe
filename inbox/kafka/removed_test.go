package kafka_test

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	kafkago "github.com/segmentio/kafka-go"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/lockstep-go/lockstep/core"
	"github.com/lockstep-go/lockstep/inbox/kafka"
	"github.com/lockstep-go/lockstep/internal/inboxtest"
)

// remove deletes what is before an offset of the topic's first partition, as retention does.
func (w *world) remove(t *testing.T, before int64) {
	t.Helper()
	client, err := kgo.NewClient(kgo.SeedBrokers(w.address))
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	partition := kmsg.NewDeleteRecordsRequestTopicPartition()
	partition.Offset = before
	topic := kmsg.NewDeleteRecordsRequestTopic()
	topic.Topic, topic.Partitions = w.topic, append(topic.Partitions, partition)
	request := kmsg.NewPtrDeleteRecordsRequest()
	request.Topics = append(request.Topics, topic)
	answer, err := request.RequestWith(t.Context(), client)
	if err == nil {
		err = kerr.ErrorForCode(answer.Topics[0].Partitions[0].ErrorCode)
	}
	if err != nil {
		t.Fatalf("delete records: %v", err)
	}
}

// publishNumbered publishes messages whose ids are their offsets in a topic of one partition.
func (w *world) publishNumbered(t *testing.T, from, to int) {
	t.Helper()
	for i := from; i < to; i++ {
		w.publish(t, core.Message{ID: fmt.Sprint("m", i)})
	}
}

const passedOver = "passed over"

func TestWhatWasRemovedBeforeItWasReadIsTold(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 1)
	group := w.topic + "_group"
	// settle runs a loop until the group's offset is want, and returns what it logged.
	settle := func(want int64) *inboxtest.Log {
		t.Helper()
		log, config := inboxtest.NewLog(), w.config(group)
		config.Logger = log.Logger()
		stop := inboxtest.Running(t, w.loopWith(t, config, effect))
		w.awaitCommitted(t, group, 1, want)
		stop()
		return log
	}
	expectTold := func(log *inboxtest.Log, want string) {
		t.Helper()
		if told := log.With(passedOver); (want == "") != (len(told) == 0) || len(told) > 1 || len(log.With(want)) == 0 && want != "" {
			t.Errorf("told of %q, want %q", told, want)
		}
	}
	w.publishNumbered(t, 0, 3)
	expectTold(settle(3), "")

	w.publishNumbered(t, 3, 6)
	w.remove(t, 5)
	config := w.config(group)
	config.Removed = func(e *kafka.RemovedError) error { return e }
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	var got *kafka.RemovedError
	want := kafka.RemovedError{Group: group, Topic: w.topic, From: 3, To: 5}
	if err := w.loopWith(t, config, effect).Run(ctx); !errors.As(err, &got) || *got != want {
		t.Errorf("Run, where Removed is an error: got %v, want %v", err, &want)
	}
	if offset := w.committed(t, group, 0); offset != 3 {
		t.Errorf("the offset %d is committed, want 3: nobody has said that it is to go on", offset)
	}
	expectTold(settle(6), fmt.Sprintf("topic=%s partition=0 from=3 to=5 messages=2", w.topic))

	w.publishNumbered(t, 6, 8)
	w.remove(t, 8) // there is nothing left
	expectTold(settle(8), "from=6 to=8 messages=2")
	w.publishNumbered(t, 8, 9)
	expectTold(settle(9), "")
	w.ExpectOnce(t, "m0", "m1", "m2", "m5", "m8")
}

// A group that has found nothing to read has an offset nevertheless, and notices what comes and goes while it is away.
func TestWhatWasRemovedBeforeTheFirstMessageWasReadIsTold(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 1)
	log, config := inboxtest.NewLog(), w.config(w.topic+"_group")
	config.Logger = log.Logger()
	stop := inboxtest.Running(t, w.loopWith(t, config, effect))
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for w.committed(t, config.Group, 0) != 0 {
		select {
		case <-tick.C:
		case <-ctx.Done():
			t.Fatalf("the group's offset in an empty partition: got %d, want 0", w.committed(t, config.Group, 0))
		}
	}
	stop()

	w.publishNumbered(t, 0, 3)
	w.remove(t, 2)
	stop = inboxtest.Running(t, w.loopWith(t, config, effect))
	w.awaitCommitted(t, config.Group, 1, 3)
	stop()
	if told := log.With(passedOver); len(told) != 1 || len(log.With("from=0 to=2 messages=2")) != 1 {
		t.Errorf("told of %q, want of the offsets 0 and 1", told)
	}
	w.ExpectOnce(t, "m2")
}

// A log that is shorter than the group's offset is not the one that it was: what is in it would be passed over until it is as long.
func TestALogThatIsShorterThanTheOffsetIsReadFromItsBeginning(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 1)
	group := w.topic + "_group"
	w.publishNumbered(t, 0, 3)
	stop := inboxtest.Running(t, w.loop(t, group, effect))
	w.awaitCommitted(t, group, 1, 3)
	stop() // the group has a coordinator, and no member
	client := &kafkago.Client{Addr: kafkago.TCP(w.address), Transport: &kafkago.Transport{}}
	defer client.Transport.(*kafkago.Transport).CloseIdleConnections()
	answer, err := client.OffsetCommit(t.Context(), &kafkago.OffsetCommitRequest{
		GroupID: group, GenerationID: -1, Topics: map[string][]kafkago.OffsetCommit{w.topic: {{Offset: 100}}},
	})
	if err == nil {
		err = answer.Topics[w.topic][0].Error
	}
	if err != nil {
		t.Fatal(err)
	}
	log, config := inboxtest.NewLog(), w.config(group)
	config.Logger = log.Logger()
	stop = inboxtest.Running(t, w.loopWith(t, config, effect))
	log.Await(t, "offset=100 end=3")
	w.awaitCommitted(t, group, 1, 3)
	stop()
	w.ExpectOnce(t, "m0", "m1", "m2")
}

// While a member is cut off from the partition, and not from its group, retention overtakes it.
func TestWhatIsRemovedUnderAMemberIsTold(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 1)
	lines := &fetchLines{}
	told := make(chan kafka.RemovedError, 10)
	config := w.config(w.topic + "_group")
	config.Dialer = &kafkago.Dialer{Timeout: 10 * time.Second, DialFunc: lines.dial}
	config.Removed = func(e *kafka.RemovedError) error {
		told <- *e
		return nil
	}
	w.publishNumbered(t, 0, 3)
	stop := inboxtest.Running(t, w.loopWith(t, config, effect))
	w.awaitCommitted(t, config.Group, 1, 3)
	if lines.cut() == 0 {
		t.Fatal("nothing fetches: the test shows nothing")
	}
	w.publishNumbered(t, 3, 8)
	w.remove(t, 6)
	lines.mend()
	w.Await(t, 5)
	w.awaitCommitted(t, config.Group, 1, 8)
	stop()
	w.ExpectOnce(t, "m0", "m1", "m2", "m6", "m7")
	if got, want := <-told, (kafka.RemovedError{Group: config.Group, Topic: w.topic, From: 3, To: 6}); got != want {
		t.Errorf("told of %v, want %v", got, want)
	}
}

// A topic is made anew between two fetches, so that the reader sees nothing of it and asks for an offset that is not yet there. The
// cluster is a fake, which tells the reader that there is nothing new meanwhile.
func TestATopicThatIsMadeAnewBetweenFetchesIsRead(t *testing.T) {
	t.Parallel()
	const group, fetch = "billing", 1
	w, cluster := newFakeWorld(t, "orders")
	var still atomic.Bool
	cluster.ControlKey(fetch, func(r kmsg.Request) (kmsg.Response, error, bool) {
		cluster.KeepControl()
		return nothingNew(r.(*kmsg.FetchRequest)), nil, still.Load()
	})
	w.publishNumbered(t, 0, 3)
	stop := inboxtest.Running(t, w.loop(t, group, effect))
	w.awaitCommitted(t, group, 1, 3)
	still.Store(true)
	w.makeAnew(t)
	w.publish(t, core.Message{ID: "new"})
	still.Store(false)
	w.Await(t, 4)
	stop()
	w.ExpectOnce(t, "m0", "m1", "m2", "new")
}

// nothingNew is the answer of a partition's leader who has nothing behind the offset that he is asked for.
func nothingNew(r *kmsg.FetchRequest) *kmsg.FetchResponse {
	answer := r.ResponseKind().(*kmsg.FetchResponse)
	for _, asked := range r.Topics {
		topic := kmsg.NewFetchResponseTopic()
		topic.Topic = asked.Topic
		for _, p := range asked.Partitions {
			partition := kmsg.NewFetchResponseTopicPartition()
			partition.Partition, partition.HighWatermark, partition.LastStableOffset = p.Partition, p.FetchOffset, p.FetchOffset
			topic.Partitions = append(topic.Partitions, partition)
		}
		answer.Topics = append(answer.Topics, topic)
	}
	return answer
}

// makeAnew deletes the topic and creates it.
func (w *world) makeAnew(t *testing.T) {
	t.Helper()
	client := &kafkago.Client{Addr: kafkago.TCP(w.address), Transport: &kafkago.Transport{}}
	defer client.Transport.(*kafkago.Transport).CloseIdleConnections()
	deleted, err := client.DeleteTopics(t.Context(), &kafkago.DeleteTopicsRequest{Topics: []string{w.topic}})
	if err == nil {
		err = deleted.Errors[w.topic]
	}
	for err == nil {
		var created *kafkago.CreateTopicsResponse
		created, err = client.CreateTopics(t.Context(), &kafkago.CreateTopicsRequest{
			Topics: []kafkago.TopicConfig{{Topic: w.topic, NumPartitions: 1, ReplicationFactor: 1}},
		})
		if err == nil && created.Errors[w.topic] == nil {
			return
		}
		if err == nil && !errors.Is(created.Errors[w.topic], kafkago.TopicAlreadyExists) { // which it does until it is gone
			err = created.Errors[w.topic]
		}
	}
	t.Fatalf("make the topic anew: %v", err)
}

// fetchLines is a dialer's connections, of which those that fetch can be cut, and are then until mend.
type fetchLines struct {
	mu       sync.Mutex
	broken   bool
	fetching []net.Conn
}

func (l *fetchLines) dial(ctx context.Context, network, address string) (net.Conn, error) {
	conn, err := (&net.Dialer{}).DialContext(ctx, network, address)
	return &fetchLine{Conn: conn, lines: l}, err
}

// cut returns how many connections there were that fetched.
func (l *fetchLines) cut() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.broken = true
	for _, c := range l.fetching {
		c.Close()
	}
	return len(l.fetching)
}

func (l *fetchLines) mend() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.broken = false
}

type fetchLine struct {
	net.Conn
	lines *fetchLines
}

// Write implements net.Conn. A request is written at once: its length, and what it asks for.
func (c *fetchLine) Write(p []byte) (int, error) {
	const fetch = 1
	if len(p) > 6 && binary.BigEndian.Uint16(p[4:]) == fetch {
		c.lines.mu.Lock()
		c.lines.fetching = append(c.lines.fetching, c.Conn)
		broken := c.lines.broken
		c.lines.mu.Unlock()
		if broken {
			c.Close()
		}
	}
	return c.Conn.Write(p)
}
