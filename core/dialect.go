package core

import (
	"context"
	"time"
)

// Dialect teaches the engine one database. Its methods are safe for concurrent use.
type Dialect interface {
	// Enqueue inserts msgs through tx, the caller's open transaction, with one statement and with positions that
	// ascend in argument order. It must not begin, commit or roll back, must not look at the sql.Result, and must not
	// retry: every error goes back to the caller, whose transaction it is. The messages are valid, their ids are set,
	// and there is at least one; they must not be kept or changed.
	Enqueue(ctx context.Context, tx Execer, msgs []Message) error

	// Open opens a session: one connection to the database that never reconnects by itself, because what a session
	// has read stops being true when another server answers. After an error the session is closed and a new one opened.
	Open(ctx context.Context) (Session, error)
}

// Session is what a relay does to the outbox over one connection. It is used by one goroutine at a time. No method
// may leave a transaction open when it returns.
type Session interface {
	// Fetch returns the records with the lowest positions, ascending, at most limit, read by one statement. It
	// returns every committed record, however late it committed: a position below one that was fetched earlier is
	// returned like any other.
	Fetch(ctx context.Context, limit int) ([]Record, error)

	// Acknowledge removes the records that match both position and id, and leaves every other: positions are used
	// again after a restore, ids are not. It is idempotent; a record that is already gone is no error. After an error
	// some, all or none are gone.
	Acknowledge(ctx context.Context, refs []Ref) error

	// Close releases the connection.
	Close() error
}

// Record is a message as it stands in the outbox.
type Record struct {
	// Position is the message's place in the outbox: ascending in enqueue order within a transaction and between
	// transactions that are serialised. Later transactions may become visible earlier.
	Position int64
	Message  Message
	// CreatedAt is when the message was enqueued, by the database's clock.
	CreatedAt time.Time
}

// Ref names a record for good: its position and its message's id.
type Ref struct {
	Position int64
	ID       string
}

// Ref returns the record's name.
func (r Record) Ref() Ref { return Ref{Position: r.Position, ID: r.Message.ID} }
