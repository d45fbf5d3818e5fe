package watermilltest

import (
	"errors"
	"strings"
	"testing"

	"github.com/IBM/sarama"
	wmill "github.com/ThreeDotsLabs/watermill"
	"github.com/ThreeDotsLabs/watermill-amqp/v3/pkg/amqp"
	"github.com/ThreeDotsLabs/watermill-kafka/v3/pkg/kafka"
	"github.com/ThreeDotsLabs/watermill/components/metrics"
	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/lockstep-go/lockstep/broker/watermill"
	"github.com/lockstep-go/lockstep/broker/watermill/wmkafka"
)

// lazyKafka is a configuration whose publisher connects when it is first used, and so needs no server.
func lazyKafka(config kafka.PublisherConfig) kafka.PublisherConfig {
	if config.OverwriteSaramaConfig == nil {
		config.OverwriteSaramaConfig = kafka.DefaultSaramaSyncPublisherConfig()
	}
	config.OverwriteSaramaConfig.Metadata.Full = false
	return config
}

// safeAMQP is the configuration that the package documentation of broker/watermill shows.
func safeAMQP() amqp.Config {
	config := amqp.NewDurablePubSubConfig("amqp://localhost/", nil)
	config.Publish.ConfirmDelivery = true
	return config
}

// newAMQP makes a publisher on a connection of somebody else's, which is not there yet: it connects to nothing.
func newAMQP(t *testing.T, config amqp.Config) *amqp.Publisher {
	t.Helper()
	publisher, err := amqp.NewPublisherWithConnection(config, wmill.NopLogger{}, nil)
	if err != nil {
		t.Fatal(err)
	}
	return publisher
}

const (
	wantAcks        = "set OverwriteSaramaConfig to a configuration with Producer.RequiredAcks = sarama.WaitForAll"
	wantKey         = "set Marshaler to kafka.NewWithPartitioningMarshaler(watermill.PartitionKey)"
	wantPartitioner = "set it to sarama.NewHashPartitioner"
	wantConfirms    = "set Config.Publish.ConfirmDelivery"
	wantNoTx        = "unset Config.Publish.Transactional, and set ConfirmDelivery"
)

// expectFaults checks that New refuses publisher with these sentences and no others, or accepts it where there are none.
func expectFaults(t *testing.T, publisher message.Publisher, sentences ...string) {
	t.Helper()
	_, err := watermill.New(publisher)
	if len(sentences) == 0 {
		if err != nil {
			t.Errorf("New: got %v, want it to accept the publisher", err)
		}
		return
	}
	var faults interface{ Unwrap() []error }
	if !errors.As(err, &faults) || len(faults.Unwrap()) != len(sentences) {
		t.Fatalf("New: got %v, want %d faults", err, len(sentences))
	}
	for i, fault := range faults.Unwrap() {
		if !strings.Contains(fault.Error(), sentences[i]) {
			t.Errorf("fault %d: got %q, want it to say %q", i, fault, sentences[i])
		}
	}
}

func TestUnsafeKafkaPublishersAreRefused(t *testing.T) {
	scattering := func(partitioner sarama.PartitionerConstructor) func(*kafka.PublisherConfig) {
		return func(c *kafka.PublisherConfig) { c.OverwriteSaramaConfig.Producer.Partitioner = partitioner }
	}
	for name, tt := range map[string]struct {
		change func(config *kafka.PublisherConfig)
		says   []string
	}{
		"safe":           {func(*kafka.PublisherConfig) {}, nil},
		"default config": {func(c *kafka.PublisherConfig) { c.OverwriteSaramaConfig = nil }, []string{wantAcks}},
		"acks=1": {func(c *kafka.PublisherConfig) {
			c.OverwriteSaramaConfig.Producer.RequiredAcks = sarama.WaitForLocal
		}, []string{wantAcks}},
		"acks=0": {func(c *kafka.PublisherConfig) {
			c.OverwriteSaramaConfig.Producer.RequiredAcks = sarama.NoResponse
		}, []string{wantAcks}},
		"default marshaler": {func(c *kafka.PublisherConfig) { c.Marshaler = kafka.DefaultMarshaler{} }, []string{wantKey}},
		"pointer to it":     {func(c *kafka.PublisherConfig) { c.Marshaler = &kafka.DefaultMarshaler{} }, []string{wantKey}},
		"all defaults": {func(c *kafka.PublisherConfig) {
			*c = kafka.PublisherConfig{Brokers: c.Brokers, Marshaler: kafka.DefaultMarshaler{}}
		}, []string{wantAcks, wantKey}},
		"random partitions": {scattering(sarama.NewRandomPartitioner), []string{wantPartitioner}},
		"round robin":       {scattering(sarama.NewRoundRobinPartitioner), []string{wantPartitioner}},
		"another hash":      {scattering(sarama.NewReferenceHashPartitioner), nil},
		"a marshaler of one's own": {func(c *kafka.PublisherConfig) {
			c.Marshaler = struct{ kafka.Marshaler }{c.Marshaler}
		}, nil},
	} {
		t.Run(name, func(t *testing.T) {
			config := wmkafka.PublisherConfig([]string{"localhost:1"})
			tt.change(&config)
			expectFaults(t, newKafka(t, lazyKafka(config)), tt.says...)
		})
	}
}

func TestUnsafeAMQPPublishersAreRefused(t *testing.T) {
	for name, tt := range map[string]struct {
		change func(config *amqp.Config)
		says   []string
	}{
		"safe":           {func(*amqp.Config) {}, nil},
		"default config": {func(c *amqp.Config) { c.Publish.ConfirmDelivery = false }, []string{wantConfirms}},
		"transactional with confirms": {func(c *amqp.Config) { c.Publish.Transactional = true },
			[]string{wantNoTx}},
		"transactional": {func(c *amqp.Config) { c.Publish.Transactional, c.Publish.ConfirmDelivery = true, false },
			[]string{wantConfirms, wantNoTx}},
	} {
		t.Run(name, func(t *testing.T) {
			config := safeAMQP()
			tt.change(&config)
			expectFaults(t, newAMQP(t, config), tt.says...)
		})
	}
}

// The decorator that is most used comes with a dependency, and is a value.
func TestPublishersAreFoundBehindMetrics(t *testing.T) {
	decorate := func(publisher message.Publisher) message.Publisher {
		builder := metrics.NewPrometheusMetricsBuilder(prometheus.NewRegistry(), "", "")
		decorated, err := builder.DecoratePublisher(publisher)
		if err != nil {
			t.Fatal(err)
		}
		return decorated
	}
	config := safeAMQP()
	expectFaults(t, decorate(newAMQP(t, config)))
	config.Publish.ConfirmDelivery = false
	expectFaults(t, decorate(newAMQP(t, config)), wantConfirms)
}
