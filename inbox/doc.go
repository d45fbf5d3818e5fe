// Package inbox makes the effect of a message happen once at its consumer, however often the message is delivered.
//
// Whoever promises to lose nothing delivers some messages twice: a relay that is killed between the broker's confirmation
// and its own delete, a broker that hears no acknowledgement, an operator who replays. An [Inbox] notes the message's id
// in the transaction of the effect. A second delivery finds the note and does nothing; a crash before COMMIT takes the
// note back together with the effect. Outbox, broker and inbox together are exactly once in effect, end to end.
//
//	box, err := inbox.New(dialect, inbox.Config{})
//	err = box.Handle(ctx, db, "billing", message.ID, func(ctx context.Context, tx *sql.Tx) error {
//		_, err := tx.ExecContext(ctx, "UPDATE accounts SET …")
//		return err
//	})
//	// nil: the effect is committed, by this delivery or by an earlier one. Acknowledge the message now, and not before.
//
// What is not in the transaction is not once: an effect that sends an e-mail sends it again. Let it enqueue an event
// instead (core.Outbox.Enqueue, in the same tx).
//
// A [Consumer] adds what a consumer does about messages that fail: it tries again, and in the end publishes them as dead
// letters with their cause. The packages below run one on Kafka, RabbitMQ and Watermill.
//
// # How long ids are kept
//
// An id that is forgotten makes a later duplicate look new. A duplicate comes late when the relay published a message,
// could not remove it from the outbox, was away for the longest outage, and published it again; and when that copy then
// lay in the broker for as long as it keeps messages. So an inbox remembers for the sum of both, and refuses less: see
// [Config]. What an operator replays after that, out of an archive, happens again.
//
// "Drop everything with an id below the last one seen" is no inbox: transactions commit in another order than they took
// their ids in, and it loses those that commit late.
package inbox
