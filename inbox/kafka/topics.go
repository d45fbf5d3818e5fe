package kafka

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	kafkago "github.com/segmentio/kafka-go"
)

// A group of kafka-go in which one member names a topic that does not exist reads nothing, in silence: its leader is answered with
// an error for all topics, gives out no partition, and joins again at once. So no member names one.

// topicsThere returns which of the configured topics exist, in their order.
func (l *Loop) topicsThere(ctx context.Context) (there []string, err error) {
	err = l.ask(ctx, func(ctx context.Context, dialer *kafkago.Dialer, broker string) error {
		there = nil
		conn, err := dialer.DialContext(ctx, "tcp", broker)
		if err != nil {
			return fmt.Errorf("connect: %w", err)
		}
		defer conn.Close()
		for _, topic := range l.config.Topics {
			_, err := conn.ReadPartitions(topic)
			switch {
			case err == nil:
				there = append(there, topic)
			case !errors.Is(err, kafkago.UnknownTopicOrPartition):
				return fmt.Errorf("ask for the topic %q: %w", topic, err)
			}
		}
		return nil
	})
	return there, err
}

// tellMissing tells the logger of the configured topics that are not there, of each once until it is, and returns them.
func (l *Loop) tellMissing(told, there []string) (missing []string) {
	for _, topic := range l.config.Topics {
		if slices.Contains(there, topic) {
			continue
		}
		missing = append(missing, topic)
		if !slices.Contains(told, topic) {
			l.config.Logger.Error("a topic does not exist, and is left out until it does: create it, or mend Config.Topics", "topic", topic)
		}
	}
	return missing
}

// untilTopicsChange calls changed when other topics exist than these, and returns then, or when ctx is done.
func (l *Loop) untilTopicsChange(ctx context.Context, topics []string, changed func()) {
	for {
		wait(ctx, rejoinPause)
		if ctx.Err() != nil {
			return
		}
		// An error is no news: the group has its own.
		if there, err := l.topicsThere(ctx); err == nil && !slices.Equal(there, topics) {
			changed()
			return
		}
	}
}

func wait(ctx context.Context, d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
	}
}
