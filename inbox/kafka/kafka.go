// Package kafka runs an [inbox.Consumer] on Kafka, as a member of a consumer group, through kafka-go.
//
// Each partition is settled by itself and in order: a message that fails holds back its partition until it has its effect or
// is a dead letter, and no other partition. An offset is committed to the group only when the effects of everything before
// it are committed in the database, and it only saves work: what is read again, after a crash, a rebalance, or by two members
// that both believe to own a partition, is found in the inbox.
//
// What retention removes before the group has read it has no effect, ever. The logger is told how much that is, and
// [Config.Removed] can stop the consumer there.
//
// Topics that are written with Kafka's transactions are not for this package: kafka-go hands out what was aborted as well, which
// would have its effect, and the markers that end transactions, which have no id and would become dead letters. An outbox's relay
// writes without.
package kafka

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	kafkago "github.com/segmentio/kafka-go"

	"github.com/lockstep-go/lockstep/core"
	"github.com/lockstep-go/lockstep/inbox"
)

const (
	defaultSessionTimeout = 10 * time.Second
	// commitEvery is how often offsets are committed to the group. What was settled since is read again after a crash.
	commitEvery = 200 * time.Millisecond
	// maxWait is how long the broker holds back an answer that has nothing in it.
	maxWait = 500 * time.Millisecond
	// rejoinPause is the pace at which a group that cannot be joined is tried again, and a topic that is missing looked for.
	rejoinPause = time.Second
)

// Config says what to read. Its required fields are marked.
type Config struct {
	// Brokers are host:port addresses of the cluster, to find the others by. Required.
	Brokers []string
	// Group is the consumer group. Required. The consumer's name in the inbox is another matter: it stays when the group
	// is renamed to read a topic again.
	Group string
	// Topics are what the group reads. One that does not exist is left out until it does, and the logger is told. Required.
	Topics []string
	// Dialer connects, and brings TLS and SASL. Defaults to a plain one.
	Dialer *kafkago.Dialer
	// SessionTimeout is how long a member that died keeps its partitions. Brokers refuse less than their
	// group.min.session.timeout.ms, 6 s. Defaults to 10 s.
	SessionTimeout time.Duration
	// IDHeader is the record header that holds the message's id. Defaults to lockstep-id, and in a CloudEvent ce_id.
	IDHeader string
	// Removed is asked what to do where Kafka has removed what the group had not read: retention overtook it, or somebody
	// deleted records. After nil the partition is read on behind them; any error ends Run, with it. It is called for one
	// partition at a time, and for several at once. Defaults to reading on: while nobody reads, retention removes more.
	Removed func(*RemovedError) error
	// Logger is told why a partition or the group is left, and of what was removed and is passed over. Defaults to slog.Default().
	Logger *slog.Logger
}

// Validate reports every field that is missing or out of range.
func (c Config) Validate() error {
	var faults []error
	if len(c.Brokers) == 0 {
		faults = append(faults, errors.New("Brokers is empty: name at least one host:port"))
	}
	if c.Group == "" {
		faults = append(faults, errors.New("Group is empty: name the consumer group"))
	}
	if len(c.Topics) == 0 {
		faults = append(faults, errors.New("Topics is empty: name what to read"))
	}
	if c.SessionTimeout < 0 {
		faults = append(faults, fmt.Errorf("SessionTimeout is %v: it must not be negative", c.SessionTimeout))
	}
	return errors.Join(faults...)
}

// Loop consumes. Several of a group, in one process or in many, share its partitions.
type Loop struct {
	consumer *inbox.Consumer
	effect   inbox.Effect
	config   Config
	answered atomic.Pointer[string] // the broker that answered last; nil before
}

// New returns a loop that settles what it reads with consumer, by effect. It connects to nothing yet.
func New(consumer *inbox.Consumer, effect inbox.Effect, config Config) (*Loop, error) {
	if err := config.Validate(); err != nil {
		return nil, fmt.Errorf("inbox kafka config: %w", err)
	}
	if config.SessionTimeout == 0 {
		config.SessionTimeout = defaultSessionTimeout
	}
	if config.Dialer == nil {
		config.Dialer = &kafkago.Dialer{Timeout: 10 * time.Second, DualStack: true}
	}
	if config.Logger == nil {
		config.Logger = slog.Default()
	}
	config.Logger = config.Logger.With("group", config.Group)
	return &Loop{consumer: consumer, effect: effect, config: config}, nil
}

// Run consumes until ctx is done, and returns nil then: it leaves the group, and effects that are under way are rolled back
// and made by whoever takes the partition over. A topic is read from its beginning where the group has no offset. While the
// cluster is away it goes on trying: to begin, it asks one of Brokers after the other, each for up to 10 s, until one answers.
// Any other error is that of a dead letter that nothing accepts ([inbox.Consumer.Settle]), or what Config.Removed answered.
func (l *Loop) Run(ctx context.Context) error {
	ctx, fail := context.WithCancelCause(ctx)
	defer fail(nil)
	var missing []string
	for ctx.Err() == nil {
		there, err := l.topicsThere(ctx)
		if err != nil {
			l.notJoined(ctx, err)
			wait(ctx, rejoinPause)
			continue
		}
		missing = l.tellMissing(missing, there)
		if len(there) == 0 {
			wait(ctx, rejoinPause)
			continue
		}
		if err := l.read(ctx, there, fail); err != nil {
			return fmt.Errorf("inbox kafka: %w", err)
		}
	}
	if cause := context.Cause(ctx); !errors.Is(cause, context.Canceled) && !errors.Is(cause, context.DeadlineExceeded) {
		return fmt.Errorf("inbox kafka: %w", cause)
	}
	return nil
}

// read is a member of the group, of which it reads these topics, until ctx is done or others of the configured ones are there.
func (l *Loop) read(ctx context.Context, topics []string, fail context.CancelCauseFunc) error {
	ctx, leave := context.WithCancel(ctx)
	defer leave()
	group, err := kafkago.NewConsumerGroup(kafkago.ConsumerGroupConfig{
		ID: l.config.Group, Brokers: l.brokers(), Topics: topics, Dialer: l.config.Dialer,
		SessionTimeout: l.config.SessionTimeout, HeartbeatInterval: l.config.SessionTimeout / 4,
		StartOffset: kafkago.FirstOffset, WatchPartitionChanges: true, JoinGroupBackoff: rejoinPause,
	})
	if err != nil {
		return err
	}
	defer group.Close() // waits for the generation's goroutines
	var watching sync.WaitGroup
	defer func() {
		leave()
		watching.Wait()
	}()
	if len(topics) < len(l.config.Topics) {
		watching.Go(func() { l.untilTopicsChange(ctx, topics, leave) })
	}
	for generations := 0; ctx.Err() == nil; generations++ {
		generation, err := group.Next(ctx)
		if err != nil {
			l.notJoined(ctx, err)
			continue // the group itself pauses between its tries
		}
		if generations > 0 { // one that was deleted is what may have ended the last
			if there, err := l.topicsThere(ctx); err == nil && !slices.Equal(there, topics) {
				return nil
			}
		}
		l.start(generation, fail)
	}
	return nil
}

func (l *Loop) notJoined(ctx context.Context, err error) {
	if ctx.Err() == nil {
		l.config.Logger.Warn("the consumer group was not joined, and is tried again", "error", err)
	}
}

// start reads the generation's partitions, each in a goroutine of its own, which the generation waits for.
func (l *Loop) start(generation *kafkago.Generation, fail context.CancelCauseFunc) {
	done := &progress{offsets: map[string]map[int]int64{}}
	var partitions sync.WaitGroup
	for topic, assignments := range generation.Assignments {
		for _, a := range assignments {
			partitions.Add(1)
			generation.Start(func(ctx context.Context) {
				defer partitions.Done()
				if err := l.settlePartition(ctx, topic, a, done); err != nil && ctx.Err() == nil {
					fail(err)
				}
			})
		}
	}
	generation.Start(func(ctx context.Context) {
		tick := time.NewTicker(commitEvery)
		defer tick.Stop()
		for ended := false; !ended; {
			select {
			case <-tick.C:
			case <-ctx.Done():
				ended = true
				partitions.Wait()
			}
			if err := generation.CommitOffsets(done.take()); err != nil && !ended {
				l.config.Logger.Warn("offsets were not committed, and the group is joined again", "error", err)
				return // which ends the generation
			}
		}
	})
}

// progress is the offsets that are to be committed.
type progress struct {
	mu      sync.Mutex
	offsets map[string]map[int]int64
}

func (p *progress) settled(topic string, partition int, next int64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.offsets[topic] == nil {
		p.offsets[topic] = map[int]int64{}
	}
	p.offsets[topic][partition] = next
}

// take returns what was settled since the last take.
func (p *progress) take() map[string]map[int]int64 {
	p.mu.Lock()
	defer p.mu.Unlock()
	taken := maps.Clone(p.offsets)
	clear(p.offsets)
	return taken
}

// The record headers in which ids travel: see docs/messages.md.
const (
	idHeader      = core.ReservedHeaderPrefix + "id"
	eventIDHeader = "ce_id"
)

// message is the record as broker/kafka was given it. Of headers with the same name it has the last.
func (l *Loop) message(record *kafkago.Message) core.Message {
	m := core.Message{
		Topic: record.Topic, Key: string(record.Key), Payload: record.Value, EnqueuedAt: record.Time,
		Headers: make(map[string]string, len(record.Headers)),
	}
	for _, h := range record.Headers {
		switch {
		case h.Key == l.config.IDHeader, l.config.IDHeader == "" && (h.Key == idHeader || h.Key == eventIDHeader):
			m.ID = string(h.Value)
		}
		if h.Key != idHeader {
			m.Headers[h.Key] = string(h.Value)
		}
	}
	return m
}
