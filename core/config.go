package core

import (
	"errors"
	"fmt"
	"log/slog"
	"time"
)

// RelayConfig sets how a [Relay] works. Its zero value works.
type RelayConfig struct {
	// Lanes is how many publish calls run side by side. A key always takes the same lane. Defaults to 8.
	Lanes int
	// BatchSize is the most messages in one publish call. Defaults to 500.
	BatchSize int
	// BatchBytes is the most bytes of payload, key and headers in one publish call; a larger message travels alone.
	// Defaults to 1 MiB.
	BatchBytes int
	// InFlight is the most messages in memory, whatever the outbox holds; those that are tried again in an outage, up to a quarter of
	// it and up to 400, come on top. Defaults to 10 000.
	InFlight int
	// InFlightBytes is the most bytes of payloads, keys and headers in memory; one message more may exceed it, and those that are
	// tried again in an outage come on top, with a sixteenth of it or a single one. Defaults to 16 MiB.
	InFlightBytes int

	// PollInterval is the longest wait for new messages when nothing signals them. Defaults to 100 ms.
	PollInterval time.Duration
	// PublishTimeout bounds one publish call. Defaults to 30 s.
	PublishTimeout time.Duration
	// DrainTimeout bounds what Run does after its context is done: it waits for publish calls and acknowledges. What does not
	// end then is given up within a few seconds more. Defaults to 30 s.
	DrainTimeout time.Duration
	// LeaseTTL is how long a relay that died keeps others waiting. Defaults to 5 s.
	LeaseTTL time.Duration

	// Failures is what becomes of messages that the broker refuses. Topics overrides it by topic.
	Failures FailurePolicy
	Topics   map[string]FailurePolicy

	// Waker signals commits in this process. Defaults to none: the relay polls.
	Waker *Waker
	// Hooks are called at each step. Defaults to none.
	Hooks Hooks
	// Logger is told of failures and of recovery. Defaults to slog.Default().
	Logger *slog.Logger
}

// FailurePolicy is what becomes of a message that the broker refuses. Its zero value works.
type FailurePolicy struct {
	// MaxAttempts is how many counted attempts a message gets before it becomes a dead letter. Defaults to 10.
	MaxAttempts int
	// FirstDelay is the wait after the first failed attempt; each further one doubles it. Half of each wait is random.
	// Defaults to 1 s.
	FirstDelay time.Duration
	// MaxDelay caps the waits. Defaults to 5 min.
	MaxDelay time.Duration
	// SkipDead lets a key go on when a message of it becomes a dead letter. Defaults to false: the key is blocked until
	// an operator retries or drops the dead letter, or unblocks the key.
	SkipDead bool
}

// leaseMargin is the part of the lease's time that a relay does not use, because clocks run differently and a publish
// call needs time to end.
const leaseMargin = 5 // of the TTL: one fifth

// Validate reports every setting that is out of range.
func (c RelayConfig) Validate() error {
	_, err := c.withDefaults()
	return err
}

func (c RelayConfig) withDefaults() (RelayConfig, error) {
	var errs []error
	for _, n := range []struct {
		name  string
		value *int
		usual int
	}{
		{"Lanes", &c.Lanes, 8},
		{"BatchSize", &c.BatchSize, 500},
		{"BatchBytes", &c.BatchBytes, 1 << 20},
		{"InFlight", &c.InFlight, 10_000},
		{"InFlightBytes", &c.InFlightBytes, 16 << 20},
	} {
		errs = append(errs, setDefault(n.name, n.value, n.usual))
	}
	for _, d := range []struct {
		name  string
		value *time.Duration
		usual time.Duration
	}{
		{"PollInterval", &c.PollInterval, 100 * time.Millisecond},
		{"PublishTimeout", &c.PublishTimeout, 30 * time.Second},
		{"DrainTimeout", &c.DrainTimeout, 30 * time.Second},
		{"LeaseTTL", &c.LeaseTTL, 5 * time.Second},
	} {
		errs = append(errs, setDefault(d.name, d.value, d.usual))
	}
	var err error
	c.Failures, err = c.Failures.withDefaults("Failures")
	errs = append(errs, err)
	topics := make(map[string]FailurePolicy, len(c.Topics))
	for topic, policy := range c.Topics {
		topics[topic], err = policy.withDefaults(fmt.Sprintf("Topics[%q]", topic))
		errs = append(errs, err)
	}
	c.Topics = topics
	if c.Logger == nil {
		c.Logger = slog.Default()
	}
	return c, errors.Join(errs...)
}

func (p FailurePolicy) withDefaults(where string) (FailurePolicy, error) {
	err := errors.Join(
		setDefault(where+".MaxAttempts", &p.MaxAttempts, 10),
		setDefault(where+".FirstDelay", &p.FirstDelay, time.Second),
		setDefault(where+".MaxDelay", &p.MaxDelay, 5*time.Minute),
	)
	if err == nil && p.MaxDelay < p.FirstDelay {
		err = fmt.Errorf("%s.MaxDelay is %v: it must be at least FirstDelay, which is %v", where, p.MaxDelay, p.FirstDelay)
	}
	return p, err
}

// refusal returns what is written about a failed attempt that counts: a failure, and a burial where it was the last one.
func (c *RelayConfig) refusal(
	record *Record, cause error, permanent bool, random func(time.Duration) time.Duration,
) (Failure, *Burial) {
	policy := c.policy(record.Message.Topic)
	f := Failure{Ref: record.Ref(), Attempts: record.Attempts + 1, Cause: cause.Error()}
	if permanent || f.Attempts >= policy.MaxAttempts {
		return f, &Burial{Ref: f.Ref, Attempts: f.Attempts, Cause: f.Cause, Skip: policy.SkipDead || record.Message.Key == ""}
	}
	f.RetryIn = policy.retryDelay(f.Attempts, random)
	return f, nil
}

// setDefault replaces zero, and refuses what is negative.
func setDefault[T int | time.Duration](name string, value *T, usual T) error {
	if *value < 0 {
		return fmt.Errorf("%s is %v: it must be positive, or 0 for the default of %v", name, *value, usual)
	}
	if *value == 0 {
		*value = usual
	}
	return nil
}

// policy returns topic's failure policy.
func (c *RelayConfig) policy(topic string) FailurePolicy {
	if p, ok := c.Topics[topic]; ok {
		return p
	}
	return c.Failures
}
