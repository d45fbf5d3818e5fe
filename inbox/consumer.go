package inbox

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/lockstep-go/lockstep/core"
)

const (
	defaultMaxAttempts = 5
	defaultRetryDelay  = 100 * time.Millisecond
	// longestDelay is how many times RetryDelay the pause between two attempts is, at most.
	longestDelay = 100
	// defaultEffectTimeout is what Kafka's own consumers have for what they read, and less than RabbitMQ's 30 minutes.
	defaultEffectTimeout = 5 * time.Minute
	// unclearPerAttempt is how many attempts whose end is unclear make up for one that failed: a network that flaps cuts
	// connections too, and must not bury what is in order.
	unclearPerAttempt = 10
)

// Effect is what a consumer does about a message, in tx and nowhere else. It does not end tx, and returns every error of tx: on
// MySQL and MariaDB a deadlock, on SQLite a conflict under OR ROLLBACK, has ended the transaction, and what follows is outside of
// it, without the note. It waits by ctx, which ends with the consumer, and after [ConsumerConfig].EffectTimeout: one that has not
// returned 10 s later is rolled back and left to itself, in a goroutine of its own, and may run beside the next attempt. m's headers
// and payload are its own copy, anew for each attempt. An error that is [core.ErrPermanent] makes the message a dead letter at once. One that is
// [core.ErrUnavailable] says that something which the effect needs is away: it is tried again, and no attempt is counted.
type Effect func(ctx context.Context, tx *sql.Tx, m core.Message) error

// ConsumerConfig sets what a [Consumer] does about messages that fail.
type ConsumerConfig struct {
	// DeadLetters is where messages go that failed for good: ours in broker/kafka and broker/amqp, or any other. Required.
	DeadLetters core.Broker
	// DeadLetterTopic is the topic, or the exchange, that they are published to. Required.
	DeadLetterTopic string
	// MaxAttempts is how many failed attempts make a dead letter. Of those that lost their connection, while the database
	// answered on another one, it takes ten times as many. Defaults to 5.
	MaxAttempts int
	// RetryDelay is the pause after the first failure. It doubles with each further one, up to 100 times as much.
	// Defaults to 100 ms.
	RetryDelay time.Duration
	// EffectTimeout is how long a run of an effect may take. Then its context ends, and the attempt counts as failed, unless the
	// database is away or the effect says [core.ErrUnavailable]. An attempt is one run, and up to 10 where the database rolls each
	// back for another transaction's sake. On MySQL and MariaDB the end of a context does not end a statement on the server, which
	// keeps the message's row locked meanwhile, and no attempt is counted before that: see docs/inbox.md. Defaults to 5 minutes.
	EffectTimeout time.Duration
	// Logger is told of failures and dead letters. Defaults to slog.Default().
	Logger *slog.Logger
}

// Validate reports every field that is missing or out of range.
func (c ConsumerConfig) Validate() error {
	var faults []error
	if c.DeadLetters == nil {
		faults = append(faults, errors.New("DeadLetters is nil: a message that fails for good needs a place to go to"))
	}
	if c.DeadLetterTopic == "" {
		faults = append(faults, errors.New("DeadLetterTopic is empty: name the topic or exchange for messages that fail for good"))
	}
	if c.MaxAttempts < 0 {
		faults = append(faults, fmt.Errorf("MaxAttempts is %d: it must not be negative", c.MaxAttempts))
	}
	if c.RetryDelay < 0 {
		faults = append(faults, fmt.Errorf("RetryDelay is %v: it must not be negative", c.RetryDelay))
	}
	if c.EffectTimeout < 0 {
		faults = append(faults, fmt.Errorf("EffectTimeout is %v: it must not be negative", c.EffectTimeout))
	}
	return errors.Join(faults...)
}

// Consumer settles messages: each has its effect once, or becomes a dead letter. Safe for concurrent use.
type Consumer struct {
	inbox  *Inbox
	db     core.Beginner
	name   string
	config ConsumerConfig
}

// NewConsumer returns the consumer with this name. Its effects happen in transactions of db, the database of the inbox. The
// name stays the same for good: under another one every message is new.
func NewConsumer(inbox *Inbox, db core.Beginner, name string, config ConsumerConfig) (*Consumer, error) {
	if err := config.Validate(); err != nil {
		return nil, fmt.Errorf("inbox consumer config: %w", err)
	}
	if err := checkNames(name, "any"); err != nil {
		return nil, fmt.Errorf("inbox: %w", err)
	}
	if config.MaxAttempts == 0 {
		config.MaxAttempts = defaultMaxAttempts
	}
	if config.RetryDelay == 0 {
		config.RetryDelay = defaultRetryDelay
	}
	if config.EffectTimeout == 0 {
		config.EffectTimeout = defaultEffectTimeout
	}
	if config.Logger == nil {
		config.Logger = slog.Default()
	}
	config.Logger = config.Logger.With("consumer", name)
	return &Consumer{inbox: inbox, db: db, name: name, config: config}, nil
}

// Settle returns nil when m can be acknowledged: its effect is committed, by this call or an earlier one, or it is stored
// as a dead letter. It tries for as long as that takes:
//
//   - A failed effect, a panic and one that takes longer than EffectTimeout included, is tried again with growing pauses, up to
//     MaxAttempts times; then m is buried.
//   - A message without a usable id, and one whose effect says [core.ErrPermanent], is buried at once.
//   - An attempt that lost its connection, by a deadline of the effect's own too, is counted where the database answers on
//     another one, apart from the others: m is buried after ten times MaxAttempts of them.
//   - While the database is away, or the effect says [core.ErrUnavailable], no attempt is counted. It goes on for ever.
//   - While the dead letters cannot be stored, m is not settled either: it does not disappear. One that is refused for good is
//     sent again with a shorter cause, then without any of the headers that make it one: they may have made it too large.
//
// An error means that m is not settled, and to be delivered again: ctx is done, or DeadLetters refuses m for good, which
// needs somebody's attention. A message that kills the process is beyond it: attempts are counted in memory. Whoever knows of
// one calls [Consumer.Bury].
func (c *Consumer) Settle(ctx context.Context, m core.Message, effect Effect) error {
	failures, unclear := 0, 0
	for tries := 0; ; tries++ {
		err := c.attempt(ctx, m, effect)
		var failed *EffectError
		var lost *unclearError
		switch {
		case err == nil:
			return nil
		case ctx.Err() != nil:
			return fmt.Errorf("settle message %q: %w", m.ID, err)
		case errors.Is(err, ErrID):
			return c.bury(ctx, m, failures+unclear, err)
		case errors.As(err, &failed) && !errors.Is(err, core.ErrUnavailable):
			failures++
			if failures >= c.config.MaxAttempts || errors.Is(err, core.ErrPermanent) {
				return c.bury(ctx, m, failures+unclear, err)
			}
		case errors.As(err, &lost) && !errors.Is(err, core.ErrUnavailable):
			received, away := c.received(ctx, m.ID)
			if received {
				return nil // its COMMIT did work
			}
			switch {
			case away != nil:
			case lost.failed:
				failures++
			default:
				unclear++
			}
			if failures >= c.config.MaxAttempts || unclear >= unclearPerAttempt*c.config.MaxAttempts {
				return c.bury(ctx, m, failures+unclear, err)
			}
		}
		c.config.Logger.Warn("a message is tried again", "id", m.ID, "topic", m.Topic, "failures", failures, "lost", unclear, "error", err)
		if err := pause(ctx, c.delay(tries)); err != nil {
			return fmt.Errorf("settle message %q: %w", m.ID, err)
		}
	}
}

// received asks the database, in a transaction that leaves nothing behind, whether the message's effect is committed. An error
// says that it did not answer.
func (c *Consumer) received(ctx context.Context, id string) (bool, error) {
	tx, err := c.db.BeginTx(ctx, nil)
	if err != nil {
		return false, fmt.Errorf("inbox: begin: %w", err)
	}
	first, err := c.inbox.Once(ctx, tx, c.name, id)
	if err := errors.Join(err, tx.Rollback()); err != nil {
		return false, fmt.Errorf("ask the inbox for message %q: %w", id, err)
	}
	return !first, nil
}

// delay is the pause after a failed try, from 0 on.
func (c *Consumer) delay(tries int) time.Duration {
	if tries > 6 { // 1 << 7 is more than longestDelay
		return longestDelay * c.config.RetryDelay
	}
	return c.config.RetryDelay << tries
}

// Bury makes m a dead letter without an attempt, unless its effect is committed already. nil means that it is either, and m can
// be acknowledged; the error is Settle's. While the database is away it asks again, for ever.
func (c *Consumer) Bury(ctx context.Context, m core.Message, cause error) error {
	for tries := 0; ; tries++ {
		received, err := c.received(ctx, m.ID)
		switch {
		case received:
			return nil
		case err == nil, errors.Is(err, ErrID):
			return c.bury(ctx, m, 0, cause)
		}
		c.config.Logger.Warn("the inbox does not say whether a message had its effect, and is asked again", "id", m.ID, "topic", m.Topic, "error", err)
		if pause(ctx, c.delay(tries)) != nil {
			return fmt.Errorf("bury message %q: %w", m.ID, err)
		}
	}
}
