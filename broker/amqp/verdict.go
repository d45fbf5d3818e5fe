package amqp

import (
	"context"
	"errors"
	"fmt"
	"strings"

	amqp091 "github.com/rabbitmq/amqp091-go"

	"github.com/lockstep-go/lockstep/core"
)

// verdict is what RabbitMQ's answer means for the message that it is about.
type verdict int

const (
	// uncertain: it may be stored. What is not known to be something else is this.
	uncertain verdict = iota
	// unroutable: it was returned, and no queue has it. Nothing tells whether a queue is missing that will be bound again
	// or the routing key is wrong; the engine finds out, as it does for what is uncertain (decision 0012).
	unroutable
	// unavailable: it is not stored, and it is not its fault.
	unavailable
	// away: its exchange does not exist, or the user may not write to it. That is so for every message of the topic.
	away
	// unsuited: it is not stored because of what is in it, and never can be.
	unsuited
	// forbidden: the user may not write to this exchange with this routing key.
	forbidden
)

// verdicts has every reply code of AMQP 0-9-1.
var verdicts = map[int]verdict{
	amqp091.ContentTooLarge:    unsuited,
	amqp091.NoRoute:            unroutable,
	amqp091.NoConsumers:        unroutable,
	amqp091.ConnectionForced:   uncertain,
	amqp091.InvalidPath:        unavailable,
	amqp091.AccessRefused:      away,
	amqp091.NotFound:           away,
	amqp091.ResourceLocked:     unavailable,
	amqp091.PreconditionFailed: unsuited,
	amqp091.FrameError:         uncertain,
	amqp091.SyntaxError:        uncertain,
	amqp091.CommandInvalid:     uncertain,
	amqp091.ChannelError:       uncertain,
	amqp091.UnexpectedFrame:    uncertain,
	amqp091.ResourceError:      unavailable,
	amqp091.NotAllowed:         unavailable,
	amqp091.NotImplemented:     uncertain,
	amqp091.InternalError:      uncertain,
}

// cures says what an operator can do about a reply code.
var cures = map[int]string{
	amqp091.ContentTooLarge:    "store the payload elsewhere and send a reference",
	amqp091.NoRoute:            "bind a queue for the routing key, or give the exchange an alternate exchange",
	amqp091.AccessRefused:      "correct the relay's user or password, or grant the user write on the exchange",
	amqp091.NotFound:           "declare the exchange",
	amqp091.NotAllowed:         "create the virtual host, or grant the relay's user access to it",
	amqp091.PreconditionFailed: "if it is too large, raise max_message_size, or store the payload elsewhere and send a reference",
}

// verdictOf judges the exception with which RabbitMQ closed a channel over one message.
func verdictOf(e *amqp091.Error) verdict {
	if !e.Server {
		return uncertain // amqp091's own word for a broken connection
	}
	if e.Code == amqp091.AccessRefused && strings.Contains(e.Reason, "access to topic ") {
		return forbidden // RabbitMQ's topic authorisation, which is about the routing key
	}
	return verdicts[e.Code]
}

// class returns the class of the result, nil for an ordinary refusal.
func (v verdict) class() error {
	switch v {
	case unavailable, away:
		return core.ErrUnavailable
	case unsuited:
		return core.ErrPermanent
	case forbidden:
		return nil
	default:
		return core.ErrUncertain
	}
}

// failure makes a result. A context's error, or one that passes for it as network time-outs do, is told but cannot be
// found with errors.Is: by that it would say that the message may be stored.
func failure(class error, doing string, cause error) error {
	var reply *amqp091.Error
	cure := ""
	if errors.As(cause, &reply) && cures[reply.Code] != "" {
		cure = ": " + cures[reply.Code]
	}
	hidden := errors.Is(cause, context.DeadlineExceeded) || errors.Is(cause, context.Canceled)
	switch {
	case class == nil:
		return fmt.Errorf("amqp: %s: %w%s", doing, cause, cure)
	case hidden && !errors.Is(class, core.ErrUncertain):
		return fmt.Errorf("%w: amqp: %s: %v%s", class, doing, cause, cure)
	}
	return fmt.Errorf("%w: amqp: %s: %w%s", class, doing, cause, cure)
}
