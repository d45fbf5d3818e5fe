// Package wmkafka is what broker/watermill needs besides, to deliver through watermill-kafka: its publisher's settings, and
// the meaning of its errors, which are those of sarama.
//
// It is a package of its own so that nobody else downloads sarama.
package wmkafka

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"slices"
	"strings"
	"sync"
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
//
// Sarama sends messages of several calls in one batch, and all of them get the answer that was meant for one. So a message
// that the cluster says does not suit it is sent once more, by itself, while no other call is under way: only then does the
// answer count. Let nobody else publish through publisher.
func WithClasses(publisher message.Publisher) message.Publisher {
	return &classifier{Publisher: publisher}
}

type classifier struct {
	message.Publisher
	together sync.RWMutex // held for writing by who publishes by itself
}

// Publish implements [message.Publisher].
func (c *classifier) Publish(topic string, messages ...*message.Message) error {
	err := c.beside(topic, messages)
	alone := len(messages) == 1 && isUnsuited(err)
	if alone {
		err = c.byItself(topic, messages)
	}
	if class := classOf(err, alone); class != nil {
		return fmt.Errorf("%w: %w", class, err)
	}
	return err
}

// beside publishes while others may.
func (c *classifier) beside(topic string, messages []*message.Message) error {
	c.together.RLock()
	defer c.together.RUnlock()
	err := c.Publisher.Publish(topic, messages...)
	if len(messages) == 1 && errors.Is(err, sarama.ErrNotConnected) {
		// Nothing was sent. Sarama says so as well while another goroutine is about to open the connection: whoever asks
		// again waits for it.
		err = c.Publisher.Publish(topic, messages...)
	}
	return err
}

// byItself publishes while nobody else does.
func (c *classifier) byItself(topic string, messages []*message.Message) error {
	c.together.Lock()
	defer c.together.Unlock()
	if ctx := messages[0].Context(); ctx.Err() != nil {
		return fmt.Errorf("%w: the call's time was over before the message could be sent by itself: %w", core.ErrUncertain, context.Cause(ctx))
	}
	return c.Publisher.Publish(topic, messages...)
}

// unavailable are the answers that blame the cluster, and not the message. (A leader that loses the leadership says so of a
// batch that its successor may have: the message is sent again in any case.)
var unavailable = []sarama.KError{
	sarama.ErrUnknownTopicOrPartition, sarama.ErrLeaderNotAvailable, sarama.ErrNotLeaderForPartition,
	sarama.ErrReplicaNotAvailable, sarama.ErrKafkaStorageError, sarama.ErrListenerNotFound, sarama.ErrFencedLeaderEpoch,
	sarama.ErrUnknownLeaderEpoch, sarama.ErrNotEnoughReplicas, sarama.ErrTopicAuthorizationFailed,
	sarama.ErrClusterAuthorizationFailed, sarama.ErrSASLAuthenticationFailed,
}

// isUnsuited reports whether the cluster refuses a batch for what is in it.
func isUnsuited(err error) bool {
	var code sarama.KError
	return errors.As(err, &code) && slices.Contains(unsuited, code)
}

var unsuited = []sarama.KError{sarama.ErrMessageSizeTooLarge, sarama.ErrMessageSetSizeTooLarge, sarama.ErrInvalidRecord}

// classOf returns the class of a publisher's error, or nil where the message may be stored. Alone says that no other message
// can have been in its batch.
func classOf(err error, alone bool) error {
	var code sarama.KError
	var setting sarama.ConfigurationError
	var network *net.OpError
	var certificate *tls.CertificateVerificationError
	switch {
	case errors.As(err, &code):
		if slices.Contains(unavailable, code) {
			return core.ErrUnavailable
		}
		if code == sarama.ErrInvalidTopic || alone && slices.Contains(unsuited, code) {
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
