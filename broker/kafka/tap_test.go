package kafka_test

import (
	"context"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"sync/atomic"
	"testing"
	"time"

	"github.com/lockstep-go/lockstep/broker/kafka"
)

// tap sits on a broker's connections and plays tricks on produce requests: the network's, told apart from the server's.
type tap struct {
	trick atomic.Int32 // one of the constants below; taken by the next produce request
	holds chan *tapped // requests that are held
	lost  chan []byte  // answers that were lost
}

const (
	none    = iota
	hold    // the request stays on the way until release
	lose    // the answer is lost, and the connection with it
	loseAll // so is each later one
)

func newTap(b *kafka.Broker) *tap {
	t := &tap{holds: make(chan *tapped, 10), lost: make(chan []byte, 100)}
	b.Dial(func(ctx context.Context, network, address string) (net.Conn, error) {
		conn, err := (&net.Dialer{}).DialContext(ctx, network, address)
		if err != nil {
			return nil, err
		}
		return &tapped{Conn: conn, tap: t}, nil
	})
	return t
}

// tapped is a connection, used by one goroutine at a time, as kafka-go does.
type tapped struct {
	net.Conn
	tap     *tap
	trick   int32
	request []byte // what is held
}

func (c *tapped) Write(p []byte) (int, error) {
	const apiKeyAt = 4
	if len(p) > apiKeyAt+2 && binary.BigEndian.Uint16(p[apiKeyAt:]) == produceKey && c.trick == none {
		if c.trick = c.tap.trick.Load(); c.trick != loseAll {
			c.tap.trick.CompareAndSwap(c.trick, none)
		}
	}
	if c.trick == hold {
		c.request = append(c.request, p...)
		return len(p), nil
	}
	return c.Conn.Write(p)
}

func (c *tapped) Read(p []byte) (int, error) {
	switch c.trick {
	case hold:
		c.tap.holds <- c
		return 0, errors.New("cut while the request was on its way")
	case lose, loseAll:
		answer, err := readFrame(c.Conn)
		if err != nil {
			return 0, err
		}
		c.tap.lost <- answer
		c.Conn.Close() // kafka-go reads on after an error
		return 0, io.EOF
	}
	return c.Conn.Read(p)
}

// Close keeps what is held: its way to the server is still open.
func (c *tapped) Close() error {
	if c.trick == hold {
		return nil
	}
	return c.Conn.Close()
}

// release lets the held request arrive, and returns the code that the server answers it with.
func (c *tapped) release(t *testing.T) int16 {
	t.Helper()
	defer c.Conn.Close()
	if err := c.SetDeadline(time.Now().Add(longEnough)); err != nil {
		t.Fatal(err)
	}
	if _, err := c.Conn.Write(c.request); err != nil {
		t.Fatal(err)
	}
	answer, err := readFrame(c.Conn)
	if err != nil {
		t.Fatal(err)
	}
	return codeOf(answer)
}

func readFrame(r io.Reader) ([]byte, error) {
	head := make([]byte, 4)
	if _, err := io.ReadFull(r, head); err != nil {
		return nil, err
	}
	body := make([]byte, binary.BigEndian.Uint32(head))
	_, err := io.ReadFull(r, body)
	return body, err
}

// codeOf returns the error code in the answer to a produce request for one partition.
func codeOf(answer []byte) int16 {
	return int16(binary.BigEndian.Uint16(answer[codeAt(answer):])) //nolint:gosec // it is one
}

// codeAt finds the error code in the answer to a produce request (up to version 8) for one partition: after correlation
// id, count of topics, name, count of partitions and partition.
func codeAt(answer []byte) int {
	name := 4 + 4
	return name + 2 + int(binary.BigEndian.Uint16(answer[name:])) + 4 + 4
}
