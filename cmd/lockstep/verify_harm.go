package main

import (
	"errors"
	"sync"
	"time"

	"github.com/lockstep-go/lockstep/config"
	"github.com/lockstep-go/lockstep/conformance"
)

// harm does harm to the connections of one fixture. There is a proxy for each address, as a cluster has several, which is
// made when the address is first dialled, and is then in the state that the others are in.
type harm struct {
	mu      sync.Mutex
	proxies map[string]*conformance.Proxy
	state   func(*conformance.Proxy) // nil where all is well
	slow    time.Duration
	closed  bool
}

// harmOf returns harm, and the way through it if it is wanted.
func harmOf(wanted bool) (*harm, config.Through) {
	h := &harm{proxies: map[string]*conformance.Proxy{}}
	if !wanted {
		return h, nil
	}
	return h, h.through
}

// through implements [config.Through].
func (h *harm) through(address string) (string, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.closed {
		return "", errors.New("what the connection was for has ended")
	}
	proxy, ok := h.proxies[address]
	if !ok {
		var err error
		if proxy, err = conformance.NewProxy(address, conformance.ProxyConfig{}); err != nil {
			return "", err
		}
		h.proxies[address] = proxy
		proxy.Delay(h.slow)
		if h.state != nil {
			h.state(proxy)
		}
	}
	return proxy.Addr(), nil
}

// passed reports whether there is a connection to do harm to: a database in a file has none.
func (h *harm) passed() bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return len(h.proxies) > 0
}

// all does something to every proxy, and to those to come what state says.
func (h *harm) all(now, state func(*conformance.Proxy)) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.state = state
	for _, proxy := range h.proxies {
		now(proxy)
	}
}

func (h *harm) outage() (heal func(), err error) {
	h.all((*conformance.Proxy).Down, (*conformance.Proxy).Down)
	return func() { h.all((*conformance.Proxy).Up, nil) }, nil
}

func (h *harm) freeze() (thaw func(), err error) {
	h.all((*conformance.Proxy).Freeze, (*conformance.Proxy).Freeze)
	return func() { h.all((*conformance.Proxy).Thaw, nil) }, nil
}

func (h *harm) loseAnswers() (heal func(), err error) {
	h.all((*conformance.Proxy).Swallow, (*conformance.Proxy).Swallow)
	return func() { h.all((*conformance.Proxy).Deliver, nil) }, nil
}

func (h *harm) cut() {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, proxy := range h.proxies {
		proxy.Cut()
	}
}

func (h *harm) delay(d time.Duration) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.slow = d
	for _, proxy := range h.proxies {
		proxy.Delay(d)
	}
}

func (h *harm) close() error {
	h.mu.Lock()
	h.closed = true
	proxies := h.proxies
	h.proxies = nil
	h.mu.Unlock()
	var errs []error
	for _, proxy := range proxies {
		errs = append(errs, proxy.Close())
	}
	return errors.Join(errs...)
}
