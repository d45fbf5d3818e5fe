// Package watermill connects Lockstep with Watermill (github.com/ThreeDotsLabs/watermill), in both directions.
//
// A [Broker] lets a relay deliver through any Watermill publisher, and so through every message system that Watermill
// knows. An [OutboxPublisher] is a Watermill publisher that writes to an outbox: an application that publishes with
// Watermill, by itself or with the CQRS component's buses, puts it in the place of its publisher and has its events
// committed with its rows.
//
// # Delivering through Watermill
//
//	broker, err := watermill.New(publisher)
//	relay, err := core.NewRelay(dialect, broker, core.RelayConfig{})
//
// Each message is one call of the publisher, and up to 32 messages of a relay's call travel side by side. Watermill's
// Publish has neither a context of its own nor a word for what an error means, so that:
//
//   - An error is [core.ErrUncertain]: the message may be stored. It is sent again, under the same UUID. One that wraps
//     [core.ErrPermanent], [core.ErrUnavailable] or [core.ErrNotAttempted], as a decorator of yours may make it, is that.
//   - A panic is an error.
//   - A call that has not returned when its time is over is abandoned, and its message uncertain. What the publisher
//     does later is a duplicate. The context of the relay's call is the Watermill message's context, for publishers
//     that look at it. 512 calls may be abandoned; from then on nothing is sent before one of them returns.
//   - Nobody can be asked whether the message system answers: a Broker is no [core.Pinger]. What was under way when the system, or the way there,
//     fell silent, and whose client does not notice, goes on until core.RelayConfig.PublishTimeout is over (30 s by default), so that delivery may resume
//     so much later than the system does: lower it to what a call takes at most. Where all
//     is silent no attempt is counted.
//   - The publisher gets copies. It may change them, and keep them.
//
// # Publishers
//
// A nil error of the publisher has to mean that the message is stored. [New] looks into the publishers that are known to
// say nil to less than that, or to lose a key's order, and refuses their unsafe settings with what to set instead:
//
//	watermill-kafka   OverwriteSaramaConfig.Producer.RequiredAcks other than sarama.WaitForAll, such as its default
//	                  Marshaler kafka.DefaultMarshaler: records have no key, and a key's events no order
//	                  a random or a round-robin partitioner: the same
//	watermill-amqp    Publish.ConfirmDelivery unset: nobody waits for RabbitMQ
//	                  Publish.Transactional: an error is lost in its commit
//	gochannel         BlockPublishUntilSubscriberAck unset: nobody waits for the subscribers
//	                  closed; later too, where its Close ends a wait for a subscriber
//
// It finds them inside of decorators as well, where these keep the publisher in a field: Watermill's own do. It reads
// private fields (seen to work with watermill 1.5.1, watermill-kafka 3.0.6 and watermill-amqp 3.0.1). What it cannot read
// it accepts: any other publisher, one behind a function, a field that another version calls differently. Then it is for
// you to know what nil means.
//
// Safely configured, for Kafka, with package wmkafka, which also knows what its errors mean:
//
//	publisher, err := kafka.NewPublisher(wmkafka.PublisherConfig(brokers), logger)
//	broker, err := watermill.New(wmkafka.WithClasses(publisher))
//
// and for RabbitMQ:
//
//	config := amqp.NewDurablePubSubConfig(uri, nil)
//	config.Publish.ConfirmDelivery = true
//
// With sarama, delivery resumes up to 10 s after Kafka has come back: for so long it refuses a partition after three
// failures, and no setting changes that.
//
// Two losses are not for settings to prevent. watermill-amqp does not hear of messages that reach no queue (it drops
// returns, Mandatory or not), and RabbitMQ confirms them: bind the queues first, and never unbind them. gochannel keeps
// nothing: with nobody subscribed to a topic, or a subscriber that leaves before it acknowledged, the message is gone.
// For Kafka and RabbitMQ there are adapters without Watermill between, which know what an error means.
//
// # What a message looks like
//
//	ID            the message's UUID
//	Topic         the topic
//	Key           metadata lockstep-key, absent where there is none
//	Headers       metadata, content-type among them
//	EnqueuedAt    metadata lockstep-enqueued-at, RFC 3339 in UTC with microseconds; absent where it is not known
//	Payload       the payload
//
// An OutboxPublisher does the same the other way round, so that what it wrote arrives as it was published. The time is
// that of the outbox, whatever a message says that has come through another one before.
//
// # Publishing from a Watermill application
//
// In a transaction, make a publisher for it and a bus upon that. They cost nothing and are not closed:
//
//	err := outbox.InTx(ctx, db, core.InTxOptions{}, func(ctx context.Context, tx *sql.Tx) ([]core.Message, error) {
//		bus, err := cqrs.NewEventBusWithConfig(watermill.NewOutboxPublisher(outbox, tx, watermill.OutboxPublisherConfig{}), busConfig)
//		if err != nil {
//			return nil, err
//		}
//		// … the application's rows …
//		return core.NoEvents, bus.Publish(ctx, OrderPlaced{ID: id}) // it is in the outbox by now
//	})
//
// Whoever uses Watermill's Forwarder has these lines already: the OutboxPublisher takes the place of the SQL publisher and
// of forwarder.NewPublisher around it, and a relay that of the Forwarder. There is no envelope, so consumers see
// the same messages as before.
//
// The publisher of a message.Router's handler does not fit: the router publishes what a handler returned after the
// handler and all middleware have ended, and with them the transaction. Publish inside of the handler, and return
// nothing.
package watermill
