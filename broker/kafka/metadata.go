package kafka

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	kafkago "github.com/segmentio/kafka-go"

	"github.com/lockstep-go/lockstep/core"
)

// refreshes is how long to wait, time after time, for the cluster to agree on who leads a partition. kafka-go asks anew
// every [metadataTTL], and cannot be told to do so earlier.
var refreshes = []time.Duration{100 * time.Millisecond, 250 * time.Millisecond, 500 * time.Millisecond, time.Second}

// partitions returns the topic's partitions, ascending. kafka-go answers this from memory, where a new topic may be
// missing for a while. Whatever goes wrong here, nothing has been sent.
func (b *Broker) partitions(ctx context.Context, topic string) ([]int, error) {
	if !validTopic(topic) {
		return nil, fmt.Errorf("%w: kafka: %q cannot be a topic's name: it may have letters, digits, dots, underscores and hyphens",
			core.ErrPermanent, topic)
	}
	for try := 0; ; try++ {
		answer, err := b.client.Metadata(ctx, &kafkago.MetadataRequest{Topics: []string{topic}})
		if late(err) && refresh(ctx, try) {
			continue // its first answer took longer than metadataTTL, which is all the time that kafka-go gives the cluster
		}
		if err != nil {
			return nil, failure(core.ErrUnavailable, "read metadata", err)
		}
		var ids []int
		for _, t := range answer.Topics {
			for _, p := range t.Partitions {
				ids = append(ids, p.ID)
			}
		}
		if len(ids) > 0 {
			slices.Sort(ids)
			b.notice(topic, len(ids))
			return ids, nil
		}
		if !refresh(ctx, try) {
			return nil, fmt.Errorf("%w: kafka: topic %q: %w: create it, or grant the relay Describe and Write on it",
				core.ErrUnavailable, topic, kafkago.UnknownTopicOrPartition)
		}
	}
}

// late says that nobody answered in time.
func late(err error) bool {
	var timeout interface{ Timeout() bool }
	return errors.As(err, &timeout) && timeout.Timeout()
}

// notice warns when a topic has grown since it was last published to.
func (b *Broker) notice(topic string, partitions int) {
	before, seen := b.sizes.Swap(topic, partitions)
	if seen && before.(int) < partitions {
		b.logger.Warn("lockstep: topic has more partitions than before, and most keys have moved to another: "+
			"consumers may see a key's newer messages before its older ones",
			"topic", topic, "before", before, "now", partitions)
	}
}

// validTopic tells the names that Kafka takes.
func validTopic(name string) bool {
	if name == "" || name == "." || name == ".." || len(name) > core.MaxTopicBytes {
		return false
	}
	for _, c := range []byte(name) {
		letter := 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9'
		if !letter && c != '.' && c != '_' && c != '-' {
			return false
		}
	}
	return true
}

// refresh waits before another try with newer metadata. It returns false where there is none.
func refresh(ctx context.Context, try int) bool {
	return try < len(refreshes) && pause(ctx, try)
}

// pause waits before another try, of any number. It returns false when ctx is done.
func pause(ctx context.Context, try int) bool {
	timer := time.NewTimer(refreshes[min(try, len(refreshes)-1)])
	defer timer.Stop()
	select {
	case <-timer.C:
		return ctx.Err() == nil
	case <-ctx.Done():
		return false
	}
}
