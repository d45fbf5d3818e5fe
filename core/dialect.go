package core

import (
	"context"
	"time"
)

// Dialect teaches the engine one database. Its methods are safe for concurrent use.
//
// The minimum is safe: a dialect that does each thing in the simplest way is slow or makes the relay send duplicates; it
// never makes it lose or reorder. What a dialect can do beyond the minimum is a small interface of its own, which it
// implements or not: [KeyLocker], [Listener], [Notifier], [InboxStore], and for its sessions [ArchiveStore]. A dialect, or a session, that
// wraps another has a method Unwrap() Dialect, or Unwrap() Session, through which the abilities of the inner one are found.
type Dialect interface {
	// Enqueue inserts msgs through tx, the caller's open transaction, with as few statements as the database allows
	// (one, where it has no limit that msgs exceed), and with positions that ascend in argument order. A message whose
	// NotBefore is set goes to the delayed events instead. It must not begin, commit or roll back, must not look at the
	// sql.Result, and must not retry: every error goes back to the caller, whose transaction it is. The messages are
	// valid, their ids are set, and there is at least one; they must not be kept or changed.
	Enqueue(ctx context.Context, tx Execer, msgs []Message) error

	// Retryable reports whether err, from any statement or from COMMIT, means that the database rolled a transaction
	// back for a reason that is gone when it is run again: a serialisation failure or a deadlock. It must report false
	// where the outcome is unknown.
	Retryable(err error) bool

	// Open opens a session: one connection to the database that never reconnects by itself, because what a session
	// has read stops being true when another server answers. After an error the session is closed and a new one opened.
	Open(ctx context.Context) (Session, error)
}

// KeyLocker is implemented by a dialect that can serialise writers of a key which do not already do so by updating the
// same row.
type KeyLocker interface {
	// LockKeys locks the (topic, key) of each message until the end of tx, in an order that is the same for every
	// caller. Messages without a key are passed over.
	LockKeys(ctx context.Context, tx Execer, msgs []Message) error
}

// Session is what a relay and an operator do to the outbox over one connection. It is used by one goroutine at a time.
// No method may leave a transaction open when it returns, nor hold a lock. Each error means that the outcome is unknown,
// and ends the session. Methods that change something are idempotent: they are called again, over another session,
// after an error.
type Session interface {
	Reader
	Writer
	LeaseStore
	OperatorStore

	// Stats counts what the outbox holds, cheaply however much that is.
	Stats(ctx context.Context) (Stats, error)

	// Close releases the connection.
	Close() error
}

// Reader is the part of a session that the relay's reader uses.
type Reader interface {
	// Fetch reads the outbox with one statement, so that everything in its result is of one snapshot.
	Fetch(ctx context.Context, request FetchRequest) (FetchResult, error)

	// ResolveGaps finds out which gaps nobody can fill any more, and sets Dead in those. A transaction that was open
	// when the gap was first passed to ResolveGaps, and could have taken one of its positions, must have ended before
	// Dead is set; where that needs looking twice, Witness carries what the first look saw. Dead must not be set on the
	// strength of age alone. It must not wait for anybody. gaps is changed in place, and not kept.
	ResolveGaps(ctx context.Context, gaps []Gap) error
}

// Writer is the part of a session that settles what became of records.
type Writer interface {
	// Acknowledge removes the records that match both position and id, or moves them to the archive where that is
	// configured, and leaves every other: positions are used again after a restore, ids are not. A record that is
	// already gone is no error; one that is a dead letter by now stays that.
	Acknowledge(ctx context.Context, refs []Ref) error

	// Fail notes failed attempts: where position and id match and the record has Attempts-1 attempts, it gets Attempts,
	// its retry time, by the database's clock, and its cause.
	Fail(ctx context.Context, failures []Failure) error

	// Bury moves records to the dead letters, in one transaction: what matches position and id, and has Attempts-1
	// attempts, is removed and inserted there, and its key is blocked unless Skip is set. What does not match is passed
	// over: a burial that comes late, after an operator's retry, does nothing, unless the record has had as many attempts
	// since. Then it is a dead letter again, as after a refusal, and nothing is lost.
	Bury(ctx context.Context, burials []Burial) error

	// Promote moves delayed events that are due into the outbox, at most limit of them, in (due time, enqueue) order, and
	// bumps the generation, all in one transaction that holds the lease row's lock and ends by itself within a second, or one
	// more where it waits for another's lock. It may move fewer where so many take too long, but one at least. A moved event's
	// EnqueuedAt is its due time. Nothing is moved, and Fenced is set, when the lease's epoch is not epoch.
	Promote(ctx context.Context, epoch int64, limit int) (Promotion, error)
}

// LeaseStore is the part of a session that says which relay owns the outbox.
type LeaseStore interface {
	// ReadLease returns the outbox's lease as it is now.
	ReadLease(ctx context.Context) (Lease, error)

	// TakeLease makes holder the lease's owner for ttl, by the database's clock, with the epoch after seen's, if the
	// lease still is as it was seen: the same epoch, holder and renewals. It reports whether it did. Unclean grows by one
	// where the lease was not released before.
	TakeLease(ctx context.Context, seen Lease, holder string, ttl time.Duration) (bool, error)

	// RenewLease extends the lease by ttl from now, by the database's clock, if holder still owns it in epoch. It
	// reports whether it did. Where progress is set, Unclean becomes 0.
	RenewLease(ctx context.Context, holder string, epoch int64, ttl time.Duration, progress bool) (bool, error)

	// ReleaseLease gives the lease up, if holder still owns it in epoch, so that another relay takes it at once. Unclean
	// becomes 0: a relay that could release its lease was not killed.
	ReleaseLease(ctx context.Context, holder string, epoch int64) error

	// MarkSuspect sets the lease's Suspect, or clears it where suspect is the zero Ref, if holder still owns the lease in
	// epoch. It reports whether it did. The mark stays through takeovers.
	MarkSuspect(ctx context.Context, holder string, epoch int64, suspect Ref) (bool, error)
}

// OperatorStore is the part of a session that operators use. What changes the outbox bumps the generation, in the same
// transaction.
type OperatorStore interface {
	// ListDead returns the dead letters that match filter, ascending by position and id, those after after, at most limit.
	// The id belongs to it: after a restore positions are used again.
	ListDead(ctx context.Context, filter DeadFilter, after Ref, limit int) ([]DeadLetter, error)

	// CountDead counts the dead letters that match filter.
	CountDead(ctx context.Context, filter DeadFilter) (int64, error)

	// RetryDead puts the first limit dead letters that match filter, and whose positions are not taken, back into the outbox, at
	// these positions, without attempts, and unblocks their keys unless another dead letter of the key blocks it. It returns how
	// many. One whose position is taken stays as it is, and counts for nothing: that is another event, and after a restore positions
	// are used again. A filter that asks for dropped ones matches none, here and in DropDead: what was dropped stays so.
	RetryDead(ctx context.Context, filter DeadFilter, limit int) (int, error)

	// DropDead gives the first limit dead letters that match filter up for good: they stay, marked with reason, and
	// match no filter again but one that asks for dropped ones. Their keys are unblocked like RetryDead's.
	DropDead(ctx context.Context, filter DeadFilter, reason string, limit int) (int, error)

	// Unblock lets a key go on without its dead letters, which stay. It reports whether the key was blocked.
	Unblock(ctx context.Context, topic, key string) (bool, error)

	// ListBlocked returns the blocked keys that come after (topic, key) in bytewise order, at most limit. A paused topic is
	// listed with an empty key and position 0.
	ListBlocked(ctx context.Context, afterTopic, afterKey string, limit int) ([]BlockedKey, error)

	// PauseTopic keeps the events of a topic in the outbox: no fetch returns them until ResumeTopic. It reports whether
	// that changed anything.
	PauseTopic(ctx context.Context, topic string) (bool, error)

	// ResumeTopic ends a pause. It reports whether there was one.
	ResumeTopic(ctx context.Context, topic string) (bool, error)
}

// ArchiveStore is implemented by a session of a dialect that can keep delivered events. Which topics' it keeps is the
// dialect's configuration: Acknowledge then moves them to the archive in the transaction that removes them.
type ArchiveStore interface {
	// ListArchived returns the archived events that match filter, ascending by position and id, those after after, at
	// most limit.
	ListArchived(ctx context.Context, filter ArchiveFilter, after Ref, limit int) ([]ArchivedEvent, error)

	// Replay copies the first limit archived events that match filter and come after after, ascending by position and
	// id, into the outbox: with their ids, at new positions, in their old order. The archive keeps them, and keeps them
	// again when they were delivered again. It returns how many, and the last one's name to go on from.
	Replay(ctx context.Context, filter ArchiveFilter, after Ref, limit int) (n int, last Ref, err error)

	// Purge removes archived events that were delivered, and dead letters that were dropped, at least olderThan ago, by
	// the database's clock: at most limit of each, oldest first. It returns how many in all.
	Purge(ctx context.Context, olderThan time.Duration, limit int) (int, error)
}

// Listener is implemented by a dialect that can tell at once of commits in other processes.
type Listener interface {
	// Listen calls wake once it listens, and then after each commit of events in other processes that it learns of, over a
	// connection of its own. It returns when ctx is done, or with an error when the connection failed; the relay then
	// calls it again. It may call wake without need, and may miss commits: polling is the guarantee. wake does not block.
	Listen(ctx context.Context, wake func()) error
}

// Notifier is implemented by a dialect whose Listen learns only of what is announced.
type Notifier interface {
	// Notify announces to the Listen calls of other processes that events were committed, over a connection of its own
	// that it keeps until ctx is done: never in a transaction that enqueues. It announces after each receive from
	// committed, several of them as one, returns when ctx is done, or with an error when the connection failed;
	// [Outbox.Run] then calls it again.
	Notify(ctx context.Context, committed <-chan struct{}) error
}

// FetchRequest says which records to read: those after a position, and those in earlier gaps.
type FetchRequest struct {
	// After is the position behind which the tail begins.
	After int64
	// Gaps are ranges at or before After, ascending and disjoint, whose records are read too.
	Gaps []Range
	// Limit is the most records to return, at least 1.
	Limit int
	// MaxBytes ends the result after the record with which its payloads, keys and headers reach so many bytes.
	MaxBytes int
}

// FetchResult is one snapshot of the outbox.
type FetchResult struct {
	// Records are the requested ones with the lowest positions, ascending, gaps and tail together. It holds every one
	// that is visible in the snapshot, whatever its retry time, except those whose key is blocked.
	Records []Record
	// More reports that Limit or MaxBytes ended the result: there may be further records.
	More bool
	// Generation is the outbox's generation. It changes when records appear or disappear by an operator's action or
	// by promotion.
	Generation int64
	// Incarnation names the server and its start, as far as the database tells. A change means that another server
	// answers, behind a pooler or an address that moved, and that what was read before may not be true of it.
	Incarnation string
}

// Record is a message as it stands in the outbox.
type Record struct {
	// Position is the message's place in the outbox: ascending in enqueue order within a transaction and between
	// transactions that are serialised. Later transactions may become visible earlier.
	Position int64
	// Message has its EnqueuedAt set.
	Message Message
	// Attempts is how many counted attempts to publish the message have failed.
	Attempts int
	// RetryIn is how long, from the fetch on, the message has to wait for its next attempt. Not positive: it is due.
	RetryIn time.Duration
}

// Ref names a record for good: its position and its message's id.
type Ref struct {
	Position int64
	ID       string
}

// Ref returns the record's name.
func (r Record) Ref() Ref { return Ref{Position: r.Position, ID: r.Message.ID} }

// Range is the positions from First to Last, both included.
type Range struct{ First, Last int64 }

// Gap is a range of positions that were handed out, or may have been, and whose records were not visible when later
// ones were: their transactions are still open, or never committed.
type Gap struct {
	Range
	// Witness is the dialect's own note from an earlier look, nil at first. It is kept by the engine and never read.
	Witness any
	// Dead says that nobody can fill the gap any more. What was filled is visible to every later fetch.
	Dead bool
}

// Failure is a failed attempt that counts.
type Failure struct {
	Ref
	// Attempts is the count with this one.
	Attempts int
	// RetryIn is how long the message waits for its next attempt.
	RetryIn time.Duration
	// Cause is the error's text, whatever the broker's client puts into it: it may be long, hold NUL, or be no UTF-8. It is
	// kept as far as the database can, the first KiB at least, and must not be a reason for an error: the failure would never
	// be noted.
	Cause string
}

// Burial is a record's way to the dead letters.
type Burial struct {
	Ref
	// Attempts is the count with the last one.
	Attempts int
	// Cause is the error's text, kept as that of a [Failure] is.
	Cause string
	// Skip lets the key go on without this message; otherwise it is blocked until an operator decides.
	Skip bool
}

// Promotion is what a Promote call did.
type Promotion struct {
	// Moved is how many events became part of the outbox.
	Moved int
	// Fenced says that another relay owns the lease.
	Fenced bool
}

// Lease is the row by which one relay owns an outbox.
type Lease struct {
	// Outbox is the outbox's UUID, made once by the migration.
	Outbox string
	// Holder is the owner's name; empty where the lease was released, or never taken.
	Holder string
	// Epoch counts the owners.
	Epoch int64
	// Renewals changes with each renewal: a lease in which it stands still is not alive, whatever the clocks say.
	Renewals int64
	// Expired says that its time is over by the database's clock, or that nobody holds it.
	Expired bool
	// Unclean counts the latest owners that lost it without having released it or told of progress.
	Unclean int
	// Suspect is the message that was being published alone, by an owner that had reason to fear it; zero where none is.
	Suspect Ref
}

// DeadFilter selects dead letters: those that match every field that is set.
type DeadFilter struct {
	// ID matches the message's id.
	ID string
	// Topic matches the topic.
	Topic string
	// Key matches the key.
	Key string
	// CauseContains matches causes that hold this text, bytewise.
	CauseContains string
	// OlderThan matches what was buried at least so long ago, by the database's clock.
	OlderThan time.Duration
	// Dropped selects what was dropped, instead of what was not.
	Dropped bool
}

// DeadLetter is a message that could not be delivered.
type DeadLetter struct {
	Record
	// Cause is the error of the last attempt.
	Cause string
	// BuriedAt is when it became a dead letter, by the database's clock.
	BuriedAt time.Time
	// DropReason is the operator's, where it was dropped.
	DropReason string
}

// ArchiveFilter selects archived events: those that match every field that is set.
type ArchiveFilter struct {
	// ID matches the message's id.
	ID string
	// Topic matches the topic.
	Topic string
	// Key matches the key.
	Key string
	// From and To match what was enqueued at From or later, and before To, by the database's clock.
	From, To time.Time
}

// ArchivedEvent is an event that was delivered and kept.
type ArchivedEvent struct {
	Record
	// DeliveredAt is when it was acknowledged, by the database's clock.
	DeliveredAt time.Time
}

// BlockedKey is a key that waits for an operator, or, with an empty key, a topic that an operator paused.
type BlockedKey struct {
	Topic, Key string
	// Position is the dead letter's that blocks it.
	Position int64
	// Since is when it was blocked, by the database's clock.
	Since time.Time
}

// Stats is what an outbox holds.
type Stats struct {
	// Pending counts the events that are not delivered.
	Pending Count
	// OldestAge is how long ago the oldest pending event took its place in the outbox, by the database's clock; 0 where
	// there is none.
	OldestAge time.Duration
	// Delayed counts the events that are not due yet.
	Delayed Count
	// Dead counts the dead letters that were not dropped.
	Dead Count
	// BlockedKeys is the number of keys that wait for an operator, paused topics not among them.
	BlockedKeys int64
}

// Count is a number of rows: exact up to 10 000, then perhaps an estimate.
type Count struct {
	N     int64
	Exact bool
}
