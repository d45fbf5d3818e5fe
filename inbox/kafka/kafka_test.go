package kafka_test

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"strings"
	"testing"
	"time"

	kafkago "github.com/segmentio/kafka-go"
	"github.com/twmb/franz-go/pkg/kfake"
	"go.uber.org/goleak"

	brokerkafka "github.com/lockstep-go/lockstep/broker/kafka"
	"github.com/lockstep-go/lockstep/core"
	"github.com/lockstep-go/lockstep/inbox"
	"github.com/lockstep-go/lockstep/inbox/kafka"
	"github.com/lockstep-go/lockstep/internal/inboxtest"
	"github.com/lockstep-go/lockstep/internal/servers"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var quiet = slog.New(slog.DiscardHandler)

// world is a topic with its dead letters, and a shop that consumes it.
type world struct {
	address, topic, dead string
	broker               *brokerkafka.Broker
	*inboxtest.Shop
}

func newWorld(t *testing.T, partitions int) *world {
	t.Helper()
	w := &world{address: servers.Kafka(t), topic: servers.KafkaTopic(t, partitions), dead: servers.KafkaTopic(t, 1)}
	var err error
	if w.broker, err = brokerkafka.Open(brokerkafka.Config{Brokers: []string{w.address}}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { w.broker.Close() })
	w.Shop = inboxtest.New(t, w.broker, w.dead)
	return w
}

// newFakeWorld is a world without a topic for dead letters, on a fake of a cluster, whose topics have one partition each. The first is
// the world's.
func newFakeWorld(t *testing.T, topics ...string) (*world, *kfake.Cluster) {
	t.Helper()
	cluster, err := kfake.NewCluster(kfake.NumBrokers(1), kfake.SeedTopics(1, topics...))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(cluster.Close)
	w := &world{address: cluster.ListenAddrs()[0], topic: topics[0]}
	if w.broker, err = brokerkafka.Open(brokerkafka.Config{Brokers: cluster.ListenAddrs()}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { w.broker.Close() })
	w.Shop = inboxtest.New(t, w.broker, "dead")
	return w, cluster
}

func (w *world) publish(t *testing.T, msgs ...core.Message) {
	t.Helper()
	for i := range msgs {
		msgs[i].Topic = w.topic
	}
	if err := w.broker.Publish(t.Context(), msgs); err != nil {
		t.Fatal(err)
	}
}

func (w *world) config(group string) kafka.Config {
	return kafka.Config{Brokers: []string{w.address}, Group: group, Topics: []string{w.topic}, SessionTimeout: 6 * time.Second, Logger: quiet}
}

func (w *world) loop(t *testing.T, group string, effect inbox.Effect) *kafka.Loop {
	t.Helper()
	return w.loopWith(t, w.config(group), effect)
}

func (w *world) loopWith(t *testing.T, config kafka.Config, effect inbox.Effect) *kafka.Loop {
	t.Helper()
	loop, err := kafka.New(w.Consumer, effect, config)
	if err != nil {
		t.Fatal(err)
	}
	return loop
}

// awaitCommitted returns when the group's offsets in so many partitions come to want in all. An effect can be seen, and a dead
// letter, before its message is settled, and a stop in between leaves it to the next member.
func (w *world) awaitCommitted(t *testing.T, group string, partitions int, want int64) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for {
		all := int64(0)
		for p := range partitions {
			all += max(0, w.committed(t, group, p))
		}
		if all == want {
			return
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			t.Fatalf("offsets committed: %d in all, want %d", all, want)
		}
	}
}

// committed is the group's offset in a partition; -1 where it has none.
func (w *world) committed(t *testing.T, group string, partition int) int64 {
	t.Helper()
	client := &kafkago.Client{Addr: kafkago.TCP(w.address), Transport: &kafkago.Transport{}}
	defer client.Transport.(*kafkago.Transport).CloseIdleConnections()
	answer, err := client.OffsetFetch(t.Context(), &kafkago.OffsetFetchRequest{GroupID: group, Topics: map[string][]int{w.topic: {partition}}})
	if err != nil {
		t.Fatal(err)
	}
	if len(answer.Topics[w.topic]) == 0 { // the coordinator has not heard of the group, or is not yet one
		return -1
	}
	return answer.Topics[w.topic][0].CommittedOffset
}

// letters reads n dead letters.
func (w *world) letters(t *testing.T, n int) []kafkago.Message {
	t.Helper()
	reader := kafkago.NewReader(kafkago.ReaderConfig{Brokers: []string{w.address}, Topic: w.dead, MaxWait: 100 * time.Millisecond})
	defer reader.Close()
	var all []kafkago.Message
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	for range n {
		m, err := reader.ReadMessage(ctx)
		if err != nil {
			t.Fatalf("dead letter %d: %v", len(all)+1, err)
		}
		all = append(all, m)
	}
	return all
}

func header(m kafkago.Message, name string) string {
	for _, h := range m.Headers {
		if h.Key == name {
			return string(h.Value)
		}
	}
	return ""
}

func effect(ctx context.Context, tx *sql.Tx, m core.Message) error {
	if m.Headers["poison"] != "" {
		return errors.New("it is poison")
	}
	return inboxtest.Effect(ctx, tx, m.ID)
}

// Duplicates, a poison and a message without an id, and a group that starts again from its offsets and from the beginning.
func TestEachMessageHasItsEffectOnce(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 2)
	var ids []string
	for i := range 20 {
		id := fmt.Sprintf("m%02d", i)
		ids = append(ids, id)
		m := core.Message{ID: id, Key: fmt.Sprint(i % 4), Payload: []byte("{}")}
		w.publish(t, m)
		if i%3 == 0 {
			w.publish(t, m) // again, as a relay does that heard no answer
		}
		if i == 5 {
			w.publish(t, core.Message{ID: "poison", Key: "1", Headers: map[string]string{"poison": "yes"}, Payload: []byte("p")})
		}
	}
	group := w.topic + "_group"
	stop := inboxtest.Running(t, w.loop(t, group, effect))
	w.Await(t, len(ids))
	letter := w.letters(t, 1)[0]
	w.awaitCommitted(t, group, 2, 20+7+1)
	stop()
	w.ExpectOnce(t, ids...)
	if id, cause := header(letter, brokerkafka.IDHeader), header(letter, inbox.CauseHeader); id != "poison" || string(letter.Key) != "1" ||
		string(letter.Value) != "p" || !strings.Contains(cause, "it is poison") || header(letter, inbox.TopicHeader) != w.topic {
		t.Errorf("the dead letter is %q with the key %q, the payload %q and the cause %q", id, letter.Key, letter.Value, cause)
	}

	w.publish(t, core.Message{ID: "later", Key: "1"})
	var seen []string
	watched := func(ctx context.Context, tx *sql.Tx, m core.Message) error {
		seen = append(seen, m.ID) // each partition has its goroutine, and one of them has something to do
		return effect(ctx, tx, m)
	}
	stop = inboxtest.Running(t, w.loop(t, group, watched))
	w.Await(t, len(ids)+1)
	stop()
	if len(seen) != 1 || seen[0] != "later" {
		t.Errorf("after a restart: effects of %q, want of what came later", seen)
	}

	w.publish(t, core.Message{ID: "last", Key: "0"}, core.Message{ID: "last1", Key: "1"})
	stop = inboxtest.Running(t, w.loop(t, group+"_again", effect)) // as if every offset had been lost
	w.Await(t, len(ids)+3)
	stop()
	w.ExpectOnce(t, append(ids, "later", "last", "last1")...)
}

// A partition that waits for a message holds up no other.
func TestAFailureHoldsBackItsPartitionAlone(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 4)
	var others []string
	w.publish(t, core.Message{ID: "stuck", Key: "0"}, core.Message{ID: "behind", Key: "0"})
	for i := range 40 {
		others = append(others, fmt.Sprintf("o%02d", i))
		w.publish(t, core.Message{ID: others[i], Key: fmt.Sprint(i + 1)})
	}
	release := make(chan struct{})
	behind := 0 // how many wait behind the one that is stuck
	var order []string
	loop := w.loop(t, w.topic+"_group", func(ctx context.Context, tx *sql.Tx, m core.Message) error {
		select {
		case <-release:
			order = append(order, m.ID) // in the order of the database's one writer
			return effect(ctx, tx, m)
		default:
		}
		if m.ID == "stuck" {
			return core.ErrUnavailable
		}
		return effect(ctx, tx, m)
	})
	for _, id := range others {
		if w.partition(t, id) == w.partition(t, "stuck") {
			behind++
		}
	}
	if behind > 30 {
		t.Fatalf("%d of 40 are in the partition of the one that is stuck: the test shows nothing", behind)
	}
	stop := inboxtest.Running(t, loop)
	w.Await(t, len(others)-behind)
	if n := w.Effects(t)["behind"]; n != 0 {
		t.Error("a message overtook the one that failed before it, in its partition")
	}
	close(release)
	w.Await(t, len(others)+2)
	stop()
	w.ExpectOnce(t, append(others, "stuck", "behind")...)
	if len(order) == 0 || order[0] != "stuck" {
		t.Errorf("after the failure: %q, want the one that failed first", order)
	}
}

// partition finds where a message is.
func (w *world) partition(t *testing.T, id string) int {
	t.Helper()
	for p := range 4 {
		conn, err := kafkago.DialLeader(t.Context(), "tcp", w.address, w.topic, p)
		if err != nil {
			t.Fatal(err)
		}
		end, err := conn.ReadLastOffset()
		if err != nil {
			t.Fatal(err)
		}
		found := false
		for offset := int64(0); offset < end; {
			batch := conn.ReadBatch(1, 1<<20)
			for {
				m, err := batch.ReadMessage()
				if err != nil {
					if !errors.Is(err, io.EOF) && !errors.Is(err, kafkago.RequestTimedOut) {
						t.Fatal(err)
					}
					break
				}
				offset = m.Offset + 1
				found = found || header(m, brokerkafka.IDHeader) == id
			}
			batch.Close()
		}
		conn.Close()
		if found {
			return p
		}
	}
	t.Fatalf("%s is in no partition", id)
	return 0
}

// A poison that nearly fills its topic does not fit into one of the same size with its cause.
func TestADeadLetterThatIsTooLargeGoesWithoutItsCause(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 1)
	w.dead = servers.KafkaTopic(t, 1, kafkago.ConfigEntry{ConfigName: "max.message.bytes", ConfigValue: "2000"})
	w.Shop = inboxtest.New(t, w.broker, w.dead)
	payload := strings.Repeat("p", 1850)
	w.publish(t, core.Message{ID: "poison", Headers: map[string]string{"poison": "yes"}, Payload: []byte(payload)})
	stop := inboxtest.Running(t, w.loop(t, w.topic+"_group", effect))
	letter := w.letters(t, 1)[0]
	stop()
	if id := header(letter, brokerkafka.IDHeader); id != "poison" || string(letter.Value) != payload || header(letter, inbox.CauseHeader) != "" {
		t.Errorf("the dead letter is %q with the headers %v, want it as it came", id, letter.Headers)
	}
}

// A dead letter that nothing accepts ends Run: the message stays where it is, and somebody is told.
func TestARefusedDeadLetterEndsRun(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 1)
	w.Shop = inboxtest.New(t, refusing{}, "nowhere")
	w.publish(t, core.Message{ID: "poison", Headers: map[string]string{"poison": "yes"}})
	group := w.topic + "_group"
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	if err := w.loop(t, group, effect).Run(ctx); !errors.Is(err, core.ErrPermanent) {
		t.Errorf("Run: got %v, want the refusal", err)
	}
	if offset := w.committed(t, group, 0); offset > 0 {
		t.Errorf("the offset %d is committed: the message has disappeared", offset)
	}
}

type refusing struct{}

func (refusing) Publish(context.Context, []core.Message) error { return core.ErrPermanent }

func TestConfigSaysAllAtOnce(t *testing.T) {
	err := kafka.Config{SessionTimeout: -1}.Validate()
	for _, field := range []string{"Brokers", "Group", "Topics", "SessionTimeout"} {
		if err == nil || !strings.Contains(err.Error(), field) {
			t.Errorf("got %v, want it to name %s", err, field)
		}
	}
}
