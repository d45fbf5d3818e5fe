package kafka

import (
	"context"
	"errors"
	"net"
	"time"
)

// dialTimeout bounds the making of a connection, with all that is said before it can be used.
const dialTimeout = 5 * time.Second

// dial makes a connection for kafka-go, whose context ends when it has logged in. kafka-go does not bound the login by
// it: on a cluster that falls silent there, each try would leave a goroutine behind for as long as the silence lasts.
func dial(ctx context.Context, network, address string) (net.Conn, error) {
	conn, err := (&net.Dialer{}).DialContext(ctx, network, address)
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
