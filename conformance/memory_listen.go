package conformance

import (
	"context"
	"slices"

	"github.com/lockstep-go/lockstep/core"
)

var (
	_ core.Listener = (*Memory)(nil)
	_ core.Notifier = (*Memory)(nil)
)

// listener is a connection on which one Listen call waits.
type listener struct {
	conn
	announced chan struct{}
}

// Listen calls wake after each Notify, over a connection of its own.
func (m *Memory) Listen(ctx context.Context, wake func()) error {
	l := &listener{announced: make(chan struct{}, 1)}
	m.mu.Lock()
	m.lastSession++
	l.conn = conn{memory: m, session: m.lastSession, gone: make(chan struct{})}
	m.mu.Unlock()
	err := l.run(ctx, "Listen", func() error {
		m.listeners = append(m.listeners, l)
		return nil
	}, nil)
	if err != nil {
		return err
	}
	defer l.close()
	for {
		wake()
		select {
		case <-l.announced:
		case <-l.gone:
			return l.fail("Listen", ErrBroken)
		case <-ctx.Done():
			return nil
		}
	}
}

func (l *listener) close() {
	m := l.memory
	m.mu.Lock()
	defer m.mu.Unlock()
	if i := slices.Index(m.listeners, l); i >= 0 {
		m.listeners = slices.Delete(m.listeners, i, i+1)
	}
}

// Notify wakes the Listen calls after each receive from committed. Its connection is the first that it is asked to use:
// each announcement is a call of its own to a fault function.
func (m *Memory) Notify(ctx context.Context, committed <-chan struct{}) error {
	m.mu.Lock()
	m.lastSession++
	c := &conn{memory: m, session: m.lastSession}
	m.mu.Unlock()
	for {
		select {
		case <-committed:
		case <-ctx.Done():
			return nil
		}
		err := c.run(ctx, "Notify", func() error {
			for _, l := range m.listeners {
				select {
				case l.announced <- struct{}{}:
				default: // one is waiting to be taken
				}
			}
			return nil
		}, nil)
		if err != nil {
			return err
		}
	}
}
