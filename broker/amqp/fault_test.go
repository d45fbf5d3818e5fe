package amqp_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"net/url"
	"regexp"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/lockstep-go/lockstep/broker/amqp"
	"github.com/lockstep-go/lockstep/conformance"
	"github.com/lockstep-go/lockstep/core"
	"github.com/lockstep-go/lockstep/internal/dose"
	"github.com/lockstep-go/lockstep/internal/servers"
)

// throughProxy returns a proxy to RabbitMQ, and the URL that goes through it.
func throughProxy(t *testing.T, address string) (proxy *conformance.Proxy, through string) {
	t.Helper()
	u, err := url.Parse(address)
	must(t, err)
	proxy = servers.Proxy(t, u.Host, conformance.ProxyConfig{})
	u.Host = proxy.Addr()
	return proxy, u.String()
}

// producer publishes the messages of keys, each after the one before it was confirmed, as the engine does.
type producer struct {
	broker core.Broker
	topic  string
	next   []int // by key: the number of the message that is to be stored
}

// publish makes a call with the next message of each key and moves on those that are stored.
func (p *producer) publish(ctx context.Context, t *testing.T) (results []error) {
	t.Helper()
	msgs := make([]core.Message, len(p.next))
	for k, n := range p.next {
		msgs[k] = core.Message{ID: fmt.Sprint(k, "/", n), Topic: p.topic, Key: fmt.Sprint(k), Payload: fmt.Appendf(nil, "%d", n)}
	}
	results = resultsOf(t, p.broker.Publish(ctx, msgs), len(msgs))
	for k, err := range results {
		if err == nil {
			p.next[k]++
		}
	}
	return results
}

// expectOrder wants every message of the producer in the queue, and the first copies of each key's in order.
func (p *producer) expectOrder(t *testing.T, c *consumer) {
	t.Helper()
	stored := map[string]bool{}
	for k, n := range p.next {
		for i := range n {
			stored[fmt.Sprint(k, "/", i)] = true
		}
	}
	expectStored(t, c, stored)
	newest := map[string]int{}
	for _, d := range c.taken {
		key := d.Headers[amqp.KeyHeader].(string)
		var n int
		if _, err := fmt.Sscan(string(d.Body), &n); err != nil {
			t.Fatal(err)
		}
		if n > newest[key] {
			t.Fatalf("key %s: message %d stands where %d belongs", key, n, newest[key])
		}
		if n == newest[key] {
			newest[key]++
		}
	}
}

// Connections that are cut after a random number of bytes, in whichever direction those go (RULES 38).
func TestCutsAtRandomBytes(t *testing.T) {
	for _, kind := range kinds {
		t.Run(kind, func(t *testing.T) {
			t.Parallel()
			address := servers.RabbitMQ(t)
			to := newTopology(t, address, queue{kind: kind})
			proxy, through := throughProxy(t, address)
			seed := rand.Uint64()
			t.Logf("seed %d", seed)
			random := rand.New(rand.NewPCG(seed, 0))
			p := &producer{broker: open(t, amqp.Config{URLs: []string{through}}), topic: to.exchange, next: make([]int, 20)}
			ctx, cancel := context.WithTimeout(t.Context(), dose.Of(t, 5*time.Minute, 20*time.Minute))
			defer cancel()
			cuts, felt, uncertain := dose.Of(t, 25, 1000), 0, 0 // 50 with both kinds of queues
			const most, calls = 20_000, 10                      // a handshake is 1200 bytes, a call 3700
			for range cuts {
				proxy.CutAfter(random.IntN(most))
				cut := false
				for n := 0; n < calls && !cut; n++ { // where it falls between two calls, none fails
					results := p.publish(ctx, t)
					if ctx.Err() != nil {
						t.Fatalf("out of time: %v", results)
					}
					cut = slices.ContainsFunc(results, func(err error) bool { return err != nil })
					for _, err := range results {
						if err != nil && !errors.Is(err, core.ErrUncertain) && !errors.Is(err, core.ErrUnavailable) && !errors.Is(err, core.ErrNotAttempted) {
							t.Fatalf("the message is blamed for a lost connection: %v", err)
						}
						if errors.Is(err, core.ErrUncertain) {
							uncertain++
						}
					}
				}
				if cut {
					felt++
				}
			}
			if felt < cuts*9/10 {
				t.Errorf("%d of %d cuts made a call fail, want nearly all", felt, cuts)
			}
			proxy.CutAfter(-1)
			for _, err := range p.publish(ctx, t) {
				expectClass(t, "after the last cut", err, nil)
			}
			c := consume(t, address, to.exchange)
			p.expectOrder(t, c)
			copies := map[string]int{}
			for _, d := range c.taken {
				copies[d.MessageId]++
			}
			t.Logf("%d cuts, %d of them felt, %d messages stored, %d copies more, %d results uncertain", cuts, felt, len(copies), len(c.taken)-len(copies), uncertain)
		})
	}
}

// A channel that dies says of what it has not confirmed what a nack says. It is no nack (RULES 39).
func TestALostConnectionIsNoRefusal(t *testing.T) {
	t.Parallel()
	address := servers.RabbitMQ(t)
	to := newTopology(t, address, queue{kind: "classic"})
	proxy, through := throughProxy(t, address)
	broker := open(t, amqp.Config{URLs: []string{through}})
	for _, err := range publish(t, broker, numbered(to.exchange, 1)) { // the connection is there
		expectClass(t, "before", err, nil)
	}
	proxy.CutAfter(20_000) // in the middle of the fourth message
	msgs := numbered(to.exchange, 10)
	for i := range msgs {
		msgs[i].Payload = make([]byte, 5000) // all together in one write
	}
	for i, err := range publish(t, broker, msgs) {
		expectClass(t, msgs[i].ID, err, core.ErrUncertain)
	}
}

// The connection is there and says nothing: Publish returns in its time; the heartbeat, or a write that is taken by nobody
// for ten seconds, ends it before a longer one (RULES 37).
func TestSilentConnection(t *testing.T) {
	t.Parallel()
	address := servers.RabbitMQ(t)
	to := newTopology(t, address, queue{kind: "classic"})
	for _, tt := range []struct {
		name      string
		heartbeat string
		giveUp    bool // once the first message is written
		cause     *regexp.Regexp
	}{
		{"the call's time ends it", "60", true, regexp.MustCompile("context canceled")},
		{"the heartbeat ends it", "4", false, regexp.MustCompile("read tcp .* i/o timeout|use of closed network connection")},
		{"the write's deadline ends it", "60", false, regexp.MustCompile("write tcp .* i/o timeout")},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			proxy, through := throughProxy(t, address)
			broker := open(t, amqp.Config{URLs: []string{through + "?heartbeat=" + tt.heartbeat}})
			ctx, cancel := context.WithTimeout(t.Context(), longEnough)
			defer cancel()
			broker.Wrap(func(c net.Conn) net.Conn {
				return &watched{c, []byte("the end of the first"), func() error {
					if tt.giveUp {
						cancel()
					}
					return nil
				}}
			})
			for _, err := range publish(t, broker, numbered(to.exchange, 1)) {
				expectClass(t, "before", err, nil)
			}
			proxy.Freeze()
			defer proxy.Thaw()
			msgs := numbered(to.exchange, 50)
			for i := range msgs {
				msgs[i].Payload = make([]byte, core.MaxPayloadBytes) // far more than the system keeps for the peer
			}
			msgs[0].Payload = append(msgs[0].Payload[:core.MaxPayloadBytes-100], "the end of the first"...)
			results := resultsOf(t, broker.Publish(ctx, msgs), len(msgs))
			expectClass(t, "the first", results[0], core.ErrUncertain)
			expectClass(t, "the last", results[len(results)-1], core.ErrNotAttempted)
			if !tt.cause.MatchString(fmt.Sprint(results[0])) {
				t.Errorf("it ended by %v, want %s", results[0], tt.cause)
			}
		})
	}
}

// RabbitMQ has closed the channel, and falls silent before the next one is open.
func TestSilenceWhileAChannelIsOpened(t *testing.T) {
	t.Parallel()
	address := servers.RabbitMQ(t)
	to := newTopology(t, address, queue{kind: "classic"})
	proxy, through := throughProxy(t, address)
	broker := open(t, amqp.Config{URLs: []string{through + "?heartbeat=60"}})
	poison := core.Message{ID: "poison", Topic: to.exchange, Headers: map[string]string{"CC": "no list"}}
	expectClass(t, "the poison", publish(t, broker, []core.Message{poison})[0], core.ErrPermanent)
	proxy.Freeze()
	defer proxy.Thaw()
	ctx, cancel := context.WithTimeout(t.Context(), 500*time.Millisecond)
	defer cancel()
	began := time.Now()
	expectClass(t, "in the silence", resultsOf(t, broker.Publish(ctx, numbered(to.exchange, 1)), 1)[0], core.ErrUnavailable)
	if took := time.Since(began); took > longEnough { // the heartbeat would end it after 90 s
		t.Errorf("it returned after %v", took)
	}
}

// A node that accepts connections and says nothing is not waited for longer than the call may take, nor is one that is
// not there; the next one is tried.
func TestNodesAreTriedInTurn(t *testing.T) {
	t.Parallel()
	address := servers.RabbitMQ(t)
	to := newTopology(t, address, queue{kind: "classic"})
	proxy, silent := throughProxy(t, address)
	proxy.Freeze()
	t.Cleanup(proxy.Thaw)
	silent += "?connection_timeout=200"
	broker := open(t, amqp.Config{URLs: []string{"amqp://u:p@127.0.0.1:1/", silent, address}})
	for range 3 {
		if err := publish(t, broker, numbered(to.exchange, 1))[0]; err != nil {
			t.Error(err)
		}
	}
	gone := open(t, amqp.Config{URLs: []string{"amqp://u:p@127.0.0.1:1/", silent}})
	err := publish(t, gone, numbered(to.exchange, 1))[0]
	expectClass(t, "no node", err, core.ErrUnavailable)
	nobody := open(t, amqp.Config{URLs: []string{"amqp://u:p@127.0.0.1:1/"}})
	expectClass(t, "nobody listens", publish(t, nobody, numbered(to.exchange, 1))[0], core.ErrUnavailable)
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	hanging := open(t, amqp.Config{URLs: []string{silent}})
	results := resultsOf(t, hanging.Publish(ctx, numbered(to.exchange, 1)), 1)
	expectClass(t, "a silent node", results[0], core.ErrUnavailable)
}

// An operator closes the connections under load: no message is blamed, none is lost, and the order stays.
func TestConnectionsClosedByAnOperator(t *testing.T) {
	address := servers.RabbitMQ(t)
	to := newTopology(t, address, queue{kind: "quorum"})
	p := &producer{broker: open(t, amqp.Config{URLs: []string{address}}), topic: to.exchange, next: make([]int, 200)}
	for failed := 0; failed == 0; { // once more, should it fall between two calls
		closed := make(chan struct{})
		go func() {
			defer close(closed)
			servers.RabbitMQControl(t, "close_all_connections", "a test")
		}()
		for done := false; !done; {
			select {
			case <-closed:
				done = true
			default:
			}
			for _, err := range p.publish(t.Context(), t) {
				if err != nil {
					failed++
					if !errors.Is(err, core.ErrUncertain) && !errors.Is(err, core.ErrUnavailable) && !errors.Is(err, core.ErrNotAttempted) {
						t.Fatalf("the message is blamed: %v", err)
					}
				}
			}
		}
	}
	p.expectOrder(t, consume(t, address, to.exchange))
}

// A memory alarm: RabbitMQ reads nothing from those who publish, until it is over (RULES 37, 44).
func TestMemoryAlarm(t *testing.T) {
	address := servers.RabbitMQ(t)
	sizes := []int{10, core.MaxPayloadBytes} // the second is more than fits between us
	to := make([]*topology, len(sizes))
	brokers := make([]*amqp.Broker, len(sizes))
	for i := range sizes {
		to[i] = newTopology(t, address, queue{kind: "classic"})
		brokers[i] = open(t, amqp.Config{URLs: []string{address}})
		expectClass(t, "before", publish(t, brokers[i], numbered(to[i].exchange, 1))[0], nil)
	}
	before := servers.RabbitMQControl(t, "eval", "{ok, Limit} = application:get_env(rabbit, vm_memory_high_watermark), Limit.")
	over := sync.OnceFunc(func() {
		servers.RabbitMQControl(t, "eval", fmt.Sprintf("vm_memory_monitor:set_vm_memory_high_watermark(%s).", before))
	})
	t.Cleanup(over)
	servers.RabbitMQControl(t, "set_vm_memory_high_watermark", "absolute", "1MB")

	ctx, cancel := context.WithTimeout(t.Context(), 5*longEnough) // it waits for RabbitMQ's control program, too
	defer cancel()
	msgs := make([][]core.Message, len(sizes))
	for n, size := range sizes {
		msgs[n] = numbered(to[n].exchange, 20)
		for i := range msgs[n] {
			msgs[n][i].Payload = make([]byte, size)
		}
		err := brokers[n].Publish(ctx, msgs[n])
		for err == nil && ctx.Err() == nil { // RabbitMQ has not yet told its connections
			err = brokers[n].Publish(ctx, msgs[n])
		}
		for i, err := range resultsOf(t, err, len(msgs[n])) {
			if err != nil && !errors.Is(err, core.ErrUncertain) && !errors.Is(err, core.ErrNotAttempted) && !errors.Is(err, core.ErrUnavailable) {
				t.Errorf("message %d of %d bytes under the alarm: got %v", i, size, err)
			}
		}
		sent := 0
		for range 20 { // as the engine probes
			err := resultsOf(t, brokers[n].Publish(ctx, msgs[n][:1]), 1)[0]
			if errors.Is(err, core.ErrUncertain) {
				sent++
			} else if !errors.Is(err, core.ErrUnavailable) {
				t.Fatalf("under the alarm: got %v", err)
			}
		}
		if sent > 1 { // one, where the connection was lost that knew of the alarm
			t.Errorf("%d of 20 calls were sent to a broker that had blocked its publishers", sent)
		}
	}
	if ctx.Err() != nil {
		t.Fatal("the calls took all their time")
	}
	over()
	for n := range sizes {
		for err := brokers[n].Publish(ctx, msgs[n]); err != nil; err = brokers[n].Publish(ctx, msgs[n]) {
			if ctx.Err() != nil {
				t.Fatal("it does not resume")
			}
		}
		stored := map[string]bool{}
		for _, m := range msgs[n] {
			stored[m.ID] = true
		}
		expectStored(t, consume(t, address, to[n].exchange), stored)
	}
}

// The broker stops, machine and all, while more is under way than fits between us.
func TestFrozenBroker(t *testing.T) {
	address := servers.RabbitMQ(t)
	to := newTopology(t, address, queue{kind: "quorum"})
	p := &producer{broker: open(t, amqp.Config{URLs: []string{address}}), topic: to.exchange, next: make([]int, 50)}
	for _, err := range p.publish(t.Context(), t) {
		expectClass(t, "before", err, nil)
	}
	servers.Control(t, "pause", "rabbitmq")
	for range 3 {
		ctx, cancel := context.WithTimeout(t.Context(), 500*time.Millisecond)
		for _, err := range p.publish(ctx, t) {
			if !errors.Is(err, core.ErrUncertain) && !errors.Is(err, core.ErrUnavailable) {
				t.Errorf("a frozen broker: got %v", err)
			}
		}
		cancel()
	}
	servers.Control(t, "resume", "rabbitmq")
	ctx, cancel := context.WithTimeout(t.Context(), longEnough)
	defer cancel()
	for p.next[0] < 2 {
		if p.publish(ctx, t); ctx.Err() != nil {
			t.Fatal("it does not resume")
		}
	}
	p.expectOrder(t, consume(t, address, to.exchange))
}

// The broker is killed while it is being written to: what it has confirmed is there afterwards.
func TestKilledBroker(t *testing.T) {
	address := servers.RabbitMQ(t)
	to, also := newTopology(t, address, queue{kind: "classic"}), newTopology(t, address, queue{kind: "quorum"})
	must(t, to.channel.QueueBind(also.exchange, "#", to.exchange, false, nil))
	// RabbitMQ writes down half a second later which queues there are, and has none of a quorum queue's messages where it
	// is killed before (4.3.6).
	servers.RabbitMQControl(t, "eval", "[dets:sync(Table) || Table <- dets:all()].")
	p := &producer{broker: open(t, amqp.Config{URLs: []string{address}}), topic: to.exchange, next: make([]int, 100)}
	failed := func(err error) bool { return err != nil }
	for range dose.Of(t, 1, 20) {
		killed := make(chan struct{})
		go func() {
			defer close(killed)
			servers.Control(t, "kill", "rabbitmq")
		}()
		for !slices.ContainsFunc(p.publish(t.Context(), t), failed) {
			continue
		}
		<-killed
		servers.Control(t, "up", "rabbitmq")
		ctx, cancel := context.WithTimeout(t.Context(), longEnough)
		for slices.ContainsFunc(p.publish(ctx, t), failed) {
			if ctx.Err() != nil {
				t.Fatal("it does not resume")
			}
		}
		cancel()
	}
	p.expectOrder(t, consume(t, address, to.exchange))
	p.expectOrder(t, consume(t, address, also.exchange))
}

func TestNothingIsClaimedAfterClose(t *testing.T) {
	t.Parallel()
	address := servers.RabbitMQ(t)
	to := newTopology(t, address, queue{kind: "classic"})
	broker := open(t, amqp.Config{URLs: []string{address}})
	if err := publish(t, broker, numbered(to.exchange, 1))[0]; err != nil {
		t.Fatal(err)
	}
	must(t, broker.Close())
	expectClass(t, "after Close", publish(t, broker, numbered(to.exchange, 1))[0], core.ErrUnavailable)
}
