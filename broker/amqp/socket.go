package amqp

import (
	"context"
	"net"
	"sync"
	"time"
)

const (
	// writeTimeout ends a connection to a broker that takes nothing in. RabbitMQ slows publishers down by not reading
	// for a while; it must be longer than that.
	writeTimeout = 10 * time.Second

	// patience is how long a broker that has blocked its publishers is waited for.
	patience = time.Second

	// bufferSize is what goes to the system in one write, while a batch is being sent.
	bufferSize = 64 << 10
)

// socket gives every write a deadline: without it a broker that reads nothing keeps amqp091 and whoever waits for its
// locks for good. While it holds back, it collects what is written: amqp091 flushes after each message.
type socket struct {
	net.Conn

	mu      sync.Mutex
	buffer  []byte
	holding bool
}

// dialing makes sockets.
type dialing func(ctx context.Context, network, address string, timeout time.Duration) (*socket, error)

// dialSocket connects to address. The deadline that it sets bounds the handshakes, TLS included; amqp091 clears it.
func dialSocket(ctx context.Context, network, address string, timeout time.Duration) (*socket, error) {
	deadline := time.Now().Add(timeout)
	conn, err := (&net.Dialer{Deadline: deadline}).DialContext(ctx, network, address)
	if err != nil {
		return nil, err
	}
	if err := conn.SetReadDeadline(deadline); err != nil {
		conn.Close()
		return nil, err
	}
	return &socket{Conn: conn}, nil
}

// hold begins to collect what is written, up to bufferSize.
func (s *socket) hold() {
	s.mu.Lock()
	s.holding = true
	s.mu.Unlock()
}

// release writes what was collected, and goes on without collecting.
func (s *socket) release() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.holding = false
	return s.flush()
}

// Write implements net.Conn.
func (s *socket) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.holding && len(s.buffer)+len(p) <= bufferSize {
		s.buffer = append(s.buffer, p...)
		return len(p), nil
	}
	if err := s.flush(); err != nil {
		return 0, err
	}
	return s.write(p)
}

// Read implements net.Conn. What ends the reading, a missed heartbeat for one, ends the writing at once: amqp091 closes
// the connection only when whoever is writing has given its locks back.
func (s *socket) Read(p []byte) (int, error) {
	n, err := s.Conn.Read(p)
	if err != nil {
		s.Close()
	}
	return n, err
}

// flush is called with the lock held.
func (s *socket) flush() error {
	if len(s.buffer) == 0 {
		return nil
	}
	_, err := s.write(s.buffer)
	s.buffer = s.buffer[:0]
	return err
}

func (s *socket) write(p []byte) (int, error) {
	if err := s.SetWriteDeadline(time.Now().Add(writeTimeout)); err != nil {
		return 0, err
	}
	return s.Conn.Write(p)
}
