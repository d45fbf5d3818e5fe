package kafka

import (
	"context"
	"errors"
	"fmt"
	"strconv"

	kafkago "github.com/segmentio/kafka-go"

	"github.com/lockstep-go/lockstep/core"
)

// Check asks the cluster whether it can take messages for topics, and reports everything that is in the way: that it
// cannot be reached, that a topic is missing or not shown to the relay's user, that a partition has no leader. It creates
// nothing and sends nothing. What only a first message shows, the permission Write, is not looked at. That a topic takes
// small messages alone is in nobody's way who has no others, and is no error. Without topics it is Ping: kafka-go answers
// from what it knows.
func (b *Broker) Check(ctx context.Context, topics ...string) error {
	if len(topics) == 0 {
		return b.Ping(ctx)
	}
	var problems []error
	var there []string
	for _, topic := range topics {
		if _, err := b.partitions(ctx, topic); err != nil {
			problems = append(problems, err)
			if errors.Is(err, kafkago.UnknownTopicOrPartition) || errors.Is(err, core.ErrPermanent) {
				continue // the other topics may do better
			}
			return errors.Join(problems...)
		}
		there = append(there, topic)
	}
	if len(there) == 0 {
		return errors.Join(problems...) // no topics would ask for all
	}
	answer, err := b.client.Metadata(ctx, &kafkago.MetadataRequest{Topics: there})
	if err != nil {
		return errors.Join(append(problems, failure(core.ErrUnavailable, "read metadata", err))...)
	}
	for _, t := range answer.Topics {
		for _, p := range t.Partitions {
			if p.Leader.Host == "" {
				problems = append(problems, fmt.Errorf("kafka: %s/%d has no leader: bring its replicas back", t.Name, p.ID))
			}
		}
		if limit, known := b.maxMessageBytes(ctx, t.Name); known {
			b.limits.Store(t.Name, min(maxBatchBytes, limit))
		}
	}
	return errors.Join(problems...)
}

// maxMessageBytes returns the topic's limit. It is not known where the relay's user may not read the configuration.
func (b *Broker) maxMessageBytes(ctx context.Context, topic string) (limit int, known bool) {
	const name = "max.message.bytes"
	answer, err := b.client.DescribeConfigs(ctx, &kafkago.DescribeConfigsRequest{
		Resources: []kafkago.DescribeConfigRequestResource{{
			ResourceType: kafkago.ResourceTypeTopic, ResourceName: topic, ConfigNames: []string{name},
		}},
	})
	if err != nil {
		return 0, false
	}
	for _, r := range answer.Resources {
		for _, entry := range r.ConfigEntries {
			if n, err := strconv.Atoi(entry.ConfigValue); err == nil && entry.ConfigName == name {
				return n, true
			}
		}
	}
	return 0, false
}
