package wmkafka

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"syscall"
	"testing"

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

// What is not known to be the cluster's fault, or the message's, may be stored: there is no other class for it.
func TestClasses(t *testing.T) {
	t.Parallel()
	strange := &tls.CertificateVerificationError{Err: x509.UnknownAuthorityError{}}
	dial := &net.OpError{Op: "dial", Net: "tcp", Err: syscall.ECONNREFUSED}
	for _, test := range []struct {
		err  error
		want error
	}{
		{sarama.ErrOutOfBrokers, core.ErrUnavailable},
		{sarama.ErrNotConnected, core.ErrUnavailable},
		{breaker.ErrBreakerOpen, core.ErrUnavailable},
		{dial, core.ErrUnavailable},
		{errors.Join(sarama.ErrOutOfBrokers, dial), core.ErrUnavailable},
		{strange, core.ErrUnavailable},
		{sarama.ErrInvalidTopic, core.ErrPermanent},
		{sarama.ConfigurationError("attempt to produce message larger than configured Producer.MaxMessageBytes: 2 > 1"), core.ErrPermanent},
		{sarama.ConfigurationError("something else"), nil},
		{sarama.ErrMessageSizeTooLarge, nil}, // of another message in the batch, perhaps
		{&net.OpError{Op: "read", Net: "tcp", Err: syscall.ECONNRESET}, nil},
		{&net.OpError{Op: "write", Net: "tcp", Err: syscall.EPIPE}, nil},
		{sarama.ErrClosedClient, nil},
		{errors.New("anything"), nil},
	} {
		err := fmt.Errorf("cannot produce message 1: %w", test.err)
		if got := classOf(err); got != test.want { //nolint:errorlint // the very one
			t.Errorf("%v: got %v, want %v", err, got, test.want)
		}
	}
}

// Of all of Kafka's codes, these and no others say that the message is not stored and not to blame.
func TestClassesOfKafkasCodes(t *testing.T) {
	t.Parallel()
	blameless := map[sarama.KError]bool{3: true, 5: true, 6: true, 9: true, 19: true, 29: true, 31: true, 56: true, 58: true, 72: true, 74: true, 75: true}
	const invalidTopic, beyondTheLast = 17, 150
	for code := sarama.KError(-1); code < beyondTheLast; code++ {
		var want error
		switch {
		case blameless[code]:
			want = core.ErrUnavailable
		case code == invalidTopic:
			want = core.ErrPermanent
		}
		if got := classOf(code); got != want { //nolint:errorlint // the very one
			t.Errorf("code %d (%v): got %v, want %v", code, code, got, want)
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
