package main

import (
	"context"
	"database/sql"
	"maps"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/lockstep-go/lockstep/core"
)

// docs/metrics.md has each metric that a relay at work exposes, with its type and labels, and no other.
func TestEveryMetricIsDocumented(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile("../../docs/metrics.md")
	if err != nil {
		t.Fatal(err)
	}
	documented := map[string]string{}
	for _, row := range regexp.MustCompile("(?m)^\\| `(lockstep_[a-z_]+)` \\| (\\w+) \\| ([^|]*) \\|").FindAllStringSubmatch(string(text), -1) {
		if documented[row[1]] != "" {
			t.Errorf("%s stands there twice", row[1])
		}
		documented[row[1]] = row[2] + " of " + strings.ReplaceAll(row[3], "`", "")
	}
	exposed := exposedAtWork(t)
	for _, name := range slices.Sorted(maps.Keys(exposed)) {
		if documented[name] != exposed[name] {
			t.Errorf("%s: docs/metrics.md says %q, a relay exposes %q", name, documented[name], exposed[name])
		}
		delete(documented, name)
	}
	for name := range documented {
		t.Errorf("docs/metrics.md has %s, which a relay does not expose", name)
	}
}

// reachable stands for a broker that can be asked whether it is there.
type reachable struct{ core.Broker }

func (reachable) Check(context.Context, ...string) error { return nil }

func enqueueOne(t *testing.T, dialect core.Dialect) {
	t.Helper()
	db := dialect.(interface{ DB() *sql.DB }).DB()
	err := core.NewOutbox(dialect, core.OutboxConfig{}).InTx(t.Context(), db, core.InTxOptions{},
		func(context.Context, *sql.Tx) ([]core.Message, error) {
			return []core.Message{{Topic: "orders", Payload: []byte("a book")}}, nil
		})
	if err != nil {
		t.Fatal(err)
	}
}

// exposedAtWork returns the type and the labels of each metric of ours, from a relay that has delivered an event and leads.
func exposedAtWork(t *testing.T) map[string]string {
	t.Helper()
	p := newIdle(t)
	m := p.sites[0].monitor
	m.brokers = map[string]core.Broker{"events": reachable{}} // a file cannot be asked
	enqueueOne(t, m.dialect)
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		_ = p.sites[0].relay.Run(ctx)
	}()
	defer func() { stop(); <-ended }()
	delivered := false // before the metrics are gathered, which are not gathered at one time
	for tick := time.NewTicker(20 * time.Millisecond); ; <-tick.C {
		m.look(t.Context())
		families, err := p.metrics.registry.Gather()
		if err != nil {
			t.Fatal(err)
		}
		exposed, acknowledged := map[string]string{}, 0.0
		for _, f := range families {
			if !strings.HasPrefix(f.GetName(), "lockstep_") {
				continue
			}
			first := f.GetMetric()[0]
			if f.GetName() == "lockstep_acknowledged_total" {
				acknowledged = first.GetCounter().GetValue()
			}
			var labels []string
			for _, label := range first.GetLabel() {
				labels = append(labels, label.GetName())
			}
			exposed[f.GetName()] = strings.ToLower(f.GetType().String()) + " of " + strings.Join(labels, ", ")
		}
		if delivered && exposed["lockstep_lag_seconds"] != "" { // which a standby has not
			return exposed
		}
		delivered = acknowledged > 0
	}
}
