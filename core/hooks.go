package core

import "time"

// Hooks are functions that a [Relay] calls at each step of its work, for metrics and traces. Any may be nil. They are called
// from the relay's own goroutines, one at a time for each relay except Published and DatabaseFailed, must not block, and must not
// keep or change what they are given. What a relay holds at a moment is in [Relay.State], and what the outbox holds in [Stats].
type Hooks struct {
	// Leading is called when the relay takes the lease (true) and when it loses or releases it (false).
	Leading func(leading bool, epoch int64)
	// Opened is called when a reading session begins, and Lost when it ends by cause: the reader begins anew.
	Opened func()
	Lost   func(cause error)

	// Woken is called when a commit was signalled, in this process or in another one.
	Woken func()
	// Fetched is called after each fetch that read something.
	Fetched func(records int, took time.Duration)
	// Resolved is called when positions are known to hold nothing, now and ever.
	Resolved func(dead Range)
	// Rewound is called when the reader goes back to a position.
	Rewound func(from, to int64)
	// Swept is called after a full read, as insurance.
	Swept func(took time.Duration)
	// Promoted is called when delayed events came due and took their places.
	Promoted func(events int)

	// Published is called after each publish call, those that had been given up too.
	Published func(call PublishReport)
	// Abandoned is called when a publish call is given up: it did not return after its context had ended.
	Abandoned func(msgs []Message)
	// Acknowledged is called after messages have left the outbox because they were delivered.
	Acknowledged func(refs []Ref)
	// Failed is called when a failed attempt was counted, and Buried when a message became a dead letter.
	Failed func(failure Failure)
	Buried func(burial Burial)
	// Held is called when something is held back, and Released when it is not any more: when it goes on, is blocked, or the
	// reader begins anew. The cause is nil for a topic, and where the failure is an earlier relay's.
	Held     func(held Held, cause error)
	Released func(held Held)
	// Suspected is called by a careful relay before it publishes suspect, and with the zero Ref when the mark was taken
	// away.
	Suspected func(suspect Ref)
	// DatabaseFailed is called when a call to the database failed that settles, or concerns the lease, or promotes; all but
	// the last ones of a term are tried again. The step is "settle", "read the lease", "take the lease", "renew the lease",
	// "release the lease", "promote delayed events" or one of a few for suspects. Lost is called where a read failed.
	DatabaseFailed func(step string, cause error)
}

// PublishReport is what became of one publish call.
type PublishReport struct {
	// Messages are those of the call, at least one. Their EnqueuedAt tells how long each has taken.
	Messages []Message
	// Results has one entry for each of them: nil where the broker has stored it. [ClassOf] tells what the others mean.
	Results []error
	// Took is the call's time.
	Took time.Duration
}

func (h *Hooks) acknowledged(refs []Ref) {
	if h.Acknowledged != nil {
		h.Acknowledged(refs)
	}
}

func (h *Hooks) failed(failure Failure) {
	if h.Failed != nil {
		h.Failed(failure)
	}
}

func (h *Hooks) buried(burial Burial) {
	if h.Buried != nil {
		h.Buried(burial)
	}
}

func (h *Hooks) held(held Held, cause error) {
	if h.Held != nil {
		h.Held(held, cause)
	}
}

func (h *Hooks) released(held Held) {
	if h.Released != nil {
		h.Released(held)
	}
}

func (h *Hooks) suspected(suspect Ref) {
	if h.Suspected != nil {
		h.Suspected(suspect)
	}
}

func (h *Hooks) databaseFailed(step string, cause error) {
	if h.DatabaseFailed != nil {
		h.DatabaseFailed(step, cause)
	}
}

func (h *Hooks) lost(cause error) {
	if h.Lost != nil {
		h.Lost(cause)
	}
}

func (h *Hooks) leading(leading bool, epoch int64) {
	if h.Leading != nil {
		h.Leading(leading, epoch)
	}
}
