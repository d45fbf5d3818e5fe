package core

import (
	"context"
	"fmt"
	"log/slog"
	"maps"
	"strings"
)

// OutboxConfig sets how an [Outbox] writes. Its zero value works.
type OutboxConfig struct {
	// LockKeys makes Enqueue lock the (topic, key) of each message until the transaction ends, before it inserts. It is
	// for transactions which write one key and are not serialised by anything else: without the lock, and without a row
	// that they all update, the order of their events is nobody's. The dialect must be a [KeyLocker]; if it is not,
	// every Enqueue and InTx is refused. Defaults to false: transactions on one key update the same row.
	LockKeys bool
	// Waker is woken when InTx has committed, and by [Outbox.Wake]. Defaults to one of its own, that no relay of this
	// process has: [Outbox.Run] announces to those of other processes all the same.
	Waker *Waker
	// TraceContext returns the trace context of ctx as headers, and is called once for each Enqueue. They are added to
	// each message that has no traceparent header yet, so that the consumer's span continues the trace in which the
	// event was enqueued. With OpenTelemetry:
	//
	//	func(ctx context.Context) map[string]string {
	//		carrier := propagation.MapCarrier{}
	//		propagation.TraceContext{}.Inject(ctx, carrier)
	//		return carrier
	//	}
	//
	// A trace is no reason to lose an event: what would make a message too long, or cannot be a header, is left out.
	// Defaults to none.
	TraceContext func(ctx context.Context) map[string]string
	// Logger is told by Run of announcements that failed. Defaults to slog.Default().
	Logger *slog.Logger
}

// Outbox is the writing side: it puts events into the caller's transaction. Safe for concurrent use.
//
// There are two ways to use it. [Outbox.InTx] runs a function in a transaction and writes the events that the function
// returns, last, right before COMMIT. [Outbox.Enqueue] writes events into a transaction that somebody else began and
// will end, as the ORMs do.
type Outbox struct {
	dialect Dialect
	locker  KeyLocker // nil where keys are not locked
	config  OutboxConfig
}

// NewOutbox returns the writing side of the outbox that dialect stands for.
func NewOutbox(dialect Dialect, config OutboxConfig) *Outbox {
	if config.Waker == nil {
		config.Waker = NewWaker()
	}
	if config.Logger == nil {
		config.Logger = slog.Default()
	}
	o := &Outbox{dialect: dialect, config: config}
	if config.LockKeys {
		o.locker, _ = Ability[KeyLocker](dialect)
	}
	return o
}

// Enqueue writes msgs into the outbox as part of tx, in argument order. They exist if and only if tx commits, and what
// is enqueued after a savepoint goes with it; call Enqueue as the last thing before COMMIT, so that transactions on one
// key enqueue in the order in which they changed their rows. Nothing is sent here: a [Relay] delivers what was
// committed. Call [Outbox.Wake] after COMMIT to have that done at once.
//
// A message without an ID is given one by [NewID]; msgs itself is not changed, and nothing of it is kept.
//
// A *[MessageError], [ErrNotInTransaction] and [ErrNoKeyLocks] mean that nothing was written and tx is as usable as
// before. Any other error is the database's: roll tx back. Going on after it is worse than useless, because some
// databases have ended the transaction by then (MySQL after a deadlock), and run the next statement outside of it.
func (o *Outbox) Enqueue(ctx context.Context, tx Execer, msgs ...Message) error {
	if err := o.enqueue(ctx, tx, msgs); err != nil {
		return fmt.Errorf("enqueue: %w", err)
	}
	return nil
}

// Wake has the relays look for events now: those of this process that have the same [Waker], and, while [Outbox.Run] runs,
// those of other processes. InTx does it by itself; call it after the COMMIT of a transaction of your own. Before COMMIT it
// would find nothing.
func (o *Outbox) Wake() { o.config.Waker.Wake() }

// Run announces commits to the relays of other processes until ctx is done, where the database has a way to do that (a
// [Notifier]), over a connection of its own: several commits that are close together as one. Without it those relays find
// events by polling, as they do anyway when an announcement is lost. Failures are logged and tried again.
func (o *Outbox) Run(ctx context.Context) {
	notifier, ok := Ability[Notifier](o.dialect)
	if !ok {
		<-ctx.Done()
		return
	}
	committed, unsubscribe := o.config.Waker.subscribe()
	defer unsubscribe()
	insist(ctx, o.config.Logger, "announce commits to other processes", func(ctx context.Context) error {
		return notifier.Notify(ctx, committed)
	})
}

func (o *Outbox) enqueue(ctx context.Context, tx Execer, msgs []Message) error {
	if tx == nil || isPool(tx) {
		return ErrNotInTransaction
	}
	if err := o.checkLocker(); err != nil {
		return err
	}
	if len(msgs) == 0 {
		return nil
	}
	ready, err := o.prepare(ctx, msgs)
	if err != nil {
		return err
	}
	if o.locker != nil {
		if err := o.locker.LockKeys(ctx, tx, ready); err != nil {
			return fmt.Errorf("lock keys: %w", err)
		}
	}
	return o.dialect.Enqueue(ctx, tx, ready)
}

// prepare returns msgs as the dialect gets them: valid, with ids, trace context, and times that every database keeps.
func (o *Outbox) prepare(ctx context.Context, msgs []Message) ([]Message, error) {
	var trace map[string]string
	if o.config.TraceContext != nil {
		trace = o.config.TraceContext(ctx)
	}
	ready := make([]Message, len(msgs))
	byID := make(map[string]int, len(msgs))
	for i, m := range msgs {
		if err := m.validate(i); err != nil {
			return nil, err
		}
		if m.ID == "" {
			m.ID = NewID()
		}
		if first, twice := byID[m.ID]; twice {
			return nil, &MessageError{Index: i, Field: "ID", Reason: fmt.Sprintf(
				"is that of message %d too: consumers would take it for a re-delivery; give each event an ID of its own", first)}
		}
		byID[m.ID] = i
		m.NotBefore = databaseTime(m.NotBefore)
		ready[i] = m.traced(trace)
	}
	return ready, nil
}

// traced returns m with the headers of trace, unless it has a trace context already or they don't fit.
func (m Message) traced(trace map[string]string) Message {
	if len(trace) == 0 {
		return m
	}
	for name := range m.Headers {
		// The tracestate belongs to its traceparent: never add one to the other's.
		if strings.EqualFold(name, "traceparent") {
			return m
		}
	}
	headers := maps.Clone(trace)
	maps.Copy(headers, m.Headers)
	if headersFault(headers) != "" {
		return m
	}
	m.Headers = headers
	return m
}
