package kafka

import (
	"context"
	"fmt"
	"time"

	kafkago "github.com/segmentio/kafka-go"
)

const (
	// askTimeout bounds a question to a broker, connecting included.
	askTimeout = 10 * time.Second
	// askAgain is the pause before a leader that did not answer is asked once more.
	askAgain = time.Second
)

// RemovedError tells of what Kafka removed from a partition before the group had read it.
type RemovedError struct {
	Group, Topic string
	Partition    int
	// From is the offset that the group was to read next, To the one that it can read next. Not each of the offsets between need
	// have been a message when it was removed: compaction had taken some before, and the markers of transactions have offsets, too.
	From, To int64
}

func (e *RemovedError) Error() string {
	return fmt.Sprintf("the group %q has not read the offsets %d to %d of %s/%d, and Kafka has removed them: let retention.ms be longer than "+
		"consumers are away, and to read on, let Removed return nil", e.Group, e.From, e.To-1, e.Topic, e.Partition)
}

// partition is one that this member reads, for a generation.
type partition struct {
	*Loop
	topic string
	id    int
	done  *progress
	conn  *kafkago.Conn // to its leader, for questions; nil until there is one
}

// settlePartition returns when the generation has ended, or with the error of a message that cannot be settled, or was removed.
func (l *Loop) settlePartition(ctx context.Context, topic string, a kafkago.PartitionAssignment, done *progress) error {
	p := &partition{Loop: l, topic: topic, id: a.ID, done: done}
	defer p.hangUp()
	next, err := p.begin(ctx, a.Offset)
	if err != nil {
		return err
	}
	reader := kafkago.NewReader(kafkago.ReaderConfig{
		Brokers: l.brokers(), Dialer: l.config.Dialer, Topic: topic, Partition: a.ID,
		MinBytes: 1, MaxBytes: 10 << 20, MaxWait: maxWait,
		OffsetOutOfRangeError: true, // or it waits, without a word, until a log that was made anew is as long as the old one
	})
	defer reader.Close()
	if err := reader.SetOffset(next); err != nil {
		return err
	}
	for {
		record, err := reader.FetchMessage(ctx)
		if err != nil {
			if ctx.Err() == nil {
				l.config.Logger.Warn("a partition could not be read, and the group is joined again", "topic", topic, "partition", a.ID, "error", err)
			}
			return nil
		}
		if record.Offset > next {
			if err := p.hole(ctx, next, record.Offset); err != nil {
				return err
			}
		}
		if err := l.consumer.Settle(ctx, l.message(&record), l.effect); err != nil {
			return err
		}
		next = record.Offset + 1
		done.settled(topic, a.ID, next)
	}
}

// begin returns where to begin: at the group's offset, or where it has none, or one that is not in the log, at its beginning.
func (p *partition) begin(ctx context.Context, offset int64) (int64, error) {
	first, last, err := p.bounds(ctx)
	switch {
	case err != nil:
		return 0, err
	case offset < 0: // the group has none
		p.done.settled(p.topic, p.id, first) // so that it has one: what is removed before the first message has its effect is told, too
		return first, nil
	case offset < first:
		return first, p.removed(offset, first)
	case offset > last:
		p.config.Logger.Error("a partition ends before the group's offset, and is read from its beginning: it was made anew, or the cluster has lost its end",
			"topic", p.topic, "partition", p.id, "offset", offset, "end", last)
		p.done.settled(p.topic, p.id, first)
		return first, nil
	}
	return offset, nil
}

// hole is called where the reader passed over offsets, which it does without a word. Where the log begins behind them they were
// removed; otherwise it is a hole that compaction left, and no loss.
func (p *partition) hole(ctx context.Context, from, to int64) error {
	first, _, err := p.bounds(ctx)
	if err != nil || first <= from {
		return err
	}
	return p.removed(from, min(first, to))
}

func (p *partition) removed(from, to int64) error {
	gone := &RemovedError{Group: p.config.Group, Topic: p.topic, Partition: p.id, From: from, To: to}
	if p.config.Removed != nil {
		if err := p.config.Removed(gone); err != nil {
			return err
		}
	}
	p.config.Logger.Error("messages are passed over: Kafka has removed them before the group had read them",
		"topic", p.topic, "partition", p.id, "from", from, "to", to, "messages", to-from)
	p.done.settled(p.topic, p.id, to) // and is not told again
	return nil
}

// bounds returns the partition's first offset, and the one that its next record will have. It asks until there is an answer; the
// error is that of ctx.
func (p *partition) bounds(ctx context.Context) (first, last int64, err error) {
	for {
		first, last, err := p.offsets(ctx)
		if err == nil {
			return first, last, nil
		}
		if ctx.Err() == nil {
			p.config.Logger.Warn("a partition's leader does not say what it has, and is asked again", "topic", p.topic, "partition", p.id, "error", err)
		}
		select {
		case <-ctx.Done():
			return 0, 0, ctx.Err()
		case <-time.After(askAgain):
		}
	}
}

func (p *partition) offsets(ctx context.Context) (first, last int64, err error) {
	if p.conn == nil {
		if err := p.connect(ctx); err != nil {
			return 0, 0, fmt.Errorf("connect: %w", err)
		}
	}
	err = p.conn.SetDeadline(time.Now().Add(askTimeout))
	if err == nil {
		first, last, err = p.conn.ReadOffsets()
	}
	if err != nil { // by the next question it may have another leader
		p.hangUp()
		return 0, 0, fmt.Errorf("ask for its offsets: %w", err)
	}
	return first, last, nil
}

// connect connects to the leader.
func (p *partition) connect(ctx context.Context) error {
	var found kafkago.Partition
	err := p.ask(ctx, func(ctx context.Context, dialer *kafkago.Dialer, broker string) (err error) {
		found, err = dialer.LookupPartition(ctx, "tcp", broker, p.topic, p.id)
		return err
	})
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, askTimeout)
	defer cancel()
	p.conn, err = p.config.Dialer.DialPartition(ctx, "tcp", "", found)
	return err
}

func (p *partition) hangUp() {
	if p.conn != nil {
		p.conn.Close()
		p.conn = nil
	}
}
