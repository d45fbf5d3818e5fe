package core

import (
	"context"
	"errors"
	"fmt"
)

// What a result of [Broker.Publish] can say, by errors.Is. An error that is none of these is an ordinary failure: the
// broker refused this message, and another attempt may succeed. A connection that broke, a call whose time is over, and a
// broker that is away or says nothing have refused no message.
var (
	// ErrPermanent: the message can never be delivered as it is (too large, a topic name that cannot exist). It is
	// buried at once.
	ErrPermanent = errors.New("permanent failure")
	// ErrUnavailable: the broker, or the message's topic, cannot be reached or does not exist now, and the message is
	// not stored. No attempt is counted.
	ErrUnavailable = errors.New("unavailable")
	// ErrUncertain: the message may be stored, or may be stored later. It is sent again, and no attempt is counted, unless it was sent alone and
	// others of its topic were stored between its failures: then no outage explains them.
	ErrUncertain = errors.New("uncertain")
	// ErrNotAttempted: the message was not sent, because an earlier one of the call failed.
	ErrNotAttempted = errors.New("not attempted")
	// ErrFenced: another owner of the outbox has taken over, as the broker knows. The relay gives up its lease.
	ErrFenced = errors.New("fenced")
)

// Broker teaches the engine one message system. Its methods are safe for concurrent use.
//
// Abilities beyond the minimum are interfaces of their own: [KeyOrdered], [KeyHasher], [TermBroker], [Pinger]. A broker that wraps another has
// a method Unwrap() Broker, through which the abilities of the inner one are found.
type Broker interface {
	// Publish sends msgs and returns when the fate of each is known, or ctx is done. A nil error is a promise: the
	// broker has stored every message, as durably as it was configured to. A *[BatchError] gives one result for each
	// message. Any other error, and a *BatchError of another length, means that the fate of all is unknown.
	//
	// The engine passes at least one message; they may be for several topics. At most one message of each (topic, key)
	// is in a call, unless the broker is [KeyOrdered], and no two calls that run at the same time hold messages of the
	// same key, unless an earlier one was given up at the end of its context. This is about the
	// calls of one relay. Relays of one outbox must not share a Broker: one that lost its lease goes on until it notices.
	//
	// Publish must not change msgs or what they refer to. It may go on reading them after it returned with an error: the
	// engine does not use the memory again. After a nil error it is done with them.
	Publish(ctx context.Context, msgs []Message) error
}

// KeyOrdered is implemented by a broker that may be given several messages of one key in a call. It must then store
// them in order, and after a message is not stored, no later one of its key in the call may be: those get
// [ErrNotAttempted].
type KeyOrdered interface {
	KeyOrdered()
}

// KeyHasher is implemented by a broker that stores messages in partitions, each of which takes one request at a time, and
// chooses a message's partition by a hash of its key. The relay then chooses the lane by that hash too, so that the messages
// of a call go to few partitions, and two calls seldom wait for the same one. With as many partitions as lanes, or a multiple
// of that, none do.
type KeyHasher interface {
	// HashKey returns the hash of which the partition is the remainder. It depends on topic and key alone: two calls with the
	// same arguments return the same, whatever happened in between, or the key's messages are published out of order. It is
	// called for messages with a key, from one goroutine, for each of them.
	HashKey(topic, key string) uint32
}

// Pinger is implemented by a broker that can be asked whether it answers. The engine asks while publish calls go without an
// answer: about once a second, one ping at a time. A broker that answered nothing and answers again has most likely lost the
// calls that had begun before, as a host does that was without power or out of reach. Those are ended then, and their messages
// sent again. Without a Pinger, and where the client does not notice that its connections are dead, calls last until PublishTimeout.
type Pinger interface {
	// Ping asks the message system, over a new connection, whether it answers now. It must return nil only when it did,
	// and an error when it could not be reached, or when ctx is done. It must not disturb what is being published at the same time.
	// Once it has returned nil after an error, a call of Publish that begins must not use a connection that was idle before:
	// that may be dead.
	Ping(ctx context.Context) error
}

// TermBroker is implemented by a broker that can shut out an earlier owner of the outbox.
type TermBroker interface {
	// ForTerm returns the broker to use in term, and is called once for each term. After it returned, or after the
	// returned broker first published to a destination, no message that an earlier term's broker has yet to send may
	// be stored there. A broker that was shut out returns [ErrFenced]. Where the message system refuses to shut anybody
	// out, ForTerm may return a broker that does not, if it tells the operator: nothing but duplicates depends on it.
	ForTerm(ctx context.Context, term Term) (Broker, error)
}

// Term is one relay's ownership of an outbox.
type Term struct {
	// Outbox is the outbox's UUID.
	Outbox string
	// Epoch counts the owners.
	Epoch int64
}

// BatchError says what became of each message of a Publish call.
type BatchError struct {
	// Results has one entry for each message of the call, in order: nil where the message is stored.
	Results []error
}

func (e *BatchError) Error() string {
	if e == nil {
		return "publish: a nil *BatchError, which is neither nil nor a result: return a plain nil instead"
	}
	failed, first := 0, error(nil)
	for _, err := range e.Results {
		if err != nil {
			failed++
			if first == nil {
				first = err
			}
		}
	}
	return fmt.Sprintf("publish: %d of %d messages failed, the first with: %v", failed, len(e.Results), first)
}

// Unwrap returns the results that are errors.
func (e *BatchError) Unwrap() []error {
	if e == nil {
		return nil
	}
	var errs []error
	for _, err := range e.Results {
		if err != nil {
			errs = append(errs, err)
		}
	}
	return errs
}
