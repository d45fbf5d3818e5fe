package kafka

import (
	"context"
	"errors"
	"fmt"

	kafkago "github.com/segmentio/kafka-go"

	"github.com/lockstep-go/lockstep/core"
)

// TransactionalIDPrefix begins the transactional IDs by which the cluster tells the owners of an outbox apart; the
// outbox's UUID follows. The relay's user needs the permission Write on them.
const TransactionalIDPrefix = "lockstep-"

var (
	_ core.TermBroker = (*Broker)(nil)
	_ core.KeyOrdered = (*termBroker)(nil)
	_ core.KeyHasher  = (*termBroker)(nil)
)

// ForTerm implements [core.TermBroker]. The broker that it returns numbers its record batches, so that one which is sent
// again within a Publish call is not stored twice, and shuts out the terms before it: once it has written to a partition,
// the cluster stores nothing more there that an earlier term has sent or will send.
//
// Where the cluster is older than 2.5, does not grant the permission Write on the transactional ID, or has no
// coordinator for it three times in a row, ForTerm returns a broker without these abilities and logs a warning that says
// what to do: delivery and order do not depend on them.
func (b *Broker) ForTerm(ctx context.Context, term core.Term) (core.Broker, error) {
	id := TransactionalIDPrefix + term.Outbox
	s, err := b.firstSession(ctx, id)
	switch {
	case err == nil:
		b.uncoordinated.Store(0)
		return &termBroker{b, newProducer(b, id, s)}, nil
	case refuses(err), coordinatorAway(err) && b.uncoordinated.Add(1) >= coordinatorPatience:
		b.logger.Warn("lockstep: kafka does not let this relay shut out earlier ones; it goes on without: "+
			"a batch whose answer is lost is stored twice, and an earlier relay that wakes up can still write what it had",
			"transactional_id", id, "error", failure(nil, "take an epoch", err))
		return &termBroker{b, b.plain}, nil
	}
	return nil, failure(core.ErrUnavailable, "take an epoch", err)
}

// coordinatorPatience is how many terms in a row begin in vain where only the coordinator is away: it may be the only part that is.
const coordinatorPatience = 3

// firstSession shuts out the owners before.
func (b *Broker) firstSession(ctx context.Context, transactionalID string) (session, error) {
	versions, err := b.client.ApiVersions(ctx, &kafkago.ApiVersionsRequest{})
	if err == nil {
		err = versions.Error
	}
	if err != nil {
		return session{}, err
	}
	// Before version 3 of that request, whoever asks for a later epoch shuts out everybody, later owners as well.
	const initProducerID, careful = 22, 3
	for _, v := range versions.ApiKeys {
		if v.ApiKey == initProducerID && v.MaxVersion >= careful {
			return b.session(ctx, transactionalID, anonymous)
		}
	}
	return session{}, fmt.Errorf("%w: it needs Kafka 2.5", kafkago.UnsupportedVersion)
}

// refuses says that the cluster gives no session, and will not, until somebody changes it.
func refuses(err error) bool {
	for _, code := range []kafkago.Error{
		kafkago.TransactionalIDAuthorizationFailed, kafkago.ClusterAuthorizationFailed,
		kafkago.UnsupportedVersion, kafkago.InvalidRequest, kafkago.InvalidTransactionTimeout,
	} {
		if errors.Is(err, code) {
			return true
		}
	}
	return false
}

// coordinatorAway says that the cluster answers, and has nobody for the transactional ID.
func coordinatorAway(err error) bool {
	return errors.Is(err, kafkago.GroupCoordinatorNotAvailable) || errors.Is(err, kafkago.NotCoordinatorForGroup) ||
		errors.Is(err, kafkago.GroupLoadInProgress)
}

// termBroker is a Broker during one term.
type termBroker struct {
	broker   *Broker
	producer *producer
}

// KeyOrdered implements [core.KeyOrdered].
func (*termBroker) KeyOrdered() {}

// HashKey implements [core.KeyHasher].
func (t *termBroker) HashKey(topic, key string) uint32 { return t.broker.HashKey(topic, key) }

// Publish implements [core.Broker], as [Broker.Publish] does.
func (t *termBroker) Publish(ctx context.Context, msgs []core.Message) error {
	return t.broker.publish(ctx, t.producer, msgs)
}
