package wmkafka

import (
	"errors"
	"fmt"
	"testing"

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
