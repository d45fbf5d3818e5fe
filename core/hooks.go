package core

import "time"

// Hooks are functions that a [Relay] calls as it works, for metrics and traces. Any may be nil. They are called from
// the relay's own goroutines, one at a time for each relay except Published, must not block, and must not keep what they
// are given.
type Hooks struct {
	// Fetched is called after each fetch that read something.
	Fetched func(records int, took time.Duration)
	// Published is called after each publish call, with the error that the broker returned.
	Published func(msgs []Message, took time.Duration, err error)
	// Acknowledged is called after messages have left the outbox because they were delivered. Their ages run from
	// Enqueue to the acknowledgement, by this machine's clock against the database's.
	Acknowledged func(refs []Ref)
	// Held is called when a key (or, with an empty key, a topic) is held back by a failure.
	Held func(topic, key string, cause error)
	// Failed is called when a failed attempt was counted.
	Failed func(failure Failure)
	// Buried is called when a message became a dead letter.
	Buried func(burial Burial)
	// Rewound is called when the reader goes back to a position.
	Rewound func(from, to int64)
	// Leading is called when the relay takes the lease (true) and when it loses or releases it (false).
	Leading func(leading bool, epoch int64)
}
