// Package wmkafka is what broker/watermill needs besides, to deliver through watermill-kafka: its publisher's settings, and
// the meaning of its errors, which are those of sarama.
//
// It is a package of its own so that nobody else downloads sarama.
package wmkafka

import (
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"slices"
	"strings"
	"time"

	"github.com/IBM/sarama"
	"github.com/ThreeDotsLabs/watermill-kafka/v3/pkg/kafka"
	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/eapache/go-resiliency/breaker"

	"github.com/lockstep-go/lockstep/broker/watermill"
	"github.com/lockstep-go/lockstep/core"
)

// PublisherConfig returns settings for a publisher with which nil means stored, and a key's events keep their order.
// Add TLS, SASL and a client ID to its OverwriteSaramaConfig; do not lower anything.
func PublisherConfig(brokers []string) kafka.PublisherConfig {
	c := kafka.DefaultSaramaSyncPublisherConfig()
	c.Producer.RequiredAcks = sarama.WaitForAll
	c.Producer.MaxMessageBytes = 1 << 20 // sarama's own limit is below core's largest message
	c.Producer.Retry.Max = 0             // the relay sends again, and sooner
	c.Metadata.Retry.Backoff = 250 * time.Millisecond
	c.Net.DialTimeout = 5 * time.Second
	return kafka.PublisherConfig{
		Brokers: brokers, Marshaler: kafka.NewWithPartitioningMarshaler(watermill.PartitionKey), OverwriteSaramaConfig: c,
	}
}

// WithClasses returns publisher with errors that say what they mean: [core.ErrPermanent] of a message that can never be
// sent, [core.ErrUnavailable] where the cluster is to blame and not the message. Without it each error is
// uncertain, and the ten seconds for which sarama refuses a partition after an outage look like failures of its messages
// where other partitions are used again.
func WithClasses(publisher message.Publisher) message.Publisher { return &classifier{publisher} }

type classifier struct{ message.Publisher }

// Publish implements [message.Publisher].
func (c *classifier) Publish(topic string, messages ...*message.Message) error {
	err := c.Publisher.Publish(topic, messages...)
	if len(messages) == 1 && errors.Is(err, sarama.ErrNotConnected) {
		// Nothing was sent. Sarama says so as well while another goroutine is about to open the connection: whoever asks
		// again waits for it.
		err = c.Publisher.Publish(topic, messages...)
	}
	if err == nil {
		return nil
	}
	if class := classOf(err); class != nil {
		return fmt.Errorf("%w: %w", class, err)
	}
	return err
}

// unavailable are the answers that blame the cluster, and not the message. (A leader that loses the leadership says so of a
// batch that its successor may have: the message is sent again in any case.)
var unavailable = []sarama.KError{
	sarama.ErrUnknownTopicOrPartition, sarama.ErrLeaderNotAvailable, sarama.ErrNotLeaderForPartition,
	sarama.ErrReplicaNotAvailable, sarama.ErrKafkaStorageError, sarama.ErrListenerNotFound, sarama.ErrFencedLeaderEpoch,
	sarama.ErrUnknownLeaderEpoch, sarama.ErrNotEnoughReplicas, sarama.ErrTopicAuthorizationFailed,
	sarama.ErrClusterAuthorizationFailed, sarama.ErrSASLAuthenticationFailed,
}

// classOf returns the class of a publisher's error, or nil where the message may be stored.
func classOf(err error) error {
	var code sarama.KError
	var setting sarama.ConfigurationError
	var network *net.OpError
	var certificate *tls.CertificateVerificationError
	switch {
	case errors.As(err, &code):
		// Not even a record that is too large is that for certain: sarama sends several messages in a batch, and all of
		// them get the answer that was meant for one.
		if slices.Contains(unavailable, code) {
			return core.ErrUnavailable
		}
		if code == sarama.ErrInvalidTopic {
			return core.ErrPermanent
		}
	case errors.As(err, &setting):
		if strings.Contains(string(setting), "message larger than") { // sarama has no other word for it
			return core.ErrPermanent
		}
	case errors.Is(err, breaker.ErrBreakerOpen), errors.Is(err, sarama.ErrOutOfBrokers), errors.Is(err, sarama.ErrNotConnected):
		return core.ErrUnavailable // nothing was sent
	case errors.As(err, &network) && network.Op == "dial", errors.As(err, &certificate):
		return core.ErrUnavailable // as above: sarama shakes hands when it writes first
	}
	return nil
}
