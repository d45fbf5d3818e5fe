package crashtest

import (
	"bufio"
	"fmt"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/lockstep-go/lockstep/internal/dose"
)

// memory is what a process takes, in bytes.
type memory struct{ resident, peak int64 }

func (c *child) memory(t *testing.T) memory {
	t.Helper()
	file, err := os.Open(fmt.Sprintf("/proc/%d/status", c.cmd.Process.Pid))
	if err != nil {
		t.Fatalf("read the relay's memory, which needs Linux: %v", err)
	}
	defer file.Close()
	var m memory
	for lines := bufio.NewScanner(file); lines.Scan(); {
		fields := strings.Fields(lines.Text()) // as in "VmHWM: 12345 kB"
		if len(fields) != 3 {
			continue
		}
		kB, _ := strconv.ParseInt(fields[1], 10, 64) // 0 where it is no number
		switch fields[0] {
		case "VmRSS:":
			m.resident = kB << 10
		case "VmHWM:":
			m.peak = kB << 10
		}
	}
	if m.peak == 0 {
		t.Fatal("/proc/PID/status names no peak")
	}
	return m
}

// The peak of a relay's memory while it empties an outbox depends neither on how much waits there nor on how slow the
// broker is.
func TestMemoryIsIndependentOfTheBacklog(t *testing.T) {
	const limit = 100 << 20
	for _, test := range []struct {
		name    string
		rows    int
		payload int
		slow    time.Duration
	}{
		{"many", dose.Of(t, 100_000, 10_000_000), 300, 0},
		{"many, and a slow broker", dose.Of(t, 250_000, 1_000_000), 300, 100 * time.Millisecond},
		{"large", dose.Of(t, 500, 10_000), 256 << 10, 0},
		{"large, and a slow broker", dose.Of(t, 600, 5_000), 256 << 10, 200 * time.Millisecond},
	} {
		t.Run(test.name, func(t *testing.T) {
			dsn := newDatabase(t, onPostgres)
			site := &site{shop: newShop(t, onPostgres, dsn, "orders")}
			_, err := site.shop.db.ExecContext(t.Context(), `INSERT INTO outbox (topic, key, payload)
				SELECT 'orders', (n % 10000)::text, convert_to(repeat('x', $2), 'UTF8') FROM generate_series(1, $1) AS n`,
				test.rows, test.payload)
			if err != nil {
				t.Fatal(err)
			}
			began := time.Now()
			relay := startPlainRelay(t, relayPlan{Database: onPostgres, DSN: dsn, Slow: test.slow})
			relay.awaitCount(t, stored, test.rows)
			peak := relay.memory(t).peak
			t.Logf("result: %d events of %d bytes in %v, peak %d MiB", test.rows, test.payload, time.Since(began).Round(time.Millisecond), peak>>20)
			if peak > limit {
				t.Errorf("the relay's memory: got a peak of %d MiB, want at most %d", peak>>20, limit>>20)
			}
			site.awaitEmpty(t)
			relay.stop(t)
		})
	}
}
