package conformance

import (
	"errors"
	"fmt"
	"maps"
	"net"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// ProxyConfig sets how a [Proxy] works. Its zero value works.
type ProxyConfig struct {
	// Rewrite is given each piece of what the server says, and may change it in place. It is for servers that tell their
	// clients where to connect to, which would lead past the proxy. Calls for different connections run at the same time.
	// Defaults to none.
	Rewrite func(piece []byte)
}

// Proxy forwards TCP connections to a server, and breaks the connection between a client and it in the ways in which
// networks do: it cuts, freezes, delays and swallows. Its methods are safe for concurrent use.
type Proxy struct {
	listener net.Listener
	server   string
	config   ProxyConfig
	running  sync.WaitGroup

	mu     sync.Mutex
	thawed chan struct{} // closed while bytes pass
	frozen bool
	down   bool
	delay  time.Duration
	conns  map[net.Conn]bool // nil once the proxy is closed
	// stranded are those of conns over which nothing passes any more.
	stranded map[net.Conn]bool
	budget   int // how many bytes pass before everything is cut; negative where nothing is to be cut
	answers  answers
}

// NewProxy returns a proxy to server (host:port), which listens on a port of its own on loopback. Close it.
func NewProxy(server string, config ProxyConfig) (*Proxy, error) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, fmt.Errorf("proxy: %w", err)
	}
	p := &Proxy{listener: listener, server: server, config: config, thawed: make(chan struct{}), conns: map[net.Conn]bool{}, stranded: map[net.Conn]bool{}, budget: -1}
	close(p.thawed)
	p.running.Go(p.accept)
	return p, nil
}

// Addr is the proxy's host:port: what the client connects to.
func (p *Proxy) Addr() string { return p.listener.Addr().String() }

// Freeze stops every byte in both directions, and leaves the connections open, as a host does that lost its power or a
// firewall that forgot them. New connections are accepted, and as silent.
func (p *Proxy) Freeze() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.frozen {
		p.frozen, p.thawed = true, make(chan struct{})
	}
}

// Thaw lets the bytes pass again, those that waited included.
func (p *Proxy) Thaw() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.frozen {
		p.frozen = false
		close(p.thawed)
	}
}

// Strand leaves every connection that there is open and silent for good, as a host does that comes back and has forgotten them.
// New ones work, unless the proxy is frozen.
func (p *Proxy) Strand() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for c := range p.conns {
		p.stranded[c] = true
	}
}

// Cut closes every connection. New ones work.
func (p *Proxy) Cut() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.cut()
}

// cut closes every connection, and forgets it: what was read from it passes no more.
func (p *Proxy) cut() {
	for c := range p.conns {
		// A reset, as from a machine that has forgotten the connection: nothing that waits in a buffer arrives any more.
		if tcp, ok := c.(*net.TCPConn); ok {
			_ = tcp.SetLinger(0) // it is closed in any case
		}
		c.Close()
		delete(p.conns, c)
	}
	clear(p.stranded)
}

// CutAfter lets so many bytes more pass, in both directions together, and then closes every connection: in the middle of
// whatever is being said. It counts down once; a later call counts anew, and a negative number calls it off.
func (p *Proxy) CutAfter(bytes int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.budget = bytes
}

// Down closes every connection, and each new one at once, until Up.
func (p *Proxy) Down() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.down = true
	p.cut()
}

// Up ends Down.
func (p *Proxy) Up() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.down = false
}

// Delay holds each piece of data up for d in either direction, from now on; 0 ends it.
func (p *Proxy) Delay(d time.Duration) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.delay = d
}

// Close closes every connection and the proxy, and waits until nothing of it runs.
func (p *Proxy) Close() error {
	err := p.listener.Close()
	p.Cut()
	p.mu.Lock()
	p.conns = nil
	p.mu.Unlock()
	p.Thaw()
	p.running.Wait()
	if errors.Is(err, net.ErrClosed) {
		return nil
	}
	return err
}

// Through returns f with the harm that p does: p stands between the database and f's Dialect and Begin.
func (f DialectFixture) Through(p *Proxy) DialectFixture {
	f.Outage = p.outage
	f.Cut = p.Cut
	f.LoseAnswers = func() (heal func(), err error) {
		p.Swallow()
		return p.Deliver, nil
	}
	return f
}

// Through returns f with the harm that p does: p stands between the message system and f's Broker, and not before Read.
func (f BrokerFixture) Through(p *Proxy) BrokerFixture {
	f.Outage = p.outage
	f.Cut = p.Cut
	f.Delay = p.Delay
	f.Freeze = func() (thaw func(), err error) {
		p.Freeze()
		return p.Thaw, nil
	}
	return f
}

func (p *Proxy) outage() (heal func(), err error) {
	p.Down()
	return p.Up, nil
}

func (p *Proxy) accept() {
	for {
		client, err := p.listener.Accept()
		if err != nil {
			return
		}
		p.running.Go(func() { p.forward(client) })
	}
}

// keep remembers c, to be cut. It closes c when the proxy is down or closed.
func (p *Proxy) keep(c net.Conn) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.conns == nil || p.down {
		c.Close()
		return false
	}
	p.conns[c] = true
	return true
}

func (p *Proxy) drop(c net.Conn) {
	p.mu.Lock()
	defer p.mu.Unlock()
	c.Close()
	delete(p.conns, c)
	delete(p.stranded, c)
}

func (p *Proxy) forward(client net.Conn) {
	if !p.keep(client) {
		return
	}
	defer p.drop(client)
	p.wait()
	server, err := net.Dial("tcp", p.server)
	if err != nil || !p.keep(server) {
		return
	}
	defer p.drop(server)
	var both sync.WaitGroup
	var asked atomic.Bool // and not answered
	both.Go(func() {
		p.copy(server, client, func(piece []byte) ([]byte, bool) { asked.Store(true); return piece, true })
	})
	both.Go(func() {
		p.copy(client, server, func(piece []byte) ([]byte, bool) { return p.answer(piece, asked.Swap(false)) })
	})
	both.Wait()
}

// copy passes on what filter leaves of each piece, until either end is closed or filter says that it is over, and then
// closes both.
func (p *Proxy) copy(to, from net.Conn, filter func(piece []byte) (rest []byte, goOn bool)) {
	defer to.Close()
	defer from.Close()
	buffer := make([]byte, 64<<10)
	for {
		n, err := from.Read(buffer)
		p.wait()
		if n > 0 {
			rest, goOn := filter(buffer[:n])
			if !goOn {
				return
			}
			if err := p.pass(to, from, rest); err != nil {
				return
			}
		}
		if err != nil {
			return // io.EOF as well: the protocols that are tested have no half-closed connections
		}
	}
}

// pass writes bytes to to, as far as the budget goes, and closes every connection behind that.
func (p *Proxy) pass(to, from net.Conn, bytes []byte) error {
	p.mu.Lock()
	if !p.conns[from] {
		p.mu.Unlock()
		return net.ErrClosed
	}
	if p.stranded[from] || p.stranded[to] {
		p.mu.Unlock()
		return nil
	}
	var doomed []net.Conn
	if p.budget >= 0 {
		bytes = bytes[:min(len(bytes), p.budget)]
		if p.budget -= len(bytes); p.budget == 0 {
			p.budget = -1
			// Forgotten before the last bytes are written, so that the answer to them does not pass.
			doomed = slices.Collect(maps.Keys(p.conns))
			clear(p.conns)
		}
	}
	p.mu.Unlock()
	_, err := to.Write(bytes)
	for _, c := range doomed {
		c.Close() // and no reset, which would take the last bytes with it
	}
	return err
}

// wait lets the delay and the frost pass.
func (p *Proxy) wait() {
	p.mu.Lock()
	thawed, delay := p.thawed, p.delay
	p.mu.Unlock()
	if delay > 0 {
		time.Sleep(delay) // a slow network
	}
	<-thawed
}
