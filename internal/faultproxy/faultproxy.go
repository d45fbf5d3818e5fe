// Package faultproxy is a TCP proxy between a test and a server, that breaks the connection between them in the ways in
// which networks do.
package faultproxy

import (
	"maps"
	"net"
	"slices"
	"sync"
	"sync/atomic"
)

// TB is the part of testing.TB that this package uses.
type TB interface {
	Helper()
	Cleanup(f func())
	Fatalf(format string, args ...any)
}

// Proxy forwards connections to a server.
type Proxy struct {
	listener net.Listener
	server   string
	running  sync.WaitGroup

	mu     sync.Mutex
	thawed chan struct{} // closed while bytes pass
	frozen bool
	conns  map[net.Conn]bool // nil once the proxy is closed
	budget int               // how many bytes pass before everything is cut; negative where nothing is to be cut

	swallowing bool
	toPass     int // answers before the one that is swallowed
	swallowed  int
}

// New returns a proxy to server (host:port), which ends with the test.
func New(t TB, server string) *Proxy {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatalf("fault proxy: %v", err)
	}
	p := &Proxy{listener: listener, server: server, thawed: make(chan struct{}), conns: map[net.Conn]bool{}, budget: -1}
	close(p.thawed)
	p.running.Go(p.accept)
	t.Cleanup(p.close)
	return p
}

// Addr is the proxy's host:port.
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

// Cut closes every connection.
func (p *Proxy) Cut() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.cut()
}

// cut closes every connection, and forgets it: what was read from it passes no more.
func (p *Proxy) cut() {
	for c := range p.conns {
		c.Close()
		delete(p.conns, c)
	}
}

// CutAfter lets so many bytes more pass, in both directions together, and then cuts every connection: in the middle of
// whatever is being said. It counts down once; a later call counts anew, and a negative number calls it off.
func (p *Proxy) CutAfter(bytes int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.budget = bytes
}

// pass writes bytes to to, as far as the budget goes, and cuts every connection behind that.
func (p *Proxy) pass(to, from net.Conn, bytes []byte) error {
	p.mu.Lock()
	if !p.conns[from] {
		p.mu.Unlock()
		return net.ErrClosed
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
		c.Close()
	}
	return err
}

// Swallow lets the server's next pass answers through and swallows the one after: the server has done what it was asked,
// and the client, whose connection is closed, does not learn of it. An answer is what the server sends after the client
// has sent something, on whichever connection. It happens once for each call of Swallow; the latest call counts.
func (p *Proxy) Swallow(pass int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.swallowing, p.toPass = true, pass
}

// Swallowed is how many answers were swallowed.
func (p *Proxy) Swallowed() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.swallowed
}

// swallows reports whether an answer is the one to be swallowed.
func (p *Proxy) swallows() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	switch {
	case !p.swallowing:
		return false
	case p.toPass > 0:
		p.toPass--
		return false
	}
	p.swallowing = false
	p.swallowed++
	return true
}

func (p *Proxy) close() {
	p.listener.Close()
	p.mu.Lock()
	p.cut()
	p.conns = nil
	p.mu.Unlock()
	p.Thaw()
	p.running.Wait()
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

// keep remembers c, to be cut. It closes c when the proxy is closed.
func (p *Proxy) keep(c net.Conn) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.conns == nil {
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
	var asked atomic.Bool // and not answered
	both.Go(func() { p.copy(server, client, func() bool { asked.Store(true); return true }) })
	both.Go(func() { p.copy(client, server, func() bool { return !asked.Swap(false) || !p.swallows() }) })
	both.Wait()
}

// copy passes bytes on until either end is closed or may says no, and then closes both.
func (p *Proxy) copy(to, from net.Conn, may func() bool) {
	defer to.Close()
	defer from.Close()
	buffer := make([]byte, 64<<10)
	for {
		n, err := from.Read(buffer)
		p.wait()
		if n > 0 {
			if !may() {
				return
			}
			if err := p.pass(to, from, buffer[:n]); err != nil {
				return
			}
		}
		if err != nil {
			return // io.EOF as well: the protocols that are tested have no half-closed connections
		}
	}
}

func (p *Proxy) wait() {
	p.mu.Lock()
	thawed := p.thawed
	p.mu.Unlock()
	<-thawed
}
