package amqp_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"sync/atomic"
	"testing"

	"github.com/lockstep-go/lockstep/broker/amqp"
	"github.com/lockstep-go/lockstep/core"
	"github.com/lockstep-go/lockstep/internal/servers"
)

// window is how many messages may be on their way without a confirm (RULES 41).
const window = 1000

// A broker that stores and does not confirm is sent a window of messages, and no more: what a lost connection leaves
// uncertain stays bounded, however large the call is.
func TestNoMoreThanAWindowIsUnconfirmed(t *testing.T) {
	t.Parallel()
	address := servers.RabbitMQ(t)
	to := newTopology(t, address, queue{kind: "classic"})
	proxy, through := throughProxy(t, address)
	broker := open(t, amqp.Config{URLs: []string{through}})
	expectClass(t, "before", publish(t, broker, []core.Message{{ID: "before", Topic: to.exchange}})[0], nil)
	proxy.Swallow()
	defer proxy.Deliver()
	ctx, cancel := context.WithTimeout(t.Context(), longEnough)
	defer cancel()
	arrived := make(chan error, 1)
	go func() {
		arrived <- consume(t, address, to.exchange).take(ctx, 1+window)
		cancel()
	}()
	const count = 3 * window
	results := resultsOf(t, broker.Publish(ctx, numbered(to.exchange, count)), count)
	if err := <-arrived; err != nil {
		t.Fatal(err)
	}
	for i, err := range results {
		if i < window {
			expectClass(t, fmt.Sprint("message ", i, " of the window"), err, core.ErrUncertain)
		} else {
			expectClass(t, fmt.Sprint("message ", i, ", behind the window"), err, core.ErrNotAttempted)
		}
	}
}

// watched is a connection that does something once it has written what holds a text; an error of it is the write's.
type watched struct {
	net.Conn
	about []byte
	do    func() error
}

func (w *watched) Write(p []byte) (int, error) {
	n, err := w.Conn.Write(p)
	if err == nil && bytes.Contains(p, w.about) {
		err = w.do()
	}
	return n, err
}

// A write that fails may have taken the message along: that is no "not sent".
func TestAFailedWriteIsUncertain(t *testing.T) {
	t.Parallel()
	address := servers.RabbitMQ(t)
	for name, size := range map[string]int{"among others": 10, "on its own": 80_000, "in several frames": 300_000} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			to := newTopology(t, address, queue{kind: "classic"})
			broker := open(t, amqp.Config{URLs: []string{address}})
			var lied atomic.Bool
			broker.Wrap(func(c net.Conn) net.Conn { // a fake of a connection that ends behind what the system has taken
				return &watched{c, []byte("the last words"), func() error {
					lied.Store(true)
					return errors.New("a write that failed, or so it says")
				}}
			})
			msgs := numbered(to.exchange, 200)
			const guilty = 150
			msgs[guilty].Payload = append(make([]byte, size), "the last words"...)
			stored := map[string]bool{}
			for i, err := range publish(t, broker, msgs) {
				switch {
				case err == nil: // perhaps the guilty one as well: it arrived, and its confirm may come before the end
					stored[msgs[i].ID] = true
				case i == guilty:
					expectClass(t, msgs[i].ID, err, core.ErrUncertain)
				case !errors.Is(err, core.ErrUncertain) && !errors.Is(err, core.ErrNotAttempted):
					t.Errorf("message %d: %v", i, err)
				}
			}
			if !lied.Load() {
				t.Error("nothing of the message was written: the test tests nothing")
			}
			expectStored(t, consume(t, address, to.exchange), stored)
		})
	}
}

// A connection whose broker did not answer in time is not used again: what it still has to say would take the place of
// the returns of the next call, and a message that was dropped is confirmed like any other (RULES 40).
func TestAConnectionThatWasGivenUpIsNotUsedAgain(t *testing.T) {
	t.Parallel()
	address := servers.RabbitMQ(t)
	to := newTopology(t, address, queue{kind: "classic", bindingKey: "bound"})
	proxy, through := throughProxy(t, address)
	broker := open(t, amqp.Config{URLs: []string{through}})
	written := make(chan struct{}, 1)
	broker.Wrap(func(c net.Conn) net.Conn {
		return &watched{c, []byte("the last words"), func() error { written <- struct{}{}; return nil }}
	})
	bound := []core.Message{{ID: "bound", Topic: to.exchange, Key: "bound"}}
	expectClass(t, "before", publish(t, broker, bound)[0], nil)

	proxy.Freeze()
	defer proxy.Thaw()
	msgs := numbered(to.exchange, window)
	msgs[window-1].Payload = []byte("the last words")
	go func() {
		<-written
		broker.Alarm(true) // a fake: a real one comes at no certain moment
	}()
	for i, err := range publish(t, broker, msgs) {
		expectClass(t, fmt.Sprint("message ", i, ", without an answer"), err, core.ErrUncertain)
	}
	expectClass(t, "under the alarm", publish(t, broker, bound)[0], core.ErrUnavailable)

	proxy.Thaw()
	broker.Alarm(false)
	for i, err := range publish(t, broker, numbered(to.exchange, window+100)[window:]) { // with IDs of their own
		expectClass(t, fmt.Sprint("message ", i, ", returned"), err, core.ErrUncertain)
	}
	expectClass(t, "after it", publish(t, broker, bound)[0], nil)
}

// An alarm in the middle of a call: what is not sent by then is not sent, and waits for no fault of its own (RULES 44).
func TestAnAlarmStopsACall(t *testing.T) {
	t.Parallel()
	address := servers.RabbitMQ(t)
	to := newTopology(t, address, queue{kind: "classic"})
	broker := open(t, amqp.Config{URLs: []string{address}})
	broker.Wrap(func(c net.Conn) net.Conn {
		return &watched{c, []byte("the last words"), func() error { broker.Alarm(true); return nil }} // a fake, as above
	})
	msgs := numbered(to.exchange, window)
	for i := range msgs {
		msgs[i].Payload = make([]byte, 1000) // 60 in a write
	}
	const alarmed = window / 2
	msgs[alarmed].Payload = []byte("the last words")
	results := publish(t, broker, msgs)
	stored := map[string]bool{}
	for i, err := range results {
		switch {
		case i > alarmed+100:
			expectClass(t, fmt.Sprint("message ", i, ", far behind the alarm"), err, core.ErrUnavailable)
		case err == nil:
			stored[msgs[i].ID] = true
		case !errors.Is(err, core.ErrUncertain) && !errors.Is(err, core.ErrUnavailable):
			t.Errorf("message %d: %v", i, err)
		}
	}
	expectClass(t, "under the alarm", publish(t, broker, msgs[:1])[0], core.ErrUnavailable)
	broker.Alarm(false)
	expectClass(t, "afterwards", publish(t, broker, []core.Message{{ID: "end", Topic: to.exchange}})[0], nil)
	stored["end"] = true
	c := consume(t, address, to.exchange)
	expectStored(t, c, stored)
	for _, d := range c.taken {
		var i int
		if fmt.Sscan(d.MessageId, &i); i > alarmed+100 { //nolint:errcheck // one is not a number
			t.Errorf("message %d is stored, and was said to be not", i)
		}
	}
}

// RabbitMQ closes a channel over a message for an exchange that is not there. The topic is not tried again with each of
// its messages.
func TestAMissingExchangeIsTriedOnce(t *testing.T) {
	t.Parallel()
	address := servers.RabbitMQ(t)
	to := newTopology(t, address, queue{kind: "classic"})
	broker := open(t, amqp.Config{URLs: []string{address}})
	var channels atomic.Int64
	openChannel := []byte{0, 20, 0, 10} // class and method
	broker.Wrap(func(c net.Conn) net.Conn {
		return &watched{c, openChannel, func() error { channels.Add(1); return nil }}
	})
	msgs := numbered(to.exchange, 128)
	for i := range msgs {
		if i%2 == 0 {
			msgs[i].Topic += "_missing"
		}
	}
	for i, err := range publish(t, broker, msgs) {
		if i%2 == 0 {
			expectClass(t, msgs[i].ID, err, core.ErrUnavailable)
		} else {
			expectClass(t, msgs[i].ID, err, nil)
		}
	}
	if n := channels.Load(); n < 2 || n > 20 { // halves of 128 messages, down to one
		t.Errorf("%d channels were opened for 64 messages of a missing exchange", n)
	}
}
