package kafka

import (
	"context"
	"errors"
	"net"
	"time"
)

const (
	// dialTimeout bounds the making of a connection, with all that is said before it can be used.
	dialTimeout = 5 * time.Second

	// connectTimeout bounds what TCP needs of that. The system knocks again after one second, then after two, four and
	// so on: whoever waits for longer than this is late at a server that takes connections again, as one that stood
	// still does, or one whose queue was full.
	connectTimeout = 2 * time.Second
)

// dialFunc makes a connection.
type dialFunc = func(ctx context.Context, network, address string) (net.Conn, error)

// dialer makes connections for kafka-go, by dial or, where that is nil, by TCP. Their context ends when kafka-go has logged
// in. It does not bound the login by it: on a cluster that falls silent there, each try would leave a goroutine behind for
// as long as the silence lasts.
func dialer(dial dialFunc) dialFunc {
	if dial == nil {
		dial = (&net.Dialer{Timeout: connectTimeout}).DialContext
	}
	return func(ctx context.Context, network, address string) (net.Conn, error) {
		conn, err := dial(ctx, network, address)
		if err != nil {
			return nil, err
		}
		context.AfterFunc(ctx, func() {
			if errors.Is(ctx.Err(), context.DeadlineExceeded) {
				conn.Close()
			}
		})
		return conn, nil
	}
}
