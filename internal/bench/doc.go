// Package bench measures Lockstep on real servers, beside their own limits and beside what teams write by hand.
//
// A trial is one way of doing something once: a child process of this program, so that its processor time and its memory
// are its own, on tables and topics that were made for it and are removed after it. Trials that are compared with each other
// take turns, round by round, and a ratio is made within a round and never across: what else a machine does hits all of
// them alike. What is told is the median over the rounds, with the lowest and the highest.
//
// Where messages arrive, a consumer reads everything back afterwards and holds it against what was enqueued. A run that lost a
// message, or broke the order of a key, counts for nothing, however fast it was.
//
// The drain's ways:
//
//	raw database   what the database gives: rows are read in order, and deleted, over two connections
//	raw broker     what the broker takes: as many publishers as a relay has lanes, batches without a pause
//	bare           both joined, without any safety: no lease, no gaps, no bounds by bytes, no verdicts, no retries
//	lockstep       core.Relay with its defaults
//	batched        SELECT 1000 in order, publish them together, one UPDATE: the better one of what teams write
//	textbook       SELECT 100 in order, publish one by one, UPDATE after each: the usual one
package bench
