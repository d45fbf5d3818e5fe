package ormtest

import (
	"bytes"
	"errors"
	"net"
	"net/url"
	"sync"
	"sync/atomic"
	"testing"
)

// loseAnswer stands between a driver and PostgreSQL until the driver sends COMMIT. That it passes on; the answer it
// waits for and keeps to itself, and the connection is cut, or left silent.
type loseAnswer struct {
	listener net.Listener
	server   string
	silent   bool
	armed    atomic.Bool    // until the next COMMIT
	lost     chan struct{}  // closed when the server has answered it
	end      chan struct{}  // closed when the test is over
	running  sync.WaitGroup // every goroutine
}

// throughLoseAnswer returns dsn with the address of a new loseAnswer in it.
func throughLoseAnswer(t *testing.T, dsn string, silent bool) (string, *loseAnswer) {
	t.Helper()
	u, err := url.Parse(dsn)
	if err != nil {
		t.Fatal(err)
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	l := &loseAnswer{listener: listener, server: u.Host, silent: silent, lost: make(chan struct{}), end: make(chan struct{})}
	l.running.Go(func() { l.serve(t) })
	t.Cleanup(func() {
		close(l.end)
		listener.Close()
		l.running.Wait()
	})
	u.Host = listener.Addr().String()
	return u.String(), l
}

func (l *loseAnswer) serve(t *testing.T) {
	for {
		client, err := l.listener.Accept()
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err != nil {
			t.Error(err)
			return
		}
		server, err := net.Dial("tcp", l.server)
		if err != nil {
			t.Error(err)
			client.Close()
			return
		}
		l.running.Go(func() { l.carry(client, server) })
	}
}

// carry passes what the two say on to each other. Each ends with its connection.
func (l *loseAnswer) carry(client, server net.Conn) {
	defer client.Close()
	defer server.Close()
	committing := make(chan struct{})
	l.running.Go(func() {
		defer server.Close()
		buffer := make([]byte, 1<<16)
		for {
			n, err := client.Read(buffer)
			if err != nil {
				return
			}
			if bytes.Contains(bytes.ToUpper(buffer[:n]), []byte("COMMIT")) && l.armed.CompareAndSwap(true, false) {
				close(committing)
			}
			if _, err := server.Write(buffer[:n]); err != nil {
				return
			}
		}
	})
	buffer := make([]byte, 1<<16)
	for {
		n, err := server.Read(buffer)
		if err != nil {
			return
		}
		select {
		case <-committing:
			close(l.lost)
			if l.silent {
				<-l.end
			}
			return
		default:
		}
		if _, err := client.Write(buffer[:n]); err != nil {
			return
		}
	}
}
