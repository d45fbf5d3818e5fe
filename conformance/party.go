package conformance

import (
	"errors"
	"sync"
)

// party is checks that restart one server. They run at the same time, and the server is restarted for all of them at once,
// when each has asked for it or has ended. What a server takes to come back is most of what such a check takes.
type party struct {
	named chan bool // whether the first of them has a server that it shares
	tell  sync.Once

	mu         sync.Mutex
	changed    *sync.Cond
	server     string
	members    int // that have not ended
	waiting    int // in restart
	restarting bool
	round      int
	err        error // of the latest round
}

func newParty(members int) *party {
	p := &party{named: make(chan bool, 1), members: members}
	p.changed = sync.NewCond(&p.mu)
	return p
}

// joins says that a member's fixture is open, and reports whether its server is the party's. Of the others nobody waits for
// that member.
func (p *party) joins(server string) bool {
	p.tell.Do(func() {
		p.mu.Lock()
		defer p.mu.Unlock()
		p.server = server
		p.named <- server != ""
	})
	p.mu.Lock()
	defer p.mu.Unlock()
	return server != "" && server == p.server
}

// leaver returns leave, to be called as often as one likes.
func (p *party) leaver() func() {
	if p == nil {
		return func() {}
	}
	return sync.OnceFunc(p.leave)
}

// leave says that a member has ended.
func (p *party) leave() {
	p.tell.Do(func() { p.named <- false })
	p.mu.Lock()
	defer p.mu.Unlock()
	p.members--
	p.changed.Broadcast()
}

// restart returns when the server was restarted, by own or by that of another member, after all of them had come as far.
func (p *party) restart(own func() error) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	round := p.round
	p.waiting++
	p.changed.Broadcast()
	for p.round == round {
		if p.waiting == p.members && !p.restarting {
			p.restarting = true
			p.do(own)
			continue
		}
		p.changed.Wait()
	}
	return p.err
}

// do restarts the server, and ends the round however own ends.
func (p *party) do(own func() error) {
	p.err = errors.New("the server's restart did not return")
	p.mu.Unlock()
	defer func() {
		p.round++
		p.waiting, p.restarting = 0, false
		p.changed.Broadcast()
	}()
	err := func() error {
		defer p.mu.Lock()
		return own()
	}()
	p.err = err
}

// join makes f a guest of p, which may be nil.
func (s suite[F]) join(p *party, g group[F], f F, leave func()) F {
	if p == nil {
		return f
	}
	server := ""
	if g.has(f) {
		server = g.server(f)
	}
	if !p.joins(server) {
		if server != "" {
			leave()
		}
		return f
	}
	return s.share(f, p.restart)
}

// job is a check to be run, with its place in the report.
type job[F any] struct {
	i int
	g group[F]
	c check[F]
}

// gather runs jobs that may be a party. Where the first one's fixture shares no server, they run one after another.
func gather[F any](jobs []job[F], run func(job[F], *party)) {
	p := newParty(len(jobs))
	var running sync.WaitGroup
	running.Go(func() { run(jobs[0], p) })
	if <-p.named {
		for _, j := range jobs[1:] {
			running.Go(func() { run(j, p) })
		}
		running.Wait()
		return
	}
	running.Wait()
	for _, j := range jobs[1:] {
		run(j, nil)
	}
}
