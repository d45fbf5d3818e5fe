// Package core is Lockstep's engine: a transactional outbox and the relay that empties it.
//
// An application that changes its database and must tell a message broker about it does two writes that no
// transaction spans. Lockstep makes it one write: [Outbox.Enqueue] inserts the event as a row in the application's own
// transaction, and a [Relay] carries the row to the [Broker] and removes it once the broker has it.
//
//	application tx ──Enqueue──► outbox table ──Fetch──► Relay ──Publish──► Broker
//	                                 ▲                    │
//	                                 └────Acknowledge─────┘
//
// # Promises
//
// Key means (topic, key) throughout; an empty key is no key. This first engine keeps these promises of the design:
//
//   - Atomic: an event exists if and only if the transaction that enqueued it committed.
//   - At least once: an event leaves the outbox only after the broker confirmed that it stored it. Silence, time-outs
//     and closed connections are never confirmation.
//   - Ordered per key: the first occurrences of a key's events arrive in enqueue order, provided that transactions
//     which write one key are serialised before they enqueue (they update the same row). A duplicate is a re-delivery
//     of something already delivered.
//   - Nothing waits for the relay: no transaction, row lock or snapshot is held while publishing.
//   - Crash anywhere: kill -9 of application, relay, broker or database breaks none of the above; a graceful stop
//     produces no duplicates.
//
// # How the relay reads
//
// Positions are handed out before commit, so a lower position can become visible after a higher one. This engine has
// no cursor that could pass such a row by: each fetch reads the oldest rows there are, and the batch is settled before
// the next fetch. One publish call holds at most one message of each key, and a key's next message is published only
// after the one before it was confirmed.
//
// # Limits of this version
//
// One batch is in flight at a time. A message that its broker refuses is tried again for ever and holds back its key;
// there are no dead letters yet, and once a whole batch's worth of held rows stands at the head of the table nothing
// behind it moves. Several relays may run on one outbox: each keeps the order, and together they send duplicates,
// because there is no lease yet.
package core
