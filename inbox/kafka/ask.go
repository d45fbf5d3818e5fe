package kafka

import (
	"context"
	"errors"
	"fmt"
	"net"
	"slices"

	kafkago "github.com/segmentio/kafka-go"
)

// brokers is Config.Brokers with the one that answered last before the others: kafka-go takes the first that it can connect to, each
// time, and waits for as long as that one says nothing.
func (l *Loop) brokers() []string {
	answered := l.answered.Load()
	if answered == nil {
		return l.config.Brokers
	}
	others := slices.DeleteFunc(slices.Clone(l.config.Brokers), func(broker string) bool { return broker == *answered })
	return append([]string{*answered}, others...)
}

// ask puts a question to one broker after the other, until one answers. Each has a time of its own, or a silent one would use up
// that of all.
func (l *Loop) ask(ctx context.Context, question func(ctx context.Context, dialer *kafkago.Dialer, broker string) error) error {
	var failures []error
	for _, broker := range l.brokers() {
		err := l.askOne(ctx, broker, question)
		if err == nil {
			l.answered.Store(&broker)
			return nil
		}
		failures = append(failures, fmt.Errorf("%s: %w", broker, err))
		if ctx.Err() != nil {
			break
		}
	}
	return errors.Join(failures...)
}

func (l *Loop) askOne(
	ctx context.Context, broker string, question func(ctx context.Context, dialer *kafkago.Dialer, broker string) error,
) error {
	ctx, cancel := context.WithTimeout(ctx, askTimeout)
	defer cancel()
	dialer := *l.config.Dialer
	dial := dialer.DialFunc
	if dial == nil {
		dial = (&net.Dialer{LocalAddr: dialer.LocalAddr, FallbackDelay: dialer.FallbackDelay, KeepAlive: dialer.KeepAlive}).DialContext
	}
	dialer.DialFunc = func(dialing context.Context, network, address string) (net.Conn, error) {
		conn, err := dial(dialing, network, address)
		if err == nil {
			context.AfterFunc(ctx, func() { conn.Close() }) // kafka-go does not mind ctx while it logs in and asks
		}
		return conn, err
	}
	err := question(ctx, &dialer, broker)
	if err != nil && ctx.Err() != nil {
		return fmt.Errorf("no answer in %v: %w", askTimeout, err)
	}
	return err
}
