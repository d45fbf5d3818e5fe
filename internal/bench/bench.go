package bench

import (
	"context"
	"fmt"
	"os"
	"slices"
)

// bench is one run.
type bench struct {
	config   Config
	servers  map[string]int // processes, by the server's name
	profiles int
}

// Run measures what config asks for. What was measured before an error is in the report.
func Run(ctx context.Context, config Config) (*Report, error) {
	config, err := config.withDefaults()
	if err != nil {
		return nil, fmt.Errorf("bench config: %w", err)
	}
	if config.ProfileDir != "" {
		if err := os.MkdirAll(config.ProfileDir, 0o750); err != nil {
			return nil, fmt.Errorf("make a place for profiles: %w", err)
		}
	}
	b := &bench{config: config, servers: map[string]int{}}
	report := &Report{Machine: machine(), Settings: Settings{
		Events: config.Events, Keys: config.Keys, PayloadBytes: config.PayloadBytes, Rounds: config.Rounds, Seconds: config.For.Seconds(),
	}}
	for _, section := range []struct {
		name string
		run  func(context.Context) (Section, error)
	}{
		{Drain, b.drain},
		{Latency, b.measureLatency},
		{Writes, b.measureWrites},
		{Idle, b.measureIdle},
		{HotKey, b.hotKey},
		{Snapshot, b.snapshot},
		{Blocked, b.blocked},
		{ArchiveIn, b.archived},
		{Growth, b.growth},
	} {
		if !slices.Contains(config.Only, section.name) {
			continue
		}
		s, err := section.run(ctx)
		report.Sections = append(report.Sections, s)
		if err != nil {
			return report, err
		}
	}
	return report, nil
}

func (b *bench) say(format string, args ...any) { b.config.Progress(fmt.Sprintf(format, args...)) }
