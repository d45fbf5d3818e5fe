// Package amqp publishes to RabbitMQ, over AMQP 0-9-1, through rabbitmq/amqp091-go. A nil result is RabbitMQ's own
// confirm that it has stored the message in every queue that it was routed to.
//
// # Topology
//
// A message's topic is the exchange. Its routing key is its header [RoutingKeyHeader], or its key where it has no such
// header: order.created and order.paid of order 42 have the key 42, which keeps their order, and routing keys of their
// own, which choose the queues. The topic [DefaultExchange] is the default exchange, where the routing key is a queue's
// name.
//
// Exchanges, queues and bindings are yours to declare; the adapter declares nothing. Declare durable exchanges, and
// quorum queues or durable classic ones. Every message has to reach a queue (mandatory): an event that nobody may ever
// listen to needs a catch-all, either a binding or an alternate exchange:
//
//	rabbitmqadmin declare exchange name=orders type=topic durable=true arguments='{"alternate-exchange":"orders.rest"}'
//	rabbitmqadmin declare exchange name=orders.rest type=fanout durable=true
//	rabbitmqadmin declare queue name=orders.rest durable=true arguments='{"x-queue-type":"quorum"}'
//	rabbitmqadmin declare binding source=orders.rest destination=orders.rest
//
// The relay's user needs the permission to write to the exchanges, and no other.
//
// # Messages
//
// ID, content type (the header content-type) and the time of enqueuing (in seconds) are properties; the key and the
// exact time are the headers [KeyHeader] and [EnqueuedAtHeader]; the message's headers are headers. With
// Config.CloudEventsSource the message is a CloudEvent in binary mode instead: its attributes are headers that begin with
// [CloudEventsPrefix]. docs/messages.md has the table. Messages are persistent unless Config.Transient is set.
//
// # What a failure means
//
//	what happens                              result         then
//	confirmed                                 stored         acknowledged
//	returned: no queue for the routing key    uncertain      its key waits and is tried each second; attempts are counted
//	                                                         only when others of its exchange get through in between
//	                                                         (decisions 0012 and 0031)
//	nack: a queue is full and rejects         unavailable    held and tried each second; nothing is counted
//	no such exchange, or no permission        unavailable    the topic is held and tried each second
//	no permission for this routing key        refused        an attempt is counted
//	too large for RabbitMQ, or its CC header  permanent      a dead letter; found by sending halves, its neighbours are
//	is no list, or other 406                                 delivered
//	a name longer than 255 bytes, too many    permanent      a dead letter; not sent
//	bytes of headers, a name of ours
//	the broker blocks its publishers          unavailable    held; nothing is sent, on any connection, until it unblocks
//	(memory or disk alarm)                                   them; what was under way is uncertain after a second
//	no node answers, TLS or login fails       unavailable    held and tried each second
//	the connection is lost, the call's time   uncertain      sent again; what had not been sent is not attempted
//	is over, RabbitMQ shuts down
//
// What RabbitMQ closed the channel over is told by its reply code; testdata/verdicts.tsv has them all.
//
// # Order
//
// The engine puts one message of a key into a call, and publishes the next one when RabbitMQ has confirmed it; a message
// whose fate is unknown keeps its key back, whichever connection comes next. So the order of a key does not depend on
// what queues refuse. A key with thousands of events a second costs a round trip for each, some 2000 a second on a
// local machine, while other keys go on beside it; [Broker.Pipelined] is for those who would rather have the speed.
//
// Where messages of a key go to several queues, each queue has them in order. Consumers keep it with one consumer on a
// queue (single active consumer), or with a consistent-hash exchange before several.
//
// # Limits
//
// A confirm is worth what the queue is: a classic queue has the message on one disk, a quorum queue on the disks of a
// majority. RabbitMQ 4.3 loses the confirmed messages of a quorum queue that is killed within a second of its
// declaration. In a fanout where one of several full queues rejects a message, the others have it, and get it again.
// A full queue holds the whole exchange back while it is full: give what must not wait for each other an exchange of
// its own. One that has been full for good needs an operator, as the relay never gives up on it.
//
// An unroutable message is not counted while nothing else of its exchange succeeds, as where an exchange has lost its
// bindings; while something does, ten tries make a dead letter of it, after some minutes.
//
// Each publish call that runs at the same time has a connection, so a relay has as many as it has lanes, and some more
// after failures. While a call has gone without an answer for a second, the relay's pings open one more at each node, once a second, and close
// it. A memory or disk alarm costs one such ping, or a few: RabbitMQ answers it, and the calls end after that second. Streams, transactions and the immediate flag are not used.
package amqp
