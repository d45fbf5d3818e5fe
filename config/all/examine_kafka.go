package all

import (
	"context"
	"fmt"
	"strconv"
	"time"

	kafkago "github.com/segmentio/kafka-go"

	"github.com/lockstep-go/lockstep/broker/kafka"
	"github.com/lockstep-go/lockstep/config"
)

// kafkaBroker is the adapter, and what doctor asks of the cluster.
type kafkaBroker struct {
	*kafka.Broker
	config kafka.Config
}

// ExamineTopics implements [config.TopicExaminer]: acks=all means as many replicas as are in sync, at least
// min.insync.replicas.
func (b kafkaBroker) ExamineTopics(ctx context.Context, topics []string) (found []config.Finding, err error) {
	if len(topics) == 0 {
		return nil, nil
	}
	transport := &kafkago.Transport{TLS: b.config.TLS, SASL: b.config.SASL, ClientID: b.config.ClientID, DialTimeout: 5 * time.Second}
	defer transport.CloseIdleConnections()
	client := &kafkago.Client{Addr: kafkago.TCP(b.config.Brokers...), Timeout: 10 * time.Second, Transport: transport}
	metadata, err := client.Metadata(ctx, &kafkago.MetadataRequest{Topics: topics})
	if err != nil {
		return nil, err
	}
	for _, t := range metadata.Topics {
		if t.Error != nil || len(t.Partitions) == 0 {
			continue // Check tells of it
		}
		replicas := len(t.Partitions[0].Replicas)
		least, known := b.minInSync(ctx, client, t.Name)
		if replicas < 2 || known && least < 2 {
			found = append(found, config.Finding{
				Warning: true,
				Problem: fmt.Sprintf("topic %s has %d replica(s) and min.insync.replicas=%s: one machine that is lost may take delivered events with it", t.Name, replicas, orUnknown(least, known)),
				Cure:    "three replicas and min.insync.replicas=2; see docs/runbook.md, The broker loses data",
			})
		}
	}
	return found, nil
}

func orUnknown(n int, known bool) string {
	if known {
		return strconv.Itoa(n)
	}
	return "unknown"
}

func (b kafkaBroker) minInSync(ctx context.Context, client *kafkago.Client, topic string) (int, bool) {
	const name = "min.insync.replicas"
	answer, err := client.DescribeConfigs(ctx, &kafkago.DescribeConfigsRequest{Resources: []kafkago.DescribeConfigRequestResource{{
		ResourceType: kafkago.ResourceTypeTopic, ResourceName: topic, ConfigNames: []string{name},
	}}})
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
