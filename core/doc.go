// Package core keeps a service's database and its events in step. The application writes its rows and its events in
// one database transaction ([Outbox]); a [Relay] carries the events to the broker and removes them once the broker has
// them. A [Dialect] teaches the engine one database, a [Broker] one message system.
//
//	application tx ──Enqueue──► outbox ──Fetch──► reader ──► lanes ──Publish──► broker
//	                              ▲                          │ │ │
//	                              └── Acknowledge, Fail, Bury ┴─┴─┘
//
// # Promises
//
// Key means (topic, key) throughout; an empty key is no key.
//
//  1. Atomic: an event exists if and only if the transaction that enqueued it committed, savepoints included.
//  2. At least once: an event is removed only after the broker confirmed that it stored it. Silence, time-outs and closed
//     connections are never confirmation.
//  3. Ordered per key: the first occurrences of a key's events arrive in enqueue order; a duplicate is a re-delivery of
//     something already delivered. The transactions that write one key must be serialised before they enqueue: they
//     update the same row, or ask for the key lock ([OutboxConfig]). A delayed event takes its place when it comes due.
//     Under SkipDead, or after an operator unblocked the key, a retried dead letter has no order.
//  4. One bad event hurts nobody else: it holds back its own key.
//  5. An outage costs nothing but time: while broker or database is away no attempt is counted, nothing is buried, and
//     delivery resumes by itself within seconds of their return; within PublishTimeout, where the broker answered nothing and
//     is no [Pinger].
//  6. Nothing is thrown away silently: an event leaves by delivery or by an operator's decision.
//  7. Crash anywhere: kill -9 of application, relay, broker or database breaks none of the above; a graceful stop sends no
//     duplicates.
//  8. Nothing waits for the relay: no transaction, row lock or snapshot is held while publishing.
//
// 1 and 7 reach as far as the database's and the broker's own durability. A failover or a backup that loses commits loses
// events with their rows.
//
// # The life of a message
//
//	           Enqueue, COMMIT
//	                 │                       NotBefore in the future
//	                 ▼                                 │
//	┌──────────► in outbox ◄────── promoted ──── in delayed events
//	│                │ fetched, dispatched to its key's lane
//	│                ▼
//	│            in flight ◄────────────────────────┐
//	│                │ published                     │ probe: alone, 50 ms to 1 s later
//	│     ┌──────────┼──────────────┬───────────────┴─┐
//	│     ▼          ▼              ▼                 │
//	│  stored     refused n      permanent   unavailable, uncertain: held, not counted
//	│     │          │              │
//	│     ▼          ├─ n < MaxAttempts: failure noted; read again after its delay ──┐
//	│ acknowledged   ▼              ▼                                                 │
//	│  (removed)   buried: a dead letter; its key is blocked unless SkipDead          │
//	│                │                                                                │
//	├─ RetryDead ────┤                                                                │
//	│                └─ DropDead: kept, marked, never sent                            │
//	└─────────────────────────────────────────────────────────────────────────────────┘
//
// Where the dialect keeps what was delivered, an acknowledged message goes to the archive, and a replay puts a copy of
// it, with the same id, at the outbox's end. A paused topic's messages stay in the outbox.
//
// Whatever goes back to the outbox, or waits, holds back the later messages of its key and nobody else's. A message that
// was not attempted, because an earlier one of its call failed, waits in its place.
//
// # How the relay reads
//
// Positions are handed out before COMMIT, so a lower one may become visible after a higher one. Each fetch reads the tail
// and every unresolved gap in one statement. A gap is forgotten only when the dialect proved that nobody can fill it, and
// a later fetch found it empty; never by age. There is one cursor: a hold ends by the reader going back to the first
// message that was passed over and reading everything from there again, in order. What an operator or a promotion put
// below the cursor is announced by the generation, and answered by reading from the start.
//
// One call holds at most one message of each key, unless the broker is [KeyOrdered], and a key's next message is published
// only after the one before it was confirmed. So the order does not depend on the lease: each relay's first occurrences of
// a key are in order, and therefore those of several are. The lease saves duplicates.
//
// # What wakes a relay
//
// Polling is the guarantee: after 2 ms, 4 ms, 8 ms and so on, up to PollInterval, while nothing is found. Wake-ups only
// make it fast. In one process the [Waker] is what the [Outbox] and the relay share. From other processes a commit is
// heard by a dialect that is a [Listener]; where it hears only of what is announced (a [Notifier]), the application runs
// [Outbox.Run].
//
// # A message that kills
//
// A message can end the process that publishes it, and the next one, and so on. The lease counts owners that ended
// without releasing it or telling of an acknowledgement. After three of them a relay is careful: one message at a time is
// published, and its name is in the lease while it is. A name that is found there at a takeover is that of a suspect: an
// attempt of it has failed, and after MaxAttempts it is a dead letter. Nothing else counts for it. Caution ends when
// InFlight messages were published, or nothing is left, but not before the suspect has had its next attempt.
//
// # If X dies at Y, then Z
//
//	application   before COMMIT              neither its rows nor its events exist
//	              during COMMIT              both or neither; InTx says ErrCommitUnknown and does not repeat
//	              after COMMIT               the relay delivers; the lost wake-up costs one PollInterval
//	relay         before Publish             the next owner publishes
//	              during Publish             the next owner publishes again: perhaps a duplicate
//	              after it, before the       the next owner publishes again: a duplicate with the same id
//	              acknowledgement
//	              during Fail or Bury        done wholly or not at all; if not, the attempt is made again
//	              while it promotes          moved wholly or not at all
//	              anywhere (kill -9)         a standby takes the lease when it has expired, within LeaseTTL + 1 s
//	              each time, of one message  three relays die unsuspecting, then one for each attempt; it becomes a dead
//	                                         letter
//	              frozen, and thawed         its term is over by its own clocks: it publishes nothing more; calls in
//	                                         flight may arrive late, as duplicates
//	              stopped (context done)     calls end, what they stored is acknowledged, the lease is released
//	              stopped, careful           the same, and the mark is taken away: no attempt is counted
//	broker        before a call              unavailable: the topic is held, probed every second, nothing is counted
//	              during a call              uncertain: sent again, not counted
//	              and answers nothing        asked each second, over a new connection; once it has answered again, the calls that
//	                                         had begun before are cut half a second later: sent again, not counted
//	              after it stored            the answer is lost: sent again, a duplicate
//	              does not return            given up 1 s after PublishTimeout; too many, of all its terms together, end Run
//	                                         with ErrAbandoned
//	database      during Enqueue             the application's error; nothing is committed
//	              during Fetch               the reading session ends; a new one starts from nothing
//	              during Acknowledge, Fail,  repeated over a new session until it is done; if the lease ends first, the
//	              Bury                       next owner sends duplicates
//	              comes back older           positions are used again, ids are not: what is removed must match both
//	              while the lease is kept    the term ends by the relay's own clock, publishing with it; what is confirmed by
//	                                         then is acknowledged once more
//	              while a wake-up is on      it is lost; polling finds the event, and Listen and Notify begin again
//	              its way
//
// # Limits
//
// A message sent alone that times out while nothing else of its topic succeeds is tried for ever, because nothing tells it
// from an outage. The reverse: where one part of a topic hangs (a frozen node that leads some partitions) and the others
// answer, its messages look like poison, and their attempts are counted; with the defaults (ten attempts of 30 s, and 4 to
// 9 minutes between them) they become dead letters after ten minutes or so: blocked, not lost.
//
// An outage in which the broker refuses connections, or says that it is away, ends within a second of its return. Where it answers
// nothing, and its client neither, it is asked each second over a new connection if it is a [Pinger], and what was under way is ended
// half a second after it was back. Without a Pinger, and where something else is still stored at the same time (by another broker, or
// another node of it), the calls under way last until PublishTimeout (30 s): their messages, and what waits behind these in a lane, are
// delivered so much later. A topic that is held is tried anew each quarter of PublishTimeout meanwhile, with four calls at most, and
// delivery of it resumes then, after 7.5 s, where no more than four topics are. A silence of less than two seconds may pass unseen.
//
// A message that takes longer to kill the process than a third of LeaseTTL, while others are acknowledged, is not found
// out. A process that is killed from outside while it is careful costs the message that it was publishing one attempt; so
// does one that lives, cut off from its database, while another takes over.
//
// A topic is held when two of its messages fail with the broker's word that it is away, when two of its batches in a row end without
// an answer while another topic's are answered, or when more of its messages fail without a verdict than are kept in memory: a
// hundred of one topic, 400 of all (or a quarter of InFlight), and a sixteenth of InFlightBytes. Those are tried by turns. Beside them
// the reader goes back after 1 s, 2 s, 4 s and so on, up to a minute, and lets up to four more through, its scouts; of a topic of which
// none is in memory one, each second. The first success ends the hold. So messages that each fail by their own fault do not stop
// their topic, but the rest of it may wait for a scout each time.
//
// Where a broker says of one part of a topic that it is away (a partition without enough replicas, a full queue), and stores the rest, the
// whole topic is held and let go by turns. A single such key is sent again whenever another message of the topic is stored. With some
// fifty of them the others may wait for minutes. Order is kept, nothing is lost, and nothing counted.
//
// A topic that hangs takes up a lane with each batch that has a message of it, until PublishTimeout is over; only from the second
// time-out on it is held. With many new keys all lanes may wait for so long, once.
//
// Messages that travel alone, because an earlier attempt failed, and those behind them, take up an eighth of InFlight and InFlightBytes
// at most for each topic, and half of both for all topics. The keys of others are held back one by one until there is room.
//
// Beyond 10 000 keys that are held back one by one, the topics to which they belong are held as a whole until a quarter of
// them has gone on; a topic with no more than a hundred of them is spared.
//
// Where one transaction stays open that leaves more than 1256 gaps, and more than 1000 records between them are held back, the
// events behind wait until it ends.
//
// A pause, or an operator's other decision, comes too late for what a relay has in memory, which is at most InFlight.
//
// # Glossary
//
//	acknowledge   to remove a record from the outbox because the broker stored it
//	archive       where delivered events are kept, if the dialect is told to
//	blocked key   a key whose dead letter waits for an operator: fetches leave its messages out
//	bury          to move a record to the dead letters
//	careful       publishing one message at a time, each marked, because earlier relays were killed
//	cursor        the position up to which everything was read, but for the gaps
//	dead letter   a message that was refused MaxAttempts times, or for good
//	epoch         the lease's count of owners
//	gap           positions that were not visible when later ones were: still open, or never committed
//	generation    a counter in the database: records appeared or disappeared below the cursor
//	hold          what keeps back one key, or one topic, behind a message that is not delivered yet
//	in flight     dispatched to a lane, and not known to be removed
//	incarnation   the server and its start: another one's answers do not continue this one's
//	key           (topic, key): what messages are ordered by
//	lane          a sequence of publish calls, one at a time; a key always takes the same one
//	lease         the row by which one relay owns an outbox; the others stand by
//	lonely        in a publish call of its own, beside the lanes' batches
//	outage        the broker, a topic of it, or the database cannot be reached
//	pause         an operator's decision to keep a topic's messages in the outbox
//	position      a record's place in the outbox; with the message's id it names the record for good
//	probe         a message in memory that is tried again, alone, after a failure that is not counted
//	promote       to move delayed events that are due into the outbox
//	record        a message as it stands in the outbox
//	replay        to put copies of archived events into the outbox
//	rewind        to move the cursor back
//	scout         a message of a topic that is held which is let through, to see whether the topic is alive
//	session       one connection to the database that never reconnects by itself
//	settle        to write what became of records: acknowledge, note a failure, bury
//	standby       a relay that waits for the lease
//	suspect       the message whose name is in the lease, because it is being published by a careful relay
//	sweep         a full read from the start, as insurance
//	term          the time in which the lease's owner may publish, by its own clocks, ending a fifth of the TTL early
package core
