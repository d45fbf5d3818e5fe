package postgres

import (
	"bufio"
	"context"
	"errors"
	"net"
	"os"
	"sync"
	"time"

	"github.com/lib/pq"
)

// dialTimeout bounds a dial whose caller set no limit.
const dialTimeout = 10 * time.Second

// wire is a session's network connection, and can be cut. lib/pq ignores the context while its peer is silent (a host
// that lost its power, a firewall that dropped the connection): nothing but the end of the connection ends its reads.
type wire struct {
	mu    sync.Mutex
	conn  net.Conn // the last that was dialled: with several hosts in the DSN lib/pq tries one after the other
	ended bool

	peeked  bool // whoever waits for bytes, in await, does not take them
	arrived *bufio.Reader
}

var _ pq.DialerContext = (*wire)(nil)

// cut ends the connection and every later one.
func (w *wire) cut() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.ended = true
	if w.conn != nil {
		w.conn.Close()
	}
}

func (w *wire) isCut() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.ended
}

// deadline bounds what is still read and written; 0 is no bound.
func (w *wire) deadline(d time.Duration) {
	w.mu.Lock()
	defer w.mu.Unlock()
	end := time.Time{}
	if d > 0 {
		end = time.Now().Add(d)
	}
	if w.conn != nil {
		_ = w.conn.SetDeadline(end) // fails on a closed connection, which needs none
	}
}

// DialContext implements pq.DialerContext.
func (w *wire) DialContext(ctx context.Context, network, address string) (net.Conn, error) {
	dialer := net.Dialer{Timeout: dialTimeout}
	conn, err := dialer.DialContext(ctx, network, address)
	if err != nil {
		return nil, err
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.ended {
		conn.Close()
		return nil, net.ErrClosed
	}
	w.conn = conn
	if w.peeked {
		w.arrived = bufio.NewReader(conn)
		return peekedConn{conn, w.arrived}, nil
	}
	return conn, nil
}

// peekedConn is read through the buffer into which await looks.
type peekedConn struct {
	net.Conn
	arrived *bufio.Reader
}

func (c peekedConn) Read(b []byte) (int, error) { return c.arrived.Read(b) }

// await waits until bytes have arrived, or for d. No other read may be under way.
func (w *wire) await(ctx context.Context, d time.Duration) error {
	stop := context.AfterFunc(ctx, w.cut)
	defer stop()
	w.deadline(d)
	defer w.deadline(0)
	if _, err := w.arrived.Peek(1); err != nil && !errors.Is(err, os.ErrDeadlineExceeded) {
		return because(ctx, err)
	}
	return nil
}

// Dial implements pq.Dialer. lib/pq calls DialContext instead.
func (w *wire) Dial(network, address string) (net.Conn, error) {
	return w.DialContext(context.Background(), network, address)
}

// DialTimeout implements pq.Dialer. lib/pq calls DialContext instead.
func (w *wire) DialTimeout(network, address string, timeout time.Duration) (net.Conn, error) {
	ctx, cancel := context.WithTimeout(context.Background(), timeout)
	defer cancel()
	return w.DialContext(ctx, network, address)
}
