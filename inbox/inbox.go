package inbox

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/lockstep-go/lockstep/core"
)

const (
	defaultBrokerRetention = 7 * 24 * time.Hour
	defaultLongestOutage   = 7 * 24 * time.Hour

	// purgeBatch is how many ids one transaction of a purge removes: few enough that nobody waits for it.
	purgeBatch = 1000
	// purgeEvery is the pace of Run.
	purgeEvery = time.Hour
	// maxAge is the most that Config takes, a hundred years: two of them can be added, and no dialect's unit overflows.
	maxAge = 100 * 365 * 24 * time.Hour
	// maxNameBytes is the longest consumer name.
	maxNameBytes = 255
)

// ErrID is returned for a message that an inbox cannot tell from others: its id is missing, longer than
// [core.MaxIDBytes], or no UTF-8 text without NUL. Another attempt would not help.
var ErrID = errors.New("the message has no usable id")

// Config sets how long an inbox remembers. Its zero value works. No field is longer than 100 years of 365 days.
type Config struct {
	// BrokerRetention is how long the broker keeps a message at most (Kafka's retention.ms, a queue's x-message-ttl; for
	// a queue without one, how long consumers may be away). Defaults to 7 days, as Kafka does.
	BrokerRetention time.Duration
	// LongestOutage is the longest time that a relay may be away for, database, broker and holidays included. Defaults to
	// 7 days.
	LongestOutage time.Duration
	// Retention is how long an id is remembered. At least BrokerRetention + LongestOutage, which it defaults to.
	Retention time.Duration
	// Logger is told of purges that failed in [Inbox.Run]. Defaults to slog.Default().
	Logger *slog.Logger
}

// Validate reports every field that is out of range.
func (c Config) Validate() error {
	var faults []error
	for _, f := range []struct {
		name  string
		value time.Duration
	}{{"BrokerRetention", c.BrokerRetention}, {"LongestOutage", c.LongestOutage}, {"Retention", c.Retention}} {
		if f.value < 0 {
			faults = append(faults, fmt.Errorf("%s is %v: it must not be negative", f.name, f.value))
		}
		if f.value > maxAge {
			faults = append(faults, fmt.Errorf("%s is %v: it must be at most %v, a hundred years; to keep ids for good, never purge",
				f.name, f.value, maxAge))
		}
	}
	d := c.withDefaults()
	if least := d.BrokerRetention + d.LongestOutage; len(faults) == 0 && d.Retention < least {
		faults = append(faults, fmt.Errorf("Retention is %v: a duplicate can come up to %v after the first delivery "+
			"(BrokerRetention %v + LongestOutage %v); remember at least so long, or set these two to what they are",
			d.Retention, least, d.BrokerRetention, d.LongestOutage))
	}
	return errors.Join(faults...)
}

func (c Config) withDefaults() Config {
	if c.BrokerRetention == 0 {
		c.BrokerRetention = defaultBrokerRetention
	}
	if c.LongestOutage == 0 {
		c.LongestOutage = defaultLongestOutage
	}
	if c.Retention == 0 {
		c.Retention = c.BrokerRetention + c.LongestOutage
	}
	if c.Logger == nil {
		c.Logger = slog.Default()
	}
	return c
}

// Inbox remembers what consumers have received. Safe for concurrent use.
type Inbox struct {
	dialect core.Dialect
	store   core.InboxStore
	config  Config
}

// New returns the inbox that dialect stands for. The dialect must be a [core.InboxStore]; ours are. It connects to
// nothing; create the table with the dialect's MigrateInbox first (`lockstep migrate --inbox`).
func New(dialect core.Dialect, config Config) (*Inbox, error) {
	if err := config.Validate(); err != nil {
		return nil, fmt.Errorf("inbox config: %w", err)
	}
	store, ok := core.Ability[core.InboxStore](dialect)
	if !ok {
		return nil, fmt.Errorf("inbox: %T keeps no inbox: it is no core.InboxStore", dialect)
	}
	return &Inbox{dialect: dialect, store: store, config: config.withDefaults()}, nil
}

// Once notes in tx that consumer has received the message, and reports whether it is the first to: then, and only then,
// make the effect, in tx. The name is the consumer's own: consumers with different names each have their effect. Names
// and ids compare bytewise ("a", "A" and "a " differ). When tx rolls back, nothing was noted.
//
// While another open transaction has noted the same, Once waits for it. It then reports false, or true if that one
// rolled back, or an error: above READ COMMITTED a serialisation failure, on MySQL also a deadlock or a lock wait that
// timed out. Acknowledge the message once tx is committed, also where Once reported false: not before, because the
// transaction that noted it may be tx itself.
//
// tx is what Enqueue takes, and must tell how many rows a statement changed ([core.ErrNoResult]): for pgx use
// [core.ExecCountFunc]. [ErrID], an error about the consumer's name and [core.ErrNotInTransaction] leave tx as it was;
// after any other error, roll it back.
func (b *Inbox) Once(ctx context.Context, tx core.Execer, consumer, messageID string) (first bool, err error) {
	if _, pool := tx.(interface{ Stats() sql.DBStats }); pool || tx == nil {
		return false, fmt.Errorf("inbox: %w", core.ErrNotInTransaction)
	}
	if err := checkNames(consumer, messageID); err != nil {
		return false, fmt.Errorf("inbox: %w", err)
	}
	if first, err = b.store.Receive(ctx, tx, consumer, messageID); err != nil {
		return false, fmt.Errorf("inbox: %w", err)
	}
	return first, nil
}

func checkNames(consumer, id string) error {
	if fault := textFault(consumer, maxNameBytes); fault != "" {
		return fmt.Errorf("the consumer's name %.40q %s: give each consumer a name of its own", consumer, fault)
	}
	if fault := textFault(id, core.MaxIDBytes); fault != "" {
		return fmt.Errorf("%w: %.40q %s", ErrID, id, fault)
	}
	return nil
}

// textFault says what keeps s from being stored as it is in every database, or returns "".
func textFault(s string, limit int) string {
	switch {
	case s == "":
		return "is empty"
	case len(s) > limit:
		return fmt.Sprintf("is longer than %d bytes", limit)
	case strings.IndexByte(s, 0) >= 0:
		return "contains a NUL byte"
	case !utf8.ValidString(s):
		return "is not valid UTF-8"
	}
	return ""
}

// Purge forgets what was received longer than the retention ago, in transactions of 1000 ids each, and returns how many
// that were. It may run beside consumers, and beside another Purge.
func (b *Inbox) Purge(ctx context.Context) (int, error) {
	total := 0
	for {
		n, err := b.store.Forget(ctx, b.config.Retention, purgeBatch)
		total += n
		if err != nil {
			return total, fmt.Errorf("purge the inbox: %w", err)
		}
		if n < purgeBatch {
			return total, nil
		}
	}
}

// Run purges now and then once an hour, until ctx is done. Failures are logged, and the next hour tries again.
func (b *Inbox) Run(ctx context.Context) {
	for tick := time.NewTicker(purgeEvery); ; {
		if _, err := b.Purge(ctx); err != nil && ctx.Err() == nil {
			b.config.Logger.Warn("the inbox was not purged, and will be in an hour", "error", err)
		}
		select {
		case <-ctx.Done():
			tick.Stop()
			return
		case <-tick.C:
		}
	}
}
