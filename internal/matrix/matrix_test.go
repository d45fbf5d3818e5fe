package matrix

import (
	"os"
	"testing"

	"go.uber.org/goleak"

	"github.com/lockstep-go/lockstep/conformance"
)

func TestMain(m *testing.M) {
	// Sarama's metrics have a clock that nobody can stop.
	goleak.VerifyTestMain(m, goleak.IgnoreTopFunction("github.com/rcrowley/go-metrics.(*meterArbiter).tick"))
}

// TestMatrix runs every combination, one after another: their checks restart the servers.
func TestMatrix(t *testing.T) {
	var rows, columns []string
	for _, b := range brokers {
		columns = append(columns, b.name)
	}
	results := map[cell]conformance.Report{}
	for _, d := range databases {
		rows = append(rows, d.name)
		for _, b := range brokers {
			var report *conformance.Report
			t.Run(d.name+" to "+b.name, func(t *testing.T) { report = conformance.TestPair(t, d.open, b.open) })
			if report != nil { // unless -run left it out
				results[cell{d.name, b.name}] = *report
			}
		}
	}
	if path := os.Getenv(readmeVariable); path != "" {
		writeTable(t, path, table(rows, columns, results))
	}
}
