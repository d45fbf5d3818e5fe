package faultproxy

// answers is what [Proxy.Swallow] was told. The proxy's mutex guards it.
type answers struct {
	swallowing bool
	toPass     int // before the one that is swallowed
	swallowed  int
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
