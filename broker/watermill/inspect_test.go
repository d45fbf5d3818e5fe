package watermill_test

import (
	"errors"
	"strings"
	"testing"
	"testing/synctest"

	wmill "github.com/ThreeDotsLabs/watermill"
	"github.com/ThreeDotsLabs/watermill/components/delay"
	"github.com/ThreeDotsLabs/watermill/components/forwarder"
	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/ThreeDotsLabs/watermill/pubsub/gochannel"

	"github.com/lockstep-go/lockstep/broker/watermill"
	"github.com/lockstep-go/lockstep/core"
)

// wrapper is somebody's own decorator.
type wrapper struct {
	inner message.Publisher
	other *wrapper
}

func (w wrapper) Publish(topic string, msgs ...*message.Message) error {
	return w.inner.Publish(topic, msgs...)
}

func (w wrapper) Close() error { return w.inner.Close() }

func newChannel(config gochannel.Config) *gochannel.GoChannel {
	return gochannel.NewGoChannel(config, wmill.NopLogger{})
}

// refused checks that publisher is refused, with the sentences and with no others.
func refused(t *testing.T, publisher message.Publisher, sentences ...string) {
	t.Helper()
	broker, err := watermill.New(publisher)
	if err == nil || broker != nil {
		t.Fatalf("New: got a broker and %v, want it to refuse the publisher", err)
	}
	for _, want := range sentences {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("New: got %q, want it to say %q", err, want)
		}
	}
	if lines := strings.Count(err.Error(), "\n") + 1; lines != len(sentences) {
		t.Errorf("New: %d faults in %q, want %d", lines, err, len(sentences))
	}
}

const wantBlocking = "without it Publish returns before anybody has the message: set Config.BlockPublishUntilSubscriberAck"

func TestAGoChannelThatWaitsForNobodyIsRefused(t *testing.T) {
	for _, config := range []gochannel.Config{{}, {Persistent: true}, {OutputChannelBuffer: 100}} {
		refused(t, newChannel(config), wantBlocking)
	}
}

// Why: here nil is said of a message that nobody ever gets.
func TestAGoChannelThatWaitsForNobodyLoses(t *testing.T) {
	channel := newChannel(gochannel.Config{})
	received, err := channel.Subscribe(t.Context(), "orders")
	if err != nil {
		t.Fatal(err)
	}
	if err := channel.Publish("orders", message.NewMessage("a", nil)); err != nil {
		t.Errorf("Publish: got %v: refuse it no longer", err)
	}
	channel.Close()
	if m, ok := <-received; ok {
		t.Errorf("the subscriber got %s: refuse it no longer", m.UUID)
	}
}

func TestAClosedGoChannelIsRefused(t *testing.T) {
	channel := newChannel(gochannel.Config{BlockPublishUntilSubscriberAck: true})
	channel.Close()
	refused(t, channel, "gochannel: it is closed: close it after the relay has ended")
	channel = newChannel(gochannel.Config{})
	channel.Close()
	refused(t, channel, wantBlocking, "it is closed")
}

// Close ends the wait for a subscriber, and the channel's Publish then returns nil.
func TestAGoChannelThatIsClosedMeanwhileHasStoredNothing(t *testing.T) {
	for name, wrap := range wraps(t) {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				channel := newChannel(gochannel.Config{BlockPublishUntilSubscriberAck: true})
				if _, err := channel.Subscribe(t.Context(), "orders"); err != nil {
					t.Fatal(err)
				}
				broker := open(t, wrap(channel))
				published := make(chan error, 1)
				go func() { published <- broker.Publish(t.Context(), []core.Message{{ID: "a", Topic: "orders"}}) }()
				synctest.Wait() // for the subscriber, who does not acknowledge
				channel.Close()
				if err := <-published; !errors.Is(err, core.ErrUncertain) || !strings.Contains(err.Error(), "was closed") {
					t.Errorf("Publish: got %v, want an uncertain message", err)
				}
			})
		})
	}
}

// wraps are ways to have a channel inside of another publisher, to the same topic.
func wraps(t *testing.T) map[string]func(message.Publisher) message.Publisher {
	transformed := message.MessageTransformPublisherDecorator(func(*message.Message) {})
	return map[string]func(message.Publisher) message.Publisher{
		"bare":        func(p message.Publisher) message.Publisher { return p },
		"own value":   func(p message.Publisher) message.Publisher { return wrapper{inner: p} },
		"own pointer": func(p message.Publisher) message.Publisher { return &wrapper{inner: wrapper{inner: p}} },
		"transform": func(p message.Publisher) message.Publisher {
			out, err := transformed(p)
			if err != nil {
				t.Fatal(err)
			}
			return out
		},
		"delay": func(p message.Publisher) message.Publisher {
			out, err := delay.NewPublisher(p, delay.PublisherConfig{AllowNoDelay: true})
			if err != nil {
				t.Fatal(err)
			}
			return out
		},
		"forwarder": func(p message.Publisher) message.Publisher {
			return forwarder.NewPublisher(p, forwarder.PublisherConfig{ForwarderTopic: "orders"})
		},
	}
}

func TestPublishersAreFoundInsideOfOthers(t *testing.T) {
	for name, wrap := range wraps(t) {
		t.Run(name, func(t *testing.T) {
			refused(t, wrap(newChannel(gochannel.Config{})), wantBlocking)
			open(t, wrap(newChannel(gochannel.Config{BlockPublishUntilSubscriberAck: true})))
		})
	}
}

func TestARingOfPublishersHasAnEnd(t *testing.T) {
	ring := &wrapper{inner: newChannel(gochannel.Config{})}
	ring.other = &wrapper{other: ring, inner: ring}
	refused(t, ring, wantBlocking)
}

func TestNoPublisherIsRefused(t *testing.T) {
	refused(t, nil, "the publisher is nil")
	refused(t, (*gochannel.GoChannel)(nil), "the publisher is nil")
}

// What cannot be looked into is accepted, and the documentation says so: here a function stands between.
func TestAnOpaquePublisherIsAccepted(t *testing.T) {
	channel := newChannel(gochannel.Config{})
	defer channel.Close()
	open(t, publisherFunc(func(topic string, m *message.Message) error { return channel.Publish(topic, m) }))
}

// The limit that the documentation names. Should it fall, the documentation has to say something better.
func TestAGoChannelWithoutASubscriberKeepsNothing(t *testing.T) {
	channel := newChannel(gochannel.Config{BlockPublishUntilSubscriberAck: true})
	defer channel.Close()
	if err := open(t, channel).Publish(t.Context(), []core.Message{{ID: "a", Topic: "orders"}}); err != nil {
		t.Errorf("Publish: got %v, where it used to be nil", err)
	}
}
