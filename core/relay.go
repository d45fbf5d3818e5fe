package core

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"
)

const (
	batchSize = 500 // records a fetch asks for, and so the most that are in memory

	// An outage is probed at least every second, so that delivery resumes within seconds of its end.
	firstRetryDelay = 50 * time.Millisecond
	lastRetryDelay  = time.Second

	// databaseTimeout bounds each database call. What is cut off by it is harmless: a fetch changes nothing, and an
	// acknowledgement that is repeated finds its records gone.
	databaseTimeout = 10 * time.Second
)

// RelayConfig sets how a [Relay] works. Its zero value works.
type RelayConfig struct {
	// PollInterval is how long the relay waits after it found the outbox empty. Defaults to 100 ms.
	PollInterval time.Duration
	// PublishTimeout bounds one Publish call. Defaults to 30 s.
	PublishTimeout time.Duration
	// Logger is told of every failure and of recovery. Defaults to slog.Default().
	Logger *slog.Logger
}

func (c RelayConfig) withDefaults() (RelayConfig, error) {
	var errs []error
	for _, d := range []struct {
		name  string
		value *time.Duration
		usual time.Duration
	}{
		{"PollInterval", &c.PollInterval, 100 * time.Millisecond},
		{"PublishTimeout", &c.PublishTimeout, 30 * time.Second},
	} {
		if *d.value < 0 {
			errs = append(errs, fmt.Errorf("%s is %v: it must be positive, or 0 for the default of %v", d.name, *d.value, d.usual))
		}
		if *d.value == 0 {
			*d.value = d.usual
		}
	}
	if c.Logger == nil {
		c.Logger = slog.Default()
	}
	return c, errors.Join(errs...)
}

// Relay is the carrying side: it takes records from the outbox to the broker, and removes them once the broker has
// them. One Relay runs once at a time.
type Relay struct {
	dialect Dialect
	broker  Broker
	config  RelayConfig
}

// NewRelay returns a relay from dialect's outbox to broker. The error names every setting that is out of range.
func NewRelay(dialect Dialect, broker Broker, config RelayConfig) (*Relay, error) {
	config, err := config.withDefaults()
	if err != nil {
		return nil, fmt.Errorf("relay config: %w", err)
	}
	return &Relay{dialect: dialect, broker: broker, config: config}, nil
}

// Run carries records until ctx is done. Then it lets the publish call in flight finish (at most PublishTimeout),
// acknowledges what the broker stored, and returns nil. Failures of the database or the broker are logged and retried
// for ever.
func (r *Relay) Run(ctx context.Context) error {
	delay, failing := firstRetryDelay, false
	delivering := func() {
		if failing {
			r.config.Logger.InfoContext(ctx, "lockstep: relay delivers again")
		}
		delay, failing = firstRetryDelay, false
	}
	for ctx.Err() == nil {
		err := r.runSession(ctx, delivering)
		if ctx.Err() != nil {
			return nil
		}
		r.config.Logger.WarnContext(ctx, "lockstep: relay will try again", "error", err, "after", delay)
		wait(ctx, delay)
		delay, failing = min(2*delay, lastRetryDelay), true
	}
	return nil
}

// runSession carries records over one session until an error or the end of ctx, and calls delivering whenever records
// were delivered or none are left.
func (r *Relay) runSession(ctx context.Context, delivering func()) error {
	session, err := r.dialect.Open(ctx)
	if err != nil {
		return fmt.Errorf("open session: %w", err)
	}
	defer session.Close()
	for ctx.Err() == nil {
		if err := r.drain(ctx, session, delivering); err != nil {
			return err
		}
		delivering()
		wait(ctx, r.config.PollInterval)
	}
	return nil
}

// RunOnce carries what the outbox holds and returns: nil once it is empty or ctx is done, or the first error of the
// database or the broker. What failed stays in the outbox.
func (r *Relay) RunOnce(ctx context.Context) error {
	session, err := r.dialect.Open(ctx)
	if err != nil {
		return fmt.Errorf("open session: %w", err)
	}
	defer session.Close()
	return r.drain(ctx, session, func() {})
}

// drain carries batch after batch until the outbox is empty, something fails, or ctx is done.
func (r *Relay) drain(ctx context.Context, session Session, delivering func()) error {
	for ctx.Err() == nil {
		records, err := fetch(ctx, session)
		switch {
		case ctx.Err() != nil:
			return nil
		case err != nil:
			return fmt.Errorf("fetch: %w", err)
		case len(records) == 0:
			return nil
		}
		if err := r.carry(ctx, session, records, delivering); err != nil {
			return err
		}
	}
	return nil
}

func wait(ctx context.Context, d time.Duration) {
	select {
	case <-ctx.Done():
	case <-time.After(d):
	}
}

func fetch(ctx context.Context, session Session) ([]Record, error) {
	ctx, cancel := context.WithTimeout(ctx, databaseTimeout)
	defer cancel()
	return session.Fetch(ctx, batchSize)
}

// carry publishes and acknowledges records, round by round, until each is delivered or held back by its key's failure,
// or ctx is done. The error is the first publish's that failed, or the database's.
func (r *Relay) carry(ctx context.Context, session Session, records []Record, delivering func()) error {
	held := map[orderKey]bool{}
	var failure error
	for len(records) > 0 && ctx.Err() == nil {
		var round []Record
		round, records = nextRound(records, held)
		stored, err := r.publish(ctx, round, held)
		if failure == nil {
			failure = err
		}
		if err := acknowledge(ctx, session, stored); err != nil {
			return errors.Join(failure, fmt.Errorf("acknowledge: %w", err))
		}
		if len(stored) > 0 {
			delivering()
		}
	}
	return failure
}

// publish sends one round, holds back the keys of what was not stored, and returns what was.
func (r *Relay) publish(ctx context.Context, round []Record, held map[orderKey]bool) ([]Ref, error) {
	if len(round) == 0 {
		return nil, nil
	}
	msgs := make([]Message, len(round))
	for i, record := range round {
		msgs[i] = record.Message
	}
	// Stopping must not cut off a call in flight: its messages would arrive a second time after the next start.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), r.config.PublishTimeout)
	defer cancel()
	err := r.broker.Publish(ctx, msgs)

	var stored []Ref
	for i, result := range results(err, len(msgs)) {
		if result == nil {
			stored = append(stored, round[i].Ref())
		} else {
			held[keyOf(round[i].Message)] = true
		}
	}
	return stored, err
}

// results gives each of n messages its result of a Publish call that returned err.
func results(err error, n int) []error {
	if err == nil {
		return make([]error, n)
	}
	var batch *BatchError
	if errors.As(err, &batch) && len(batch.Results) == n {
		return batch.Results
	}
	all := make([]error, n)
	for i := range all {
		all[i] = err
	}
	return all
}

func acknowledge(ctx context.Context, session Session, refs []Ref) error {
	if len(refs) == 0 {
		return nil
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), databaseTimeout)
	defer cancel()
	return session.Acknowledge(ctx, refs)
}

// orderKey is what messages are ordered by.
type orderKey struct{ topic, key string }

func keyOf(m Message) orderKey { return orderKey{m.Topic, m.Key} }

// nextRound takes the first record of each key that is not held out of records, and every record without a key. It
// returns them, and what is left for later rounds.
func nextRound(records []Record, held map[orderKey]bool) (round, rest []Record) {
	taken := map[orderKey]bool{}
	for _, record := range records {
		key := keyOf(record.Message)
		switch {
		case key.key == "":
			round = append(round, record)
		case held[key]:
		case taken[key]:
			rest = append(rest, record)
		default:
			taken[key] = true
			round = append(round, record)
		}
	}
	return round, rest
}
