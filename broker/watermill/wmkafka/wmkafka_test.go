package wmkafka

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/IBM/sarama"
	"github.com/ThreeDotsLabs/watermill/message"

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
