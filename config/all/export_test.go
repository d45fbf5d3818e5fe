package all

import (
	"context"
	"net"
	"testing"
	"time"

	"github.com/lockstep-go/lockstep/broker/kafka"
	"github.com/lockstep-go/lockstep/config"
)

// Writes is what doctor says of a server with these settings.
func Writes(fsync, pages string) []config.Finding {
	e := &examination{}
	e.writes(fsync, pages)
	return e.findings
}

// NothingMayWait makes every limit of doctor's that takes long or much to reach one that is reached at once.
func NothingMayWait(t *testing.T) {
	open, dead, wal := maxOpen, maxDeadRows, maxWAL
	t.Cleanup(func() { maxOpen, maxDeadRows, maxWAL = open, dead, wal })
	maxOpen, maxDeadRows, maxWAL = 0, 0, 0
}

// NoConsole has PgBouncer's console refuse whoever asks, as it does most users.
func NoConsole(t *testing.T) {
	own := console
	t.Cleanup(func() { console = own })
	console = "lockstep_no_console"
}

// ClockAhead is a fake clock of this machine.
func ClockAhead(t *testing.T, by time.Duration) {
	own := now
	t.Cleanup(func() { now = own })
	now = func() time.Time { return own().Add(by) }
}

// KafkaThrough is the Kafka of an address whose connections are made by dial.
func KafkaThrough(address string, dial func(ctx context.Context, network, address string) (net.Conn, error)) config.ScratchBroker {
	return kafkaBroker{config: kafka.Config{Brokers: []string{address}, Dial: dial}}
}
