package config

import (
	"context"
	"database/sql"

	"github.com/lockstep-go/lockstep/core"
)

// Through returns an address (host:port) that leads to address, by way of something that can do harm to what passes.
type Through func(address string) (string, error)

// ScratchDialect is implemented by a [Dialect] in whose database throw-away outboxes can be made, for `lockstep verify`.
type ScratchDialect interface {
	// Scratch makes an empty outbox whose tables, or file, begin with name, which no other has. It never touches the
	// configured one. Connections of the outbox's dialects and of its DB go through, where it is not nil and there are
	// connections; those that make and remove things do not. After an error nothing is left, or the error says what is.
	Scratch(ctx context.Context, name string, through Through) (*ScratchOutbox, error)
}

// ScratchOutbox is a throw-away outbox. Its Archiving keeps all that is delivered, its Elsewhere is what another process has.
type ScratchOutbox struct {
	Dialect, Archiving, Elsewhere core.Dialect
	// DB is the application's pool, and Table the name of a table that it may create.
	DB    *sql.DB
	Table string
	// ConcurrentWriters says that a transaction that writes does not keep others from writing.
	ConcurrentWriters bool
	// Outage keeps everybody from writing until heal is called. It is nil where an outage is one of connections.
	Outage func() (heal func(), err error)
	// Where names what was made, for who has to remove it by hand.
	Where string
	// Remove closes and removes all of it. It may be called again after an error.
	Remove func(ctx context.Context) error
}

// ScratchBroker is [ScratchDialect] for a broker.
type ScratchBroker interface {
	// ScratchTopic makes an empty topic of that name, and a broker of its own whose connections go through, where it is
	// not nil. After an error nothing is left, or the error says what is.
	ScratchTopic(ctx context.Context, name string, through Through) (*ScratchTopic, error)
}

// ScratchTopic is a throw-away topic.
type ScratchTopic struct {
	Broker core.Broker
	// Elsewhere is a broker as another process has it, with connections of its own that go through as well. Defaults to none.
	Elsewhere core.Broker
	Topic     string
	// Stored returns what the topic holds now, those of one key in the order in which they were stored.
	Stored func(ctx context.Context) ([]core.Message, error)
	// Other makes a second topic for Broker, and returns what is Stored of it. Remove removes it, too, also after an error.
	Other func(ctx context.Context) (topic string, stored func(ctx context.Context) ([]core.Message, error), err error)
	// Poison makes of a message one that is refused for good. Defaults to none.
	Poison func(m core.Message) core.Message
	// Where names what was made, for who has to remove it by hand.
	Where string
	// Remove closes and removes all of it. It may be called again after an error.
	Remove func(ctx context.Context) error
}
