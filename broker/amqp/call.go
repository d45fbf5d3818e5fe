package amqp

import (
	"context"
	"errors"
	"fmt"

	amqp091 "github.com/rabbitmq/amqp091-go"

	"github.com/lockstep-go/lockstep/core"
)

// call is one Publish call.
type call struct {
	broker      *Broker
	msgs        []core.Message
	keyed       bool // several messages of a key may be in msgs
	results     []error
	states      []state
	session     *session
	stopKilling func() bool // false once the session is being ended
	// away holds the topics that were found to be away. They are not tried again in this call.
	away      map[string]error
	stopped   error // why nothing more is sent
	attempted bool  // something was sent
}

// state is how far a message has come.
type state uint8

const (
	waiting state = iota
	sent          // and not heard of: it may be stored
	settled       // its result stands
)

// run sends what can be sent and gives each message its result.
func (c *call) run(ctx context.Context) error {
	var batch []int
	for i := range c.msgs {
		if fault := c.broker.fault(&c.msgs[i]); fault != nil {
			c.settle(i, failure(core.ErrPermanent, c.doing(i), fault))
			continue
		}
		batch = append(batch, i)
	}
	c.deliver(ctx, batch)
	if c.keyed {
		c.repeatWhatOvertook()
	}
	for _, err := range c.results {
		if err != nil {
			return &core.BatchError{Results: c.results}
		}
	}
	return nil
}

// deliver sends batch and waits for its confirms. Where RabbitMQ closes the channel over a message, which it does not
// name, what is unconfirmed is sent again in halves, until that message is alone.
func (c *call) deliver(ctx context.Context, batch []int) {
	batch = c.sendable(batch)
	if len(batch) == 0 {
		return
	}
	if err := c.open(ctx); err != nil {
		c.stop(batch, err)
		return
	}
	if framed := c.framed(batch); len(framed) < len(batch) {
		c.deliver(ctx, framed) // without what is behind a refused message of its key
		return
	}
	exception, err := c.send(ctx, batch)
	if err != nil {
		c.stop(batch, err)
		return
	}
	var rest []int
	for _, i := range batch {
		if c.states[i] != settled {
			rest = append(rest, i)
		}
	}
	switch half := len(rest) / 2; {
	case len(rest) == 1 && c.states[rest[0]] == sent:
		c.refuse(rest[0], exception)
	case len(rest) == 1:
		c.stop(rest, exception) // over what, nobody knows
	case half > 0:
		c.deliver(ctx, rest[:half])
		c.deliver(ctx, rest[half:])
	}
}

// framed returns the messages of batch whose headers fit into the server's frames, where an operator made these smaller than
// they usually are; the others are refused.
func (c *call) framed(batch []int) []int {
	frame := c.session.conn.Config.FrameSize
	if frame == 0 || frame >= usualFrame {
		return batch
	}
	fit := batch[:0:0]
	for _, i := range batch {
		if err := c.broker.unframed(&c.msgs[i], frame); err != nil {
			c.settle(i, failure(core.ErrPermanent, c.doing(i), err))
			continue
		}
		fit = append(fit, i)
	}
	return fit
}

// sendable returns the messages of batch that nothing keeps back; the others get their results.
func (c *call) sendable(batch []int) []int {
	if c.stopped != nil {
		c.stop(batch, c.stopped)
		return nil
	}
	if len(c.away) == 0 && !c.keyed {
		return batch
	}
	held := c.held()
	free := batch[:0:0]
	for _, i := range batch {
		m := &c.msgs[i]
		switch err := c.away[m.Topic]; {
		case err != nil:
			c.settle(i, err)
			held.add(m)
		case held[keyOf(m)]:
			c.settle(i, fmt.Errorf("%w: amqp: an earlier message of the key failed", core.ErrNotAttempted))
		default:
			free = append(free, i)
		}
	}
	return free
}

// open makes the session and its channel ready. From then on the end of ctx ends the session, and whatever amqp091 waits
// for on it.
func (c *call) open(ctx context.Context) error {
	if c.session == nil {
		s, err := c.broker.take(ctx)
		if err != nil {
			return err
		}
		c.session, c.stopKilling = s, context.AfterFunc(ctx, s.kill)
	}
	if c.session.channel != nil {
		return nil
	}
	err := c.session.openChannel()
	if err != nil && ctx.Err() != nil {
		return context.Cause(ctx)
	}
	return err
}

// refuse settles the message over which RabbitMQ closed a channel.
func (c *call) refuse(i int, exception *amqp091.Error) {
	v := verdictOf(exception)
	err := failure(v.class(), c.doing(i), exception)
	c.settle(i, err)
	if v == away {
		if c.away == nil {
			c.away = map[string]error{}
		}
		c.away[c.msgs[i].Topic] = err
	}
}

// stop ends the call: what was sent and not confirmed may be stored; the rest was not sent.
func (c *call) stop(batch []int, err error) {
	c.stopped = err
	for _, i := range batch {
		switch {
		case c.states[i] == sent:
			c.settle(i, failure(core.ErrUncertain, c.doing(i), err))
		case c.states[i] == waiting && errors.Is(err, core.ErrUnavailable):
			c.settle(i, err)
		case c.states[i] == waiting && c.attempted && !errors.Is(err, errBlocked):
			c.settle(i, failure(core.ErrNotAttempted, c.doing(i), err))
		case c.states[i] == waiting:
			c.settle(i, failure(core.ErrUnavailable, c.doing(i), err))
		}
	}
}

// end gives the session back. One of which not everything is known is not used again: what it still does could be
// taken for an answer to the next call.
func (c *call) end() {
	switch s := c.session; {
	case s == nil:
	case c.stopKilling() && c.stopped == nil:
		c.broker.keep(s)
	case s.isBlocked():
		s.retire()
	default:
		s.kill()
	}
}

func (c *call) settle(i int, err error) {
	c.states[i], c.results[i] = settled, err
}

func (c *call) doing(i int) string {
	m := &c.msgs[i]
	return fmt.Sprintf("publish to exchange %q with routing key %q", exchange(m.Topic), routingKey(m))
}

// topicKey is what messages are ordered by.
type topicKey struct{ topic, key string }

type keySet map[topicKey]bool

func keyOf(m *core.Message) topicKey { return topicKey{m.Topic, m.Key} }

func (s keySet) add(m *core.Message) {
	if m.Key != "" {
		s[keyOf(m)] = true
	}
}

// held returns the keys of which a message has failed.
func (c *call) held() keySet {
	held := keySet{}
	for i, err := range c.results {
		if err != nil {
			held.add(&c.msgs[i])
		}
	}
	return held
}

// repeatWhatOvertook takes back the confirms of messages that are stored although an earlier one of their key is not, so
// that they are sent again behind it.
func (c *call) repeatWhatOvertook() {
	held := keySet{}
	for i := range c.msgs {
		m := &c.msgs[i]
		if c.results[i] == nil && held[keyOf(m)] {
			c.results[i] = fmt.Errorf("%w: amqp: stored before an earlier message of its key, which failed: it is sent again", core.ErrNotAttempted)
		} else if c.results[i] != nil {
			held.add(m)
		}
	}
}
