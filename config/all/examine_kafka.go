package all

import (
	"context"
	"fmt"
	"strconv"
	"strings"
	"time"

	kafkago "github.com/segmentio/kafka-go"

	"github.com/lockstep-go/lockstep/broker/kafka"
	"github.com/lockstep-go/lockstep/config"
	"github.com/lockstep-go/lockstep/core"
)

// kafkaBroker is the adapter, and what doctor asks of the cluster.
type kafkaBroker struct {
	*kafka.Broker
	config kafka.Config
}

// ExamineTopics implements [config.TopicExaminer]: acks=all means as many replicas as are in sync, at least
// min.insync.replicas.
func (b kafkaBroker) ExamineTopics(ctx context.Context, topics []config.WaitingTopic) (found []config.Finding, err error) {
	if len(topics) == 0 {
		return nil, nil
	}
	transport := &kafkago.Transport{TLS: b.config.TLS, SASL: b.config.SASL, ClientID: b.config.ClientID, DialTimeout: 5 * time.Second, Dial: b.config.Dial}
	defer transport.CloseIdleConnections()
	client := &kafkago.Client{Addr: kafkago.TCP(b.config.Brokers...), Timeout: 10 * time.Second, Transport: transport}
	var names []string
	largest := map[string]int{}
	for _, t := range topics {
		names, largest[t.Name] = append(names, t.Name), t.Largest
	}
	metadata, err := client.Metadata(ctx, &kafkago.MetadataRequest{Topics: names})
	if err != nil {
		return nil, err
	}
	var unknown []string
	for _, t := range metadata.Topics {
		if t.Error != nil || len(t.Partitions) == 0 {
			continue // Check tells of it
		}
		settings, err := topicSettings(ctx, client, t.Name)
		if err != nil {
			unknown = append(unknown, fmt.Sprintf("the settings of topic %s: %v", t.Name, err))
		}
		found = append(found, examineTopic(t.Name, len(t.Partitions[0].Replicas), settings, largest[t.Name])...)
	}
	if len(unknown) > 0 {
		return found, fmt.Errorf("some was not found out (it needs the permission DescribeConfigs): %s", strings.Join(unknown, "; "))
	}
	return found, nil
}

// The settings that are looked at.
const (
	minInSync       = "min.insync.replicas"
	maxMessageBytes = "max.message.bytes"
)

// examineTopic judges a topic by its settings, as far as they are known.
func examineTopic(name string, replicas int, settings map[string]int, largest int) (found []config.Finding) {
	if least, known := settings[minInSync]; replicas < 2 || known && least < 2 {
		found = append(found, config.Finding{
			Warning: true,
			Problem: fmt.Sprintf("topic %s has %d replica(s) and min.insync.replicas=%s: one machine that is lost may take delivered events with it", name, replicas, orUnknown(least, known)),
			Cure:    "three replicas and min.insync.replicas=2; see docs/runbook.md, The broker lost data",
		})
	}
	if least, known := settings[minInSync]; known && least > replicas {
		found = append(found, config.Finding{
			Problem: fmt.Sprintf("topic %s has %d replica(s) and min.insync.replicas=%d: it takes no message", name, replicas, least),
			Cure:    "set min.insync.replicas below the number of replicas, or add replicas",
		})
	}
	const raise = "raise the topic's max.message.bytes, and the consumers' limits with it"
	switch limit, known := settings[maxMessageBytes]; {
	case known && largest > limit:
		found = append(found, config.Finding{
			Warning: true,
			Problem: fmt.Sprintf("topic %s takes messages of %d bytes, and one of %d waits: unless compression makes it small, it becomes a dead letter", name, limit, largest),
			Cure:    raise,
		})
	case known && limit < core.MaxPayloadBytes:
		found = append(found, config.Finding{
			Warning: true,
			Problem: fmt.Sprintf("topic %s takes messages of %d bytes, and an event may have %d: unless compression makes a larger one small, it becomes a dead letter", name, limit, core.MaxPayloadBytes),
			Cure:    raise + ", unless no event is as large",
		})
	}
	return found
}

func orUnknown(n int, known bool) string {
	if known {
		return strconv.Itoa(n)
	}
	return "unknown"
}

// topicSettings returns those that are numbers, by name.
func topicSettings(ctx context.Context, client *kafkago.Client, topic string) (map[string]int, error) {
	answer, err := client.DescribeConfigs(ctx, &kafkago.DescribeConfigsRequest{Resources: []kafkago.DescribeConfigRequestResource{{
		ResourceType: kafkago.ResourceTypeTopic, ResourceName: topic, ConfigNames: []string{minInSync, maxMessageBytes},
	}}})
	if err != nil {
		return nil, err
	}
	settings := map[string]int{}
	for _, r := range answer.Resources {
		if r.Error != nil {
			return nil, r.Error
		}
		for _, entry := range r.ConfigEntries {
			if n, err := strconv.Atoi(entry.ConfigValue); err == nil {
				settings[entry.ConfigName] = n
			}
		}
	}
	return settings, nil
}
