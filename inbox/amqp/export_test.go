package amqp

import (
	"context"
	"net"
	"time"
)

// Socket connects as l does, with other time limits.
func (l *Loop) Socket(ctx context.Context, address string, connectTimeout, writeTimeout time.Duration) (net.Conn, error) {
	impatient := *l
	impatient.connectTimeout, impatient.writeTimeout = connectTimeout, writeTimeout
	return impatient.socket(ctx, "tcp", address)
}
