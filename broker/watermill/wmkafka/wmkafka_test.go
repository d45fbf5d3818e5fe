package wmkafka

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/IBM/sarama"
	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/eapache/go-resiliency/breaker"

	"github.com/lockstep-go/lockstep/core"
)

// fakePublisher answers one call after the other. That sarama finds a connection that another goroutine is about to open is
// a matter of microseconds (1 of 100 runs of the suite's large-batch, with four runs at a time).
type fakePublisher struct {
	message.Publisher
	answers []error
	calls   int
}

func (f *fakePublisher) Publish(string, ...*message.Message) error {
	f.calls++
	return f.answers[f.calls-1]
}

// What was not sent because the connection was just being opened is sent at once: the message is not to blame, and nor is
// the cluster.
func TestAConnectionThatIsBeingOpenedIsWaitedFor(t *testing.T) {
	opening := fmt.Errorf("cannot produce message 1: %w", sarama.ErrNotConnected)
	refused := errors.New("refused")
	for name, test := range map[string]struct {
		answers  []error
		messages int
		want     error
		calls    int
	}{
		"opened in between":                  {[]error{opening, nil}, 1, nil, 2},
		"not opened":                         {[]error{opening, opening}, 1, core.ErrUnavailable, 2},
		"refused once it is open":            {[]error{opening, refused}, 1, refused, 2},
		"the first of several may be stored": {[]error{opening}, 2, core.ErrUnavailable, 1},
		"refused":                            {[]error{refused}, 1, refused, 1},
	} {
		t.Run(name, func(t *testing.T) {
			fake := &fakePublisher{answers: test.answers}
			err := WithClasses(fake).Publish("t", make([]*message.Message, test.messages)...)
			if !errors.Is(err, test.want) || fake.calls != test.calls {
				t.Errorf("got %v after %d calls, want %v after %d", err, fake.calls, test.want, test.calls)
			}
		})
	}
}

// batching is a fake that answers as sarama does: calls of the same moment are one batch, and where one of its messages is
// too large, all of them are. A real one does so by chance.
type batching struct {
	message.Publisher
	mu    sync.Mutex
	large *bool // whether one of the batch that is gathered is; nil while none is
}

func (b *batching) Publish(_ string, messages ...*message.Message) error {
	b.mu.Lock()
	if b.large == nil {
		b.large = new(bool)
	}
	large := b.large
	*large = *large || len(messages[0].Payload) > 1
	b.mu.Unlock()
	time.Sleep(10 * time.Millisecond) // the moment: whoever comes in it shares the answer
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.large == large {
		b.large = nil
	}
	if *large {
		return fmt.Errorf("cannot produce message: %w", sarama.ErrMessageSizeTooLarge)
	}
	return nil
}

func TestOneMessageThatDoesNotSuitIsRefusedByItself(t *testing.T) {
	publisher := WithClasses(&batching{})
	var calls sync.WaitGroup
	for i := range 6 {
		calls.Go(func() {
			m := message.NewMessage(fmt.Sprint(i), []byte("x"))
			if i == 0 {
				m.Payload = []byte("too large")
			}
			err := publisher.Publish("t", m)
			if i == 0 && !errors.Is(err, core.ErrPermanent) {
				t.Errorf("the one that is too large: got %v, want %v", err, core.ErrPermanent)
			}
			if i > 0 && err != nil {
				t.Errorf("one beside it: got %v, want it to be stored", err)
			}
		})
	}
	calls.Wait()
}

// A call whose time is over sends nothing any more.
func TestNothingIsSentByItselfAfterTheCallsTime(t *testing.T) {
	refused := fmt.Errorf("cannot produce message 1: %w", sarama.ErrMessageSizeTooLarge)
	fake := &fakePublisher{answers: []error{refused}}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	m := message.NewMessage("1", nil)
	m.SetContext(ctx)
	if err := WithClasses(fake).Publish("t", m); core.ClassOf(err) != "uncertain" || fake.calls != 1 {
		t.Errorf("got %v after %d calls, want it to be uncertain after one", err, fake.calls)
	}
}

// What is not known to be the cluster's fault, or the message's, may be stored: there is no other class for it.
func TestClasses(t *testing.T) {
	t.Parallel()
	strange := &tls.CertificateVerificationError{Err: x509.UnknownAuthorityError{}}
	dial := &net.OpError{Op: "dial", Net: "tcp", Err: syscall.ECONNREFUSED}
	for _, test := range []struct {
		err   error
		alone bool
		want  error
	}{
		{sarama.ErrOutOfBrokers, false, core.ErrUnavailable},
		{sarama.ErrNotConnected, false, core.ErrUnavailable},
		{breaker.ErrBreakerOpen, false, core.ErrUnavailable},
		{dial, false, core.ErrUnavailable},
		{errors.Join(sarama.ErrOutOfBrokers, dial), false, core.ErrUnavailable},
		{strange, false, core.ErrUnavailable},
		{sarama.ErrInvalidTopic, false, core.ErrPermanent},
		{sarama.ConfigurationError("attempt to produce message larger than configured Producer.MaxMessageBytes: 2 > 1"), false, core.ErrPermanent},
		{sarama.ConfigurationError("something else"), false, nil},
		{sarama.ErrMessageSizeTooLarge, false, nil}, // of another message in the batch, perhaps
		{sarama.ErrMessageSizeTooLarge, true, core.ErrPermanent},
		{&net.OpError{Op: "read", Net: "tcp", Err: syscall.ECONNRESET}, false, nil},
		{&net.OpError{Op: "write", Net: "tcp", Err: syscall.EPIPE}, false, nil},
		{sarama.ErrClosedClient, false, nil},
		{errors.New("anything"), false, nil},
	} {
		err := fmt.Errorf("cannot produce message 1: %w", test.err)
		if got := classOf(err, test.alone); got != test.want { //nolint:errorlint // the very one
			t.Errorf("%v: got %v, want %v", err, got, test.want)
		}
	}
}

// Of all of Kafka's codes, these and no others say that the message is not stored and not to blame, and these that it is.
func TestClassesOfKafkasCodes(t *testing.T) {
	t.Parallel()
	blameless := map[sarama.KError]bool{3: true, 5: true, 6: true, 9: true, 19: true, 29: true, 31: true, 56: true, 58: true, 72: true, 74: true, 75: true}
	refused := map[sarama.KError]bool{10: true, 18: true, 87: true} // where the message was alone in its batch
	const invalidTopic, beyondTheLast = 17, 150
	for code := sarama.KError(-1); code < beyondTheLast; code++ {
		for _, alone := range []bool{false, true} {
			var want error
			switch {
			case blameless[code]:
				want = core.ErrUnavailable
			case code == invalidTopic, alone && refused[code]:
				want = core.ErrPermanent
			}
			if got := classOf(code, alone); got != want { //nolint:errorlint // the very one
				t.Errorf("code %d (%v), alone %v: got %v, want %v", code, code, alone, got, want)
			}
		}
	}
}

// The settings with which nil means stored, and nothing that core takes is too large.
func TestPublisherConfig(t *testing.T) {
	t.Parallel()
	c := PublisherConfig([]string{"127.0.0.1:1"})
	producer := c.OverwriteSaramaConfig.Producer
	if producer.RequiredAcks != sarama.WaitForAll {
		t.Errorf("acks: got %d, want those of all replicas", producer.RequiredAcks)
	}
	if largest := core.MaxPayloadBytes + core.MaxHeadersBytes; producer.MaxMessageBytes < largest {
		t.Errorf("messages end at %d bytes, and core takes %d", producer.MaxMessageBytes, largest)
	}
	if producer.Retry.Max != 0 {
		t.Errorf("sarama sends again %d times, and the relay waits for it", producer.Retry.Max)
	}
	if err := c.Validate(); err != nil {
		t.Error(err)
	}
}
