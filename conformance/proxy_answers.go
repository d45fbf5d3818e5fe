package conformance

// answers is what becomes of the server's answers. The proxy's mutex guards it.
type answers struct {
	none      bool // passes
	one       bool // is to be swallowed
	before    int  // so many pass before it
	swallowed int
}

// Swallow lets everything pass to the server, and drops what it answers, until Deliver.
func (p *Proxy) Swallow() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.answers.none = true
}

// Deliver ends Swallow, and closes the connections: what they lost will never come.
func (p *Proxy) Deliver() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.answers.none = false
	p.cut() // before any copy sees the change: half an answer would be taken for a whole one
}

// SwallowAnswer lets the server's next pass answers through and swallows the one after: the server has done what it was
// asked, and the client, whose connection is closed, does not learn of it. An answer is what the server sends after the
// client has sent something, on whichever connection. It happens once for each call; the latest call counts.
func (p *Proxy) SwallowAnswer(pass int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.answers.one, p.answers.before = true, pass
}

// Swallowed is how many answers SwallowAnswer has swallowed.
func (p *Proxy) Swallowed() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.answers.swallowed
}

// answer returns what the client is told of a piece of what the server says, and whether their connection goes on. begins
// says that it is the first piece of an answer.
func (p *Proxy) answer(piece []byte, begins bool) (rest []byte, goOn bool) {
	p.mu.Lock()
	a := &p.answers
	none := a.none
	if begins && a.one {
		if a.before == 0 {
			a.one = false
			a.swallowed++
			p.mu.Unlock()
			return nil, false
		}
		a.before--
	}
	p.mu.Unlock()
	if none {
		return nil, true
	}
	if p.config.Rewrite != nil {
		p.config.Rewrite(piece)
	}
	return piece, true
}
