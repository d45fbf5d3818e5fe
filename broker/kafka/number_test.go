package kafka_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kmsg"
	"github.com/twmb/franz-go/pkg/kversion"

	"github.com/lockstep-go/lockstep/broker/kafka"
	"github.com/lockstep-go/lockstep/core"
)

const initProducerIDKey = 22

// log collects what is logged.
type log struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (l *log) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(p)
}

func (l *log) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.String()
}

func (l *log) logger() *slog.Logger { return slog.New(slog.NewTextHandler(l, nil)) }

// inTerm makes f publish in a term.
func (f *fake) inTerm(t *testing.T) {
	t.Helper()
	term, err := f.broker.ForTerm(t.Context(), core.Term{Outbox: core.NewID(), Epoch: 1})
	if err != nil {
		t.Fatal(err)
	}
	f.publisher = term
}

// batches returns the numbers of the record batches so far, and what is in them.
func (f *fake) batches(t *testing.T) (numbers []string, records [][]byte) {
	t.Helper()
	for _, r := range f.seen() {
		raw := r.Topics[0].Partitions[0].Records
		var b kmsg.RecordBatch
		if err := b.ReadFrom(raw); err != nil {
			t.Fatal(err)
		}
		numbers = append(numbers, fmt.Sprintf("epoch %d, %d to %d", b.ProducerEpoch, b.FirstSequence, b.FirstSequence+b.LastOffsetDelta))
		records = append(records, raw)
	}
	return numbers, records
}

// giveUp publishes in vain: a batch whose fate is unknown is not sent again.
func (f *fake) giveUp(t *testing.T, msgs ...core.Message) []error {
	t.Helper()
	f.broker.BePatient(0)
	defer f.broker.BePatient(kafka.DoubtPatience)
	return f.publish(t.Context(), t, msgs...)
}

func (f *fake) expectNumbers(t *testing.T, want ...string) {
	t.Helper()
	if got, _ := f.batches(t); !slices.Equal(got, want) {
		t.Errorf("numbers: got\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}

func ids(n int) (msgs []core.Message) {
	for i := range n {
		msgs = append(msgs, core.Message{ID: fmt.Sprint(i), Key: fmt.Sprint("k", i)})
	}
	return msgs
}

func TestBatchesAreNumbered(t *testing.T) {
	t.Parallel()
	f := newFake(t, 1)
	f.inTerm(t)
	for _, n := range []int{3, 1, 5} {
		for i, err := range f.publish(t.Context(), t, ids(n)...) {
			expectClass(t, fmt.Sprint(i), err, nil)
		}
	}
	f.expectNumbers(t, "epoch 0, 0 to 2", "epoch 0, 3 to 3", "epoch 0, 4 to 8")
}

// Rules 33 and 34: the numbers of what is refused are free, so that no number is left out.
func TestHalvesOfARefusedBatchAreNumberedInItsPlace(t *testing.T) {
	t.Parallel()
	f := newFake(t, 1)
	f.inTerm(t)
	f.Fault(kfake.Fault{Keys: []kmsg.Key{produceKey}, Err: kerr.InvalidRecord, Count: -1, When: holding("poison")})
	msgs := ids(4)
	msgs[1].Payload = []byte("poison")
	got := f.publish(t.Context(), t, msgs...)
	expectClass(t, "the guilty one", got[1], core.ErrPermanent)
	expectClass(t, "afterwards", f.publish(t.Context(), t, core.Message{ID: "9"})[0], nil)
	f.expectNumbers(t, "epoch 0, 0 to 3", "epoch 0, 0 to 1", "epoch 0, 0 to 0", "epoch 0, 1 to 1", "epoch 0, 1 to 2", "epoch 0, 3 to 3")
	if got := f.stored(t); !slices.Equal(got, []string{"0", "2", "3", "9"}) {
		t.Errorf("stored: got %v", got)
	}
}

// Rule 33: a retry is the same bytes.
func TestARetryIsByteIdentical(t *testing.T) {
	t.Parallel()
	for _, answer := range []*kerr.Error{kerr.RequestTimedOut, kerr.NotEnoughReplicasAfterAppend, kerr.NotLeaderForPartition} {
		f := newFake(t, 1)
		f.inTerm(t)
		f.Fault(kfake.Fault{Keys: []kmsg.Key{produceKey}, Err: answer, Count: 2})
		expectClass(t, answer.Message, f.publish(t.Context(), t, ids(2)...)[0], nil)
		_, records := f.batches(t)
		if len(records) != 3 || !bytes.Equal(records[0], records[1]) || !bytes.Equal(records[0], records[2]) {
			t.Errorf("%s: %d requests, want 3 of the same bytes", answer.Message, len(records))
		}
		expectClass(t, "afterwards", f.publish(t.Context(), t, core.Message{ID: "2"})[0], nil)
		if numbers, _ := f.batches(t); numbers[len(numbers)-1] != "epoch 0, 2 to 2" {
			t.Errorf("%s: the next batch is numbered %s, though no doubt is left", answer.Message, numbers[len(numbers)-1])
		}
		if got := f.stored(t); !slices.Equal(got, []string{"0", "1", "2"}) {
			t.Errorf("%s: stored: got %v, want each once", answer.Message, got)
		}
	}
}

func TestTheFateOfABatchDecidesItsNumber(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		answer *kerr.Error
		class  error
		next   string
	}{
		{kerr.NotEnoughReplicas, core.ErrUnavailable, "epoch 0, 0 to 0"},
		{kerr.TopicAuthorizationFailed, core.ErrUnavailable, "epoch 0, 0 to 0"},
		{kerr.MessageTooLarge, core.ErrPermanent, "epoch 0, 0 to 0"},
		{kerr.CorruptMessage, nil, "epoch 0, 0 to 0"},
		{kerr.InvalidTopicException, core.ErrPermanent, "epoch 0, 0 to 0"},
		{kerr.NotLeaderForPartition, core.ErrUnavailable, "epoch 1, 0 to 0"}, // a successor may have it
		{kerr.OutOfOrderSequenceNumber, core.ErrUnavailable, "epoch 1, 0 to 0"},
		{kerr.UnknownProducerID, core.ErrUnavailable, "epoch 1, 0 to 0"},
		{kerr.UnknownServerError, core.ErrUncertain, "epoch 1, 0 to 0"},
		{kerr.RequestTimedOut, core.ErrUncertain, "epoch 1, 0 to 0"},
	} {
		t.Run(tt.answer.Message, func(t *testing.T) {
			t.Parallel()
			f := newFake(t, 1)
			f.inTerm(t)
			fault := f.Fault(kfake.Fault{Keys: []kmsg.Key{produceKey}, Err: tt.answer, Count: -1})
			got := f.giveUp(t, core.Message{ID: "a"})[0]
			if tt.class == nil {
				tt.class = got // an ordinary refusal
			}
			expectClass(t, "a", got, tt.class)
			fault.Remove()
			expectClass(t, "b", f.publish(t.Context(), t, core.Message{ID: "b"})[0], nil)
			numbers, _ := f.batches(t)
			if last := numbers[len(numbers)-1]; last != tt.next {
				t.Errorf("the next batch is numbered %s, want %s", last, tt.next)
			}
		})
	}
}

// A first try without an answer makes the batch uncertain, whatever the next ones are answered with: a message that may be
// stored must not be buried, nor counted. Only a successor's fence says more, which ends the term.
func TestARefusalAfterALostAnswerIsNoRefusal(t *testing.T) {
	t.Parallel()
	for next, want := range map[*kerr.Error]error{
		kerr.NotEnoughReplicas:        core.ErrUncertain,
		kerr.TopicAuthorizationFailed: core.ErrUncertain,
		kerr.OutOfOrderSequenceNumber: core.ErrUncertain,
		kerr.MessageTooLarge:          core.ErrUncertain,
		kerr.RecordListTooLarge:       core.ErrUncertain,
		kerr.InvalidRecord:            core.ErrUncertain,
		kerr.InvalidTimestamp:         core.ErrUncertain,
		kerr.CorruptMessage:           core.ErrUncertain,
		kerr.InvalidTopicException:    core.ErrUncertain,
		kerr.ProducerFenced:           core.ErrFenced,
	} {
		t.Run(next.Message, func(t *testing.T) {
			f := newFake(t, 1)
			f.inTerm(t)
			f.ControlKey(produceKey, func(kmsg.Request) (kmsg.Response, error, bool) {
				return nil, errors.New("cut the connection"), true
			})
			f.ControlKey(produceKey, func(kmsg.Request) (kmsg.Response, error, bool) { // the next try, which is the last
				f.broker.BePatient(0)
				return nil, nil, false
			})
			f.Fault(kfake.Fault{Keys: []kmsg.Key{produceKey}, Err: next, Count: -1})
			expectClass(t, "a", f.publish(t.Context(), t, core.Message{ID: "a"})[0], want)
			if n := len(f.seen()); n != 2 {
				t.Errorf("%d requests, want the one that was cut off and the one that was refused", n)
			}
		})
	}
}

func TestFencedCodes(t *testing.T) {
	t.Parallel()
	for _, answer := range []*kerr.Error{kerr.InvalidProducerEpoch, kerr.ProducerFenced} {
		f := newFake(t, 1)
		f.inTerm(t)
		f.Fault(kfake.Fault{Keys: []kmsg.Key{produceKey}, Err: answer, Count: -1})
		expectClass(t, answer.Message, f.publish(t.Context(), t, core.Message{ID: "a"})[0], core.ErrFenced)
	}
}

// Every partition has numbers of its own, and changes to a later epoch when its next batch is sent.
func TestALaterEpochIsForAllPartitions(t *testing.T) {
	t.Parallel()
	f := newFake(t, 2)
	f.inTerm(t)
	expectClass(t, "a", f.publish(t.Context(), t, core.Message{ID: "a"})[0], nil) // without a key: one partition after the other
	expectClass(t, "b", f.publish(t.Context(), t, core.Message{ID: "b"})[0], nil)
	fault := f.Fault(kfake.Fault{Keys: []kmsg.Key{produceKey}, Err: kerr.UnknownServerError, Count: -1})
	expectClass(t, "c", f.giveUp(t, core.Message{ID: "c"})[0], core.ErrUncertain)
	fault.Remove()
	before := len(f.seen())
	expectClass(t, "d", f.publish(t.Context(), t, core.Message{ID: "d"})[0], nil) // the other one: not in doubt
	expectClass(t, "e", f.publish(t.Context(), t, core.Message{ID: "e"})[0], nil)
	expectClass(t, "f", f.publish(t.Context(), t, core.Message{ID: "f"})[0], nil)
	got, _ := f.batches(t)
	if want := []string{"epoch 0, 1 to 1", "epoch 1, 0 to 0", "epoch 1, 0 to 0"}; !slices.Equal(got[before:], want) {
		t.Errorf("numbers: got %v, want %v", got[before:], want)
	}
}

// While no later epoch can be had, nothing is sent whose number may be taken.
func TestWithoutALaterEpochNothingIsSent(t *testing.T) {
	t.Parallel()
	f := newFake(t, 1)
	f.inTerm(t)
	fault := f.Fault(kfake.Fault{Keys: []kmsg.Key{produceKey}, Err: kerr.UnknownServerError, Count: -1})
	expectClass(t, "a", f.giveUp(t, core.Message{ID: "a"})[0], core.ErrUncertain)
	fault.Remove()
	away := f.Fault(kfake.Fault{Keys: []kmsg.Key{initProducerIDKey}, Err: kerr.CoordinatorNotAvailable, Count: -1})
	before := len(f.seen())
	expectClass(t, "b", f.publish(t.Context(), t, core.Message{ID: "b"})[0], core.ErrUnavailable)
	if n := len(f.seen()) - before; n != 0 {
		t.Errorf("%d requests were made, want none", n)
	}
	away.Remove()
	expectClass(t, "b", f.publish(t.Context(), t, core.Message{ID: "b"})[0], nil)
}

// Where the cluster does not number, the relay goes on, as it did before, and says what is missing.
func TestAClusterThatRefusesTerms(t *testing.T) {
	t.Parallel()
	mayWrite := kfake.ACL{Resource: kmsg.ACLResourceTypeTopic, Name: "orders", Pattern: kmsg.ACLResourcePatternTypeLiteral,
		Operation: kmsg.ACLOperationWrite, Allow: true}
	for _, tt := range []struct {
		name, want string
		options    []kfake.Opt
	}{
		{"older than 2.5", "Kafka 2.5", []kfake.Opt{kfake.MaxVersions(kversion.V2_4_0())}},
		{"no permission", "grant the relay's user Write and Describe on the transactional IDs that begin with lockstep-", []kfake.Opt{
			kfake.EnableSASL(), kfake.EnableACLs(), kfake.Superuser("PLAIN", "root", "root"), kfake.User("PLAIN", "lockstep", "lockstep", mayWrite),
		}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			cluster, err := kfake.NewCluster(append(tt.options, kfake.SeedTopics(1, "orders"))...)
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(cluster.Close)
			warnings := &log{}
			config := kafka.Config{Brokers: cluster.ListenAddrs(), Logger: warnings.logger()}
			if len(tt.options) > 1 {
				config.SASL = kafka.Plain("lockstep", "lockstep")
			}
			term, err := openWith(t, config).ForTerm(t.Context(), core.Term{Outbox: core.NewID(), Epoch: 1})
			if err != nil {
				t.Fatal(err)
			}
			if _, ok := term.(core.KeyOrdered); !ok {
				t.Error("the term's broker is not KeyOrdered")
			}
			if err := term.Publish(t.Context(), []core.Message{{ID: "a", Topic: "orders"}}); err != nil {
				t.Error(err)
			}
			if !strings.Contains(warnings.String(), tt.want) {
				t.Errorf("logged: %q, want %q in it", warnings, tt.want)
			}
		})
	}
}

// A cluster whose coordinator is away for a moment is asked again; one that has none, as a single broker has none that
// wants three replicas of its state, holds nothing up for long.
func TestACoordinatorThatIsAway(t *testing.T) {
	t.Parallel()
	warnings := &log{}
	f := newFake(t, 1)
	f.broker = openWith(t, kafka.Config{Brokers: f.ListenAddrs(), Logger: warnings.logger()})
	f.Fault(kfake.Fault{Keys: []kmsg.Key{initProducerIDKey}, Err: kerr.CoordinatorLoadInProgress, Count: 2})
	f.inTerm(t)
	none := kfake.Fault{Keys: []kmsg.Key{initProducerIDKey}, Err: kerr.CoordinatorNotAvailable, Count: -1}
	twiceInVain := func() {
		for n := 1; n <= 2; n++ {
			ctx, cancel := context.WithTimeout(t.Context(), longEnough)
			_, err := f.broker.ForTerm(ctx, core.Term{Outbox: core.NewID(), Epoch: 2})
			cancel()
			expectClass(t, fmt.Sprint("term ", n, " in vain"), err, core.ErrUnavailable)
		}
	}
	away := f.Fault(none)
	twiceInVain()
	away.Remove()
	f.inTerm(t) // the next two are not the third and the fourth in a row
	f.Fault(none)
	twiceInVain()
	if warnings.String() != "" {
		t.Errorf("logged so far: %s", warnings)
	}
	f.inTerm(t)
	if !strings.Contains(warnings.String(), "__transaction_state") {
		t.Errorf("logged: %q, want what to look at", warnings)
	}
	expectClass(t, "a", f.publish(t.Context(), t, core.Message{ID: "a"})[0], nil)
	f.expectNumbers(t, "epoch -1, -1 to -1")
}

func TestATermNeedsTheCluster(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithTimeout(t.Context(), time.Second)
	defer cancel()
	_, err := open(t, "127.0.0.1:1").ForTerm(ctx, core.Term{Outbox: core.NewID(), Epoch: 1})
	expectClass(t, "without a broker", err, core.ErrUnavailable)
}
