package kafka_test

import (
	"context"
	"fmt"
	"slices"
	"testing"
	"time"

	kafkago "github.com/segmentio/kafka-go"

	"github.com/lockstep-go/lockstep/broker/kafka"
	"github.com/lockstep-go/lockstep/core"
	"github.com/lockstep-go/lockstep/internal/servers"
)

// site is a topic of the real server, and an outbox.
type site struct {
	address, topic string
	partitions     int
	outbox         string
	epoch          int64
}

func newSite(t *testing.T, partitions int) *site {
	t.Helper()
	return &site{address: servers.Kafka(t), topic: servers.KafkaTopic(t, partitions), partitions: partitions, outbox: core.NewID()}
}

// owner is a process that had the lease.
type owner struct {
	site   *site
	broker *kafka.Broker
	term   core.Broker
	tap    *tap
}

// owner begins a term of another process.
func (s *site) owner(t *testing.T) *owner {
	t.Helper()
	o := &owner{site: s, broker: open(t, s.address)}
	o.tap = newTap(o.broker)
	o.begin(t)
	return o
}

func (o *owner) begin(t *testing.T) {
	t.Helper()
	o.site.epoch++
	term, err := o.broker.ForTerm(t.Context(), core.Term{Outbox: o.site.outbox, Epoch: o.site.epoch})
	if err != nil {
		t.Fatal(err)
	}
	o.term = term
}

// publish publishes messages of these IDs in one call, all of one key, and returns what is said of the first.
func (o *owner) publish(t *testing.T, ids ...string) error {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), longEnough)
	defer cancel()
	return o.publishIn(ctx, t, ids...)
}

// giveUp publishes in vain: a batch whose fate is unknown is not sent again.
func (o *owner) giveUp(t *testing.T, ids ...string) error {
	t.Helper()
	o.broker.BePatient(0)
	defer o.broker.BePatient(kafka.DoubtPatience)
	return o.publish(t, ids...)
}

func (o *owner) publishIn(ctx context.Context, t *testing.T, ids ...string) error {
	t.Helper()
	var msgs []core.Message
	for _, id := range ids {
		msgs = append(msgs, core.Message{ID: id, Topic: o.site.topic, Key: "k"})
	}
	return resultsOf(t, o.term.Publish(ctx, msgs), len(msgs))[0]
}

// stored returns the IDs that the topic holds. It looks at the end first, so that nothing is missed or waited for.
func (s *site) stored(t *testing.T) []string {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), longEnough)
	defer cancel()
	total := 0
	for p := range s.partitions {
		end, err := s.end(ctx, p)
		if err != nil {
			t.Fatal(err)
		}
		total += int(end)
	}
	msgs, err := read(ctx, s.address, s.topic, s.partitions, total)
	if err != nil {
		t.Fatal(err)
	}
	var ids []string
	for _, m := range msgs {
		ids = append(ids, m.ID)
	}
	return ids
}

// end returns the offset behind a partition's last record.
func (s *site) end(ctx context.Context, partition int) (int64, error) {
	conn, err := kafkago.DialLeader(ctx, "tcp", s.address, s.topic, partition)
	if err != nil {
		return 0, err
	}
	defer conn.Close()
	return conn.ReadLastOffset()
}

func (s *site) expect(t *testing.T, want ...string) {
	t.Helper()
	if got := s.stored(t); !slices.Equal(got, want) {
		t.Errorf("stored: got %v, want %v", got, want)
	}
}

// Rule 33: a relay that was paused, and wakes up, appends nothing after its successor wrote.
func TestAPausedRelayWritesNothingAfterItsSuccessor(t *testing.T) {
	t.Parallel()
	s := newSite(t, 1)
	older := s.owner(t)
	expectClass(t, "1", older.publish(t, "1"), nil)
	newer := s.owner(t)
	expectClass(t, "2, before the successor wrote", older.publish(t, "2"), nil)
	expectClass(t, "1 by the successor", newer.publish(t, "1"), nil)
	expectClass(t, "3, after the successor wrote", older.publish(t, "3"), core.ErrFenced)
	expectClass(t, "4, after the successor wrote", older.publish(t, "4"), core.ErrFenced)
	expectClass(t, "2 by the successor", newer.publish(t, "2", "3", "4"), nil)
	s.expect(t, "1", "2", "1", "2", "3", "4")
}

// Rules 32 and 33: what was on its way when its sender was given up does not arrive after a successor wrote.
func TestALateCopyOfAnEarlierTermIsRefused(t *testing.T) {
	t.Parallel()
	s := newSite(t, 1)
	older := s.owner(t)
	expectClass(t, "0", older.publish(t, "0"), nil)
	older.tap.trick.Store(hold)
	ctx, cancel := context.WithCancel(t.Context())
	go func() { // the process stops before it tries again
		older.tap.holds <- <-older.tap.holds
		cancel()
	}()
	expectClass(t, "1", older.publishIn(ctx, t, "1"), core.ErrUncertain)
	newer := s.owner(t)
	expectClass(t, "1 and 2 by the successor", newer.publish(t, "1", "2"), nil)
	if code := kafkago.Error((<-older.tap.holds).release(t)); code != kafkago.InvalidProducerEpoch {
		t.Errorf("the late copy is answered with %d (%v), want InvalidProducerEpoch", code, code)
	}
	s.expect(t, "0", "1", "2")
}

// Rule 32: a time-out means maybe appended. Outside of a term the late copy lands behind newer ones; in a term it is
// refused, be it given up or sent again.
func TestALateCopyOfATermsOwn(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name    string
		inATerm bool
		giveUp  bool
		want    kafkago.Error
		stored  []string
	}{
		{"outside of a term", false, true, 0, []string{"0", "1", "2", "1"}},
		{"given up", true, true, kafkago.InvalidProducerEpoch, []string{"0", "1", "2"}},
		{"sent again", true, false, 0, []string{"0", "1", "2"}}, // known to be a copy: answered as stored, and not stored
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			s := newSite(t, 1)
			o := s.owner(t)
			if !tt.inATerm {
				o.term = o.broker
			}
			expectClass(t, "0", o.publish(t, "0"), nil)
			o.tap.trick.Store(hold)
			if tt.giveUp {
				ctx, cancel := context.WithCancel(t.Context())
				go func() {
					o.tap.holds <- <-o.tap.holds
					cancel()
				}()
				expectClass(t, "1", o.publishIn(ctx, t, "1"), core.ErrUncertain)
			}
			expectClass(t, "1 again", o.publish(t, "1"), nil)
			expectClass(t, "2", o.publish(t, "2"), nil)
			if code := kafkago.Error((<-o.tap.holds).release(t)); code != tt.want {
				t.Errorf("the late copy is answered with %d, want %d", code, tt.want)
			}
			s.expect(t, tt.stored...)
		})
	}
}

// Rule 33: the same number again is the same batch.
func TestABatchWhoseAnswerIsLostIsStoredOnce(t *testing.T) {
	t.Parallel()
	s := newSite(t, 1)
	o := s.owner(t)
	var want []string
	for i := range 10 {
		a, b := fmt.Sprint(i, "a"), fmt.Sprint(i, "b")
		o.tap.trick.Store(lose)
		expectClass(t, a, o.publish(t, a, b), nil)
		want = append(want, a, b)
	}
	if n := len(o.tap.lost); n != 10 {
		t.Errorf("answers lost: got %d, want 10", n)
	}
	s.expect(t, want...)
}

// Rule 33: a number that may be taken is not used for another batch, which would be dropped as a copy of it.
func TestAfterALostAnswerNothingIsTakenForACopy(t *testing.T) {
	t.Parallel()
	s := newSite(t, 1)
	o := s.owner(t)
	expectClass(t, "0", o.publish(t, "0"), nil)
	var want = []string{"0"}
	for i := range 2 {
		o.tap.trick.Store(loseAll)
		lost, next := fmt.Sprint("lost", i), fmt.Sprint("next", i)
		expectClass(t, lost, o.giveUp(t, lost), core.ErrUncertain)
		o.tap.trick.Store(none)
		expectClass(t, next, o.publish(t, next), nil) // as many records, so that the number would fit
		want = append(want, lost, next)
	}
	s.expect(t, want...)
}

// Rule 33, and the engine's rule that nobody shuts out anybody again inside a term: a later epoch is not given to whoever
// has been succeeded, and its asking does the successor no harm.
func TestALaterEpochIsNotTakenFromASuccessor(t *testing.T) {
	t.Parallel()
	s := newSite(t, 1)
	older := s.owner(t)
	expectClass(t, "0", older.publish(t, "0"), nil)
	older.tap.trick.Store(loseAll)
	expectClass(t, "1", older.giveUp(t, "1"), core.ErrUncertain)
	newer := s.owner(t)
	older.tap.trick.Store(none)
	expectClass(t, "2 by the older", older.publish(t, "2"), core.ErrFenced) // though the newer one has written nothing yet
	expectClass(t, "1 by the newer", newer.publish(t, "1"), nil)
	newer.tap.trick.Store(loseAll)
	expectClass(t, "2 by the newer", newer.giveUp(t, "2"), core.ErrUncertain)
	expectClass(t, "2 by the older", older.publish(t, "2"), core.ErrFenced)
	newer.tap.trick.Store(none)
	expectClass(t, "3 by the newer", newer.publish(t, "3"), nil)
	s.expect(t, "0", "1", "1", "2", "3")
}

// Rule 33: one outbox does not shut out another.
func TestOutboxesDoNotShutOutEachOther(t *testing.T) {
	t.Parallel()
	one := newSite(t, 1)
	other := &site{address: one.address, topic: one.topic, partitions: 1, outbox: core.NewID()}
	a, b := one.owner(t), other.owner(t)
	for i := range 3 {
		expectClass(t, "a", a.publish(t, fmt.Sprint("a", i)), nil)
		expectClass(t, "b", b.publish(t, fmt.Sprint("b", i)), nil)
	}
	one.expect(t, "a0", "b0", "a1", "b1", "a2", "b2")
}

// A relay takes the lease again, in the same process and with the same Broker.
func TestTermsOfOneProcess(t *testing.T) {
	t.Parallel()
	s := newSite(t, 1)
	o := s.owner(t)
	expectClass(t, "1", o.publish(t, "1"), nil)
	earlier := o.term
	o.begin(t)
	expectClass(t, "2", o.publish(t, "2"), nil)
	o.term = earlier
	expectClass(t, "3", o.publish(t, "3"), core.ErrFenced)
	s.expect(t, "1", "2")
}

// A topic that is deleted and made anew has forgotten all numbers.
func TestATopicThatIsMadeAnew(t *testing.T) {
	t.Parallel()
	s := newSite(t, 1)
	o := s.owner(t)
	expectClass(t, "1", o.publish(t, "1"), nil)
	transport := &kafkago.Transport{}
	defer transport.CloseIdleConnections()
	client := &kafkago.Client{Addr: kafkago.TCP(s.address), Transport: transport, Timeout: longEnough}
	if _, err := client.DeleteTopics(t.Context(), &kafkago.DeleteTopicsRequest{Topics: []string{s.topic}}); err != nil {
		t.Fatal(err)
	}
	remade, err := client.CreateTopics(t.Context(), &kafkago.CreateTopicsRequest{
		Topics: []kafkago.TopicConfig{{Topic: s.topic, NumPartitions: 1, ReplicationFactor: 1}},
	})
	if err != nil || remade.Errors[s.topic] != nil {
		t.Fatal(err, remade.Errors)
	}
	// The broker obeys later than the controller answers: a record that it takes until then goes with the topic that is deleted.
	ctx, cancel := context.WithTimeout(t.Context(), longEnough)
	defer cancel()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for end, err := s.end(ctx, 0); end != 0 || err != nil; end, err = s.end(ctx, 0) {
		select {
		case <-tick.C:
		case <-ctx.Done():
			t.Fatalf("the new topic is not there: its end is %d, %v", end, err)
		}
	}
	expectClass(t, "2", o.publish(t, "2"), nil)
	s.expect(t, "2")
}
