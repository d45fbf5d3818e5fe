package conformance

import (
	"errors"
	"fmt"
	"net"
	"sync"
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

	mu      sync.Mutex
	thawed  chan struct{} // closed while bytes pass
	frozen  bool
	down    bool
	swallow bool
	delay   time.Duration
	conns   map[net.Conn]bool // nil once the proxy is closed
}

// NewProxy returns a proxy to server (host:port), which listens on a port of its own on loopback. Close it.
func NewProxy(server string, config ProxyConfig) (*Proxy, error) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, fmt.Errorf("proxy: %w", err)
	}
	p := &Proxy{listener: listener, server: server, config: config, thawed: make(chan struct{}), conns: map[net.Conn]bool{}}
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

// Cut closes every connection. New ones work.
func (p *Proxy) Cut() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.cut()
}

func (p *Proxy) cut() {
	for c := range p.conns {
		// A reset, as from a machine that has forgotten the connection: nothing that waits in a buffer arrives any more.
		if tcp, ok := c.(*net.TCPConn); ok {
			_ = tcp.SetLinger(0) // it is closed in any case
		}
		c.Close()
	}
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

// Swallow lets everything pass to the server, and drops what it answers, until Deliver.
func (p *Proxy) Swallow() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.swallow = true
}

// Deliver ends Swallow, and closes the connections: what they lost will never come.
func (p *Proxy) Deliver() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.swallow = false
	p.cut() // before any copy sees the change: half an answer would be taken for a whole one
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
	both.Go(func() { p.copy(server, client, false) })
	both.Go(func() { p.copy(client, server, true) })
	both.Wait()
}

// copy passes bytes on until either end is closed, and then closes both.
func (p *Proxy) copy(to, from net.Conn, answers bool) {
	defer to.Close()
	defer from.Close()
	buffer := make([]byte, 64<<10)
	for {
		n, err := from.Read(buffer)
		swallow := p.wait()
		if n > 0 && (!answers || !swallow) {
			if answers && p.config.Rewrite != nil {
				p.config.Rewrite(buffer[:n])
			}
			if _, err := to.Write(buffer[:n]); err != nil {
				return
			}
		}
		if err != nil {
			return // io.EOF as well: the protocols that are tested have no half-closed connections
		}
	}
}

// wait lets the delay and the frost pass, and reports whether answers are to be swallowed.
func (p *Proxy) wait() (swallow bool) {
	p.mu.Lock()
	thawed, delay := p.thawed, p.delay
	p.mu.Unlock()
	if delay > 0 {
		time.Sleep(delay) // a slow network
	}
	<-thawed
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.swallow
}
