package kafka_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"slices"
	"testing"
	"time"

	"github.com/lockstep-go/lockstep/conformance"
	"github.com/lockstep-go/lockstep/core"
	"github.com/lockstep-go/lockstep/internal/dose"
	"github.com/lockstep-go/lockstep/internal/servers"
)

// A line that breaks at any byte, of requests and of answers: nothing that is said to be stored is lost, nothing arrives
// before what it follows, and inside of one call nothing is stored twice.
func TestCutsAtRandomBytes(t *testing.T) {
	for _, inATerm := range []bool{false, true} {
		t.Run(fmt.Sprint("in a term: ", inATerm), func(t *testing.T) {
			t.Parallel()
			testCuts(t, inATerm)
		})
	}
}

func testCuts(t *testing.T, inATerm bool) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	random := rand.New(rand.NewPCG(seed, 0))
	cuts := dose.Of(t, 50, 1000)
	const keys, perCall = 5, 20

	s := newSite(t, 3)
	proxy := servers.Proxy(t, s.address, conformance.ProxyConfig{})
	o := s.owner(t)
	if !inATerm {
		o.term = o.broker
	}
	o.broker.Dial(func(ctx context.Context, network, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, network, proxy.Addr())
	})
	o.broker.Close() // what is connected already is connected past the proxy

	line := newBacklog(keys)
	doubtful := map[string]int{} // how often the fate of a message was unknown
	for n := range cuts + 1 {
		if n > 0 { // the first call finds the way
			proxy.CutAfter(random.IntN(6000))
		}
		msgs := line.next(s.topic, perCall)
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
		results := resultsOf(t, o.term.Publish(ctx, msgs), len(msgs))
		cancel()
		for i, err := range results {
			switch {
			case err == nil:
			case errors.Is(err, core.ErrUncertain):
				doubtful[msgs[i].ID]++
			case !errors.Is(err, core.ErrUnavailable) && !errors.Is(err, core.ErrNotAttempted):
				t.Fatalf("cut %d: %v", n, err)
			}
		}
		line.settle(msgs, results)
	}
	proxy.CutAfter(-1)
	for msgs := line.next(s.topic, perCall); len(msgs) > 0; msgs = line.next(s.topic, perCall) {
		line.closed = true
		results := resultsOf(t, o.term.Publish(t.Context(), msgs), len(msgs))
		line.settle(msgs, results)
	}

	stored := s.stored(t)
	seen := map[string]int{}
	next := map[string]int{}
	for _, id := range stored {
		var key string
		var number int
		if _, err := fmt.Sscanf(id, "%s %d", &key, &number); err != nil {
			t.Fatal(err)
		}
		if seen[id]++; seen[id] > 1 {
			continue
		}
		if number != next[key] {
			t.Errorf("key %s: message %d stands where %d belongs", key, number, next[key])
		}
		next[key] = number + 1
	}
	duplicates := 0
	for id, n := range seen {
		duplicates += n - 1
		if n-1 > doubtful[id] {
			t.Errorf("%s is stored %d times, and its fate was unknown %d times", id, n, doubtful[id])
		}
	}
	for key, count := range line.made {
		if next[key] != count {
			t.Errorf("key %s: %d messages are stored, of %d that were said to be", key, next[key], count)
		}
	}
	t.Logf("%d cuts, %d messages stored, %d of them twice or more, %d results were unknown", cuts, len(seen), duplicates, len(doubtful))
}

// backlog gives out messages as the engine does: those that are not stored again, in their places.
type backlog struct {
	waiting []core.Message
	made    map[string]int // messages so far, by key
	keys    []string
	closed  bool // no new ones
}

func newBacklog(keys int) *backlog {
	b := &backlog{made: map[string]int{}}
	for k := range keys {
		b.keys = append(b.keys, fmt.Sprint("k", k))
	}
	return b
}

func (b *backlog) next(topic string, n int) []core.Message {
	for i := 0; len(b.waiting) < n && !b.closed; i++ {
		key := b.keys[i%len(b.keys)]
		b.waiting = append(b.waiting, core.Message{
			ID: fmt.Sprint(key, " ", b.made[key]), Topic: topic, Key: key, Payload: make([]byte, 100),
		})
		b.made[key]++
	}
	return slices.Clone(b.waiting[:min(n, len(b.waiting))])
}

func (b *backlog) settle(msgs []core.Message, results []error) {
	b.waiting = slices.DeleteFunc(b.waiting, func(m core.Message) bool {
		i := slices.IndexFunc(msgs, func(sent core.Message) bool { return sent.ID == m.ID })
		return i >= 0 && results[i] == nil
	})
}

// Rules 32 and 33: a broker that is killed after it wrote, before it answered, comes back and knows the batch again.
func TestTheBrokerIsKilledAfterItWrote(t *testing.T) {
	for _, inATerm := range []bool{false, true} {
		t.Run(fmt.Sprint("in a term: ", inATerm), func(t *testing.T) {
			s := newSite(t, 1)
			o := s.owner(t)
			if !inATerm {
				o.term = o.broker
			}
			expectClass(t, "0", o.publish(t, "0"), nil)
			o.tap.trick.Store(lose)
			const patience = 5 * time.Minute // however long the server takes to come back
			o.broker.BePatient(patience)
			ctx, cancel := context.WithTimeout(t.Context(), patience)
			defer cancel()
			result := make(chan error, 1)
			go func() { result <- o.publishIn(ctx, t, "1") }()
			<-o.tap.lost // it has written
			servers.Control(t, "kill", "kafka")
			servers.Control(t, "up", "kafka")
			calls := 1
			for err := <-result; err != nil; err = o.publishIn(ctx, t, "1") {
				if inATerm || !errors.Is(err, core.ErrUncertain) || ctx.Err() != nil {
					t.Fatalf("1, call %d: %v", calls, err)
				}
				calls++ // as a relay does; more than twice where the killed server left connections in the pool
			}
			expectClass(t, "2", o.publishIn(ctx, t, "2"), nil)
			if inATerm {
				s.expect(t, "0", "1", "2")
				return
			}
			stored := s.stored(t)
			if copies := len(stored) - 2; copies < 2 || copies > calls {
				t.Errorf("1 is stored %d times, after %d calls; the server wrote it and lost the answer of the first", copies, calls)
			}
			if stored = slices.Compact(stored); !slices.Equal(stored, []string{"0", "1", "2"}) {
				t.Errorf("stored: %v, want 0, 1 and 2 in this order", stored)
			}
		})
	}
}
