package inbox

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"strconv"
	"strings"

	"github.com/lockstep-go/lockstep/core"
)

// The headers of a dead letter that say where it comes from. Its own headers, key, payload and id stay as they were. Where that
// is all that its topic has room for, it has none of these.
const (
	// CauseHeader holds the text of the last error, cut to 1024 bytes, or to 100 where more would not fit.
	CauseHeader = core.ReservedHeaderPrefix + "dead-cause"
	// TopicHeader holds the topic or queue that the message came from.
	TopicHeader = core.ReservedHeaderPrefix + "dead-topic"
	// ConsumerHeader holds the name of the consumer that gave it up.
	ConsumerHeader = core.ReservedHeaderPrefix + "dead-consumer"
	// AttemptsHeader holds how many attempts failed.
	AttemptsHeader = core.ReservedHeaderPrefix + "dead-attempts"
)

const (
	maxCauseBytes   = 1024
	shortCauseBytes = 100
)

// bury publishes m as a dead letter, for as long as it takes. It may be there twice: with the same id.
func (c *Consumer) bury(ctx context.Context, m core.Message, failures int, cause error) error {
	var err error
	for _, dead := range c.deadLetters(m, failures, cause) {
		err = c.store(ctx, m, dead)
		switch {
		case err == nil:
			c.config.Logger.Error("a message became a dead letter", "id", m.ID, "topic", m.Topic, "dead_letter_topic", dead.Topic,
				"failures", failures, "error", cause)
			return nil
		case !errors.Is(err, core.ErrPermanent):
			return fmt.Errorf("bury message %q: %w", m.ID, err)
		}
	}
	return fmt.Errorf("bury message %q (%w): %q refuses it for good, and it stays where it is until somebody helps: %w",
		m.ID, cause, c.config.DeadLetterTopic, err)
}

// deadLetters returns what m becomes, and shorter forms of it, in the order in which they are tried.
func (c *Consumer) deadLetters(m core.Message, failures int, cause error) []core.Message {
	bare := m
	bare.Topic = c.config.DeadLetterTopic
	if textFault(m.ID, core.MaxIDBytes) != "" {
		bare.ID = core.NewID() // the old one is in the cause
	}
	letter := func(causeBytes int) core.Message {
		dead := bare
		dead.Headers = make(map[string]string, len(m.Headers)+4)
		maps.Copy(dead.Headers, m.Headers)
		dead.Headers[CauseHeader] = causeText(cause, causeBytes)
		dead.Headers[TopicHeader] = m.Topic
		dead.Headers[ConsumerHeader] = c.name
		dead.Headers[AttemptsHeader] = strconv.Itoa(failures)
		return dead
	}
	return []core.Message{letter(maxCauseBytes), letter(shortCauseBytes), bare}
}

// store publishes dead, which m became, until it is stored, refused for good, or ctx is done.
func (c *Consumer) store(ctx context.Context, m, dead core.Message) error {
	for tries := 0; ; tries++ {
		err := c.config.DeadLetters.Publish(ctx, []core.Message{dead})
		if err == nil || ctx.Err() != nil || errors.Is(err, core.ErrPermanent) {
			return err
		}
		c.config.Logger.Warn("a dead letter could not be stored, and is tried again", "id", m.ID, "topic", m.Topic,
			"dead_letter_topic", dead.Topic, "error", err)
		if err := pause(ctx, c.delay(tries)); err != nil {
			return err
		}
	}
}

// causeText is an error's text as a header can hold it.
func causeText(err error, limit int) string {
	text := strings.ToValidUTF8(strings.ReplaceAll(err.Error(), "\x00", ""), "?")
	if len(text) > limit {
		text = strings.ToValidUTF8(text[:limit], "")
	}
	return text
}
