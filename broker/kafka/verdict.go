package kafka

import (
	"context"
	"errors"
	"fmt"
	"io"

	kafkago "github.com/segmentio/kafka-go"
	"github.com/segmentio/kafka-go/protocol"

	"github.com/lockstep-go/lockstep/core"
)

// verdict is what a failed produce request means for its record batch.
type verdict int

const (
	// uncertain: it may be stored. What is not known to be something else is this.
	uncertain verdict = iota
	// misrouted: it was refused because the cluster is changing. Newer metadata may help. (A broker that loses the
	// leadership while it waits for its replicas says the same of a batch that its successor may have.)
	misrouted
	// unrouted: it was not sent at all, because nobody is known to lead its partition. Newer metadata may help.
	unrouted
	// unavailable: it is not stored, and it is not its fault.
	unavailable
	// disordered: it is not stored, because its number does not follow what the partition has. A later session may do
	// better.
	disordered
	// fenced: it is not stored, because a later owner of the outbox has written to the partition.
	fenced
	// misdated: it is not stored, because the topic does not take the times of its records.
	misdated
	// unsuited: it is not stored because of a record in it, and that one can never be.
	unsuited
	// damaged: it is not stored because it arrived changed, or so the broker says of a record without a key for a
	// compacted topic before Kafka 2.4. A record that is refused alone has used up an attempt.
	damaged
	// unnameable: there cannot be such a topic.
	unnameable
)

// verdicts has every code that a produce request can be answered with, or that can come before one is sent. The others
// belong to requests that are never made here, and are uncertain.
var verdicts = map[kafkago.Error]verdict{
	kafkago.UnknownTopicOrPartition: misrouted,
	kafkago.LeaderNotAvailable:      misrouted,
	kafkago.NotLeaderForPartition:   misrouted,
	kafkago.BrokerNotAvailable:      unrouted, // kafka-go's own: the leader is not among the brokers it knows
	kafkago.ReplicaNotAvailable:     misrouted,
	kafkago.KafkaStorageError:       misrouted,
	kafkago.ListenerNotFound:        misrouted,
	kafkago.FencedLeaderEpoch:       misrouted,
	kafkago.UnknownLeaderEpoch:      misrouted,
	kafkago.UnknownTopicID:          misrouted,
	kafkago.InconsistentTopicID:     misrouted,

	kafkago.Unknown:                      uncertain,
	kafkago.RequestTimedOut:              uncertain,
	kafkago.NetworkException:             uncertain,
	kafkago.NotEnoughReplicasAfterAppend: uncertain,

	kafkago.NotEnoughReplicas:           unavailable,
	kafkago.InvalidRequiredAcks:         unavailable,
	kafkago.UnsupportedVersion:          unavailable,
	kafkago.UnsupportedForMessageFormat: unavailable,
	kafkago.UnsupportedCompressionType:  unavailable,
	kafkago.ThrottlingQuotaExceeded:     unavailable,

	kafkago.TopicAuthorizationFailed:           unavailable,
	kafkago.ClusterAuthorizationFailed:         unavailable,
	kafkago.TransactionalIDAuthorizationFailed: unavailable,
	kafkago.BrokerAuthorizationFailed:          unavailable,
	kafkago.GroupAuthorizationFailed:           unavailable,
	kafkago.DelegationTokenAuthorizationFailed: unavailable,
	kafkago.SASLAuthenticationFailed:           unavailable,
	kafkago.UnsupportedSASLMechanism:           unavailable,
	kafkago.IllegalSASLState:                   unavailable,
	kafkago.SecurityDisabled:                   unavailable,
	kafkago.DelegationTokenAuthDisabled:        unavailable,
	kafkago.DelegationTokenNotFound:            unavailable,
	kafkago.DelegationTokenOwnerMismatch:       unavailable,
	kafkago.DelegationTokenRequestNotAllowed:   unavailable,
	kafkago.DelegationTokenExpired:             unavailable,
	kafkago.PrincipalDeserializationFailure:    unavailable,

	kafkago.MessageSizeTooLarge: unsuited,
	kafkago.RecordListTooLarge:  unsuited,
	kafkago.InvalidRecord:       unsuited,

	kafkago.OutOfOrderSequenceNumber: disordered,
	kafkago.UnknownProducerId:        disordered,
	kafkago.InvalidProducerEpoch:     fenced,
	kafkago.ProducerFenced:           fenced,

	kafkago.InvalidTimestamp: misdated,

	kafkago.InvalidMessage: damaged,
	kafkago.InvalidTopic:   unnameable,
}

// cures says what an operator can do about an error.
var cures = map[kafkago.Error]string{
	kafkago.TopicAuthorizationFailed:           "grant the relay's user Write on the topic",
	kafkago.ClusterAuthorizationFailed:         "grant the relay's user the access to the cluster that it lacks",
	kafkago.SASLAuthenticationFailed:           "correct the relay's user or password",
	kafkago.UnsupportedSASLMechanism:           "set SASL to a mechanism that the listener takes",
	kafkago.NotEnoughReplicas:                  "bring the topic's replicas back, or lower its min.insync.replicas",
	kafkago.InvalidTimestamp:                   "set the clock of the relay's machine, or the topic's message.timestamp.after.max.ms",
	kafkago.TransactionalIDAuthorizationFailed: "grant the relay's user Write and Describe on the transactional IDs that begin with " + TransactionalIDPrefix,
	kafkago.GroupCoordinatorNotAvailable:       "see why the cluster has no __transaction_state (transaction.state.log.replication.factor may be more than its brokers)",
	kafkago.MessageSizeTooLarge:                "raise the topic's max.message.bytes, or store the payload elsewhere and send a reference",
	kafkago.UnsupportedVersion:                 "use a Kafka that is not older than 0.11",
	kafkago.UnsupportedForMessageFormat:        "raise the topic's message.format.version: records have headers",
}

// verdictOf judges an error of a produce request.
func verdictOf(err error) verdict {
	var code kafkago.Error
	if errors.As(err, &code) && verdicts[code] != uncertain {
		return verdicts[code]
	}
	// Of these two, kafka-go makes the error before it sends anything. (The bare protocol.ErrNoTopic is another matter:
	// an answer without a topic in it.)
	var topic *protocol.TopicError
	var partition *protocol.TopicPartitionError
	if errors.As(err, &topic) || errors.As(err, &partition) {
		return unrouted
	}
	if errors.Is(err, errNotSent) {
		return unavailable // there was no connection to send it on, whatever it failed of
	}
	return uncertain
}

// aboutRecord says that other records of the batch may do better without one of them.
func (v verdict) aboutRecord() bool { return v == unsuited || v == damaged }

// passing says that newer metadata may help.
func (v verdict) passing() bool { return v == misrouted || v == unrouted }

// mayPass says that the same batch may have another answer soon.
func (v verdict) mayPass() bool { return v.passing() || v == uncertain || v == unavailable }

// certain says that the batch is not stored and never will be, so that its number is free.
func (v verdict) certain() bool { return v != uncertain && v != misrouted && v != disordered }

// class returns the class of the result, nil for an ordinary refusal.
func (v verdict) class() error {
	switch v {
	case misrouted, unrouted, unavailable, disordered, misdated:
		return core.ErrUnavailable
	case fenced:
		return core.ErrFenced
	case unsuited, unnameable:
		return core.ErrPermanent
	case damaged:
		return nil
	default:
		return core.ErrUncertain
	}
}

// failure makes a result. A context's error, or one that passes for it as network time-outs do, is told but cannot be
// found with errors.Is: by that it would say that the message may be stored.
func failure(class error, doing string, cause error) error {
	var code kafkago.Error
	cure := ""
	if errors.As(cause, &code) && cures[code] != "" {
		cure = ": " + cures[code]
	}
	if errors.Is(class, core.ErrUnavailable) && (errors.Is(cause, io.EOF) || errors.Is(cause, io.ErrUnexpectedEOF)) {
		cure = ": the server ended the connection: it is stopping, or wants TLS or a login that the relay's configuration does not have"
	}
	hidden := errors.Is(cause, context.DeadlineExceeded) || errors.Is(cause, context.Canceled)
	switch {
	case class == nil:
		return fmt.Errorf("kafka: %s: %w%s", doing, cause, cure)
	case hidden && !errors.Is(class, core.ErrUncertain):
		return fmt.Errorf("%w: kafka: %s: %v%s", class, doing, cause, cure)
	}
	return fmt.Errorf("%w: kafka: %s: %w%s", class, doing, cause, cure)
}
