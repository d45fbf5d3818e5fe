package config

import (
	"fmt"
	"io"
	"log/slog"
	"time"

	"github.com/lockstep-go/lockstep/core"
)

// Config is what a file, the environment and flags say. [Load] returns it valid, and with every outbox in Outboxes.
type Config struct {
	// OutboxConfig is the one outbox of the short form. Load moves it to Outboxes, with the name "default".
	OutboxConfig `yaml:",inline"`
	// Outboxes are the outboxes to work on.
	Outboxes []OutboxConfig `yaml:"outboxes"`
	// Brokers are brokers by name.
	Brokers map[string]URL `yaml:"brokers"`
	// Listen is the address of health, readiness and metrics. Defaults to 127.0.0.1:9464; "off" is none.
	Listen string `yaml:"listen"`
	// MaxPendingAge is the age of the oldest pending event beyond which the program is not ready. Defaults to 5 min.
	MaxPendingAge time.Duration `yaml:"max_pending_age"`
	// Log says how the program logs.
	Log Log `yaml:"log"`

	origin *origin // what Load read it from
}

// origin is where settings stand, for what is found wrong with them later.
type origin struct {
	file  string
	lines map[string]int // by path
	list  bool           // the outboxes are a list
}

// outboxPath is what the paths of an outbox's settings begin with.
func (config *Config) outboxPath(i int) string {
	switch {
	case config.origin == nil:
		return "outbox " + config.Outboxes[i].Name + ": "
	case config.origin.list:
		return fmt.Sprintf("outboxes[%d].", i)
	}
	return ""
}

// OutboxConfig is one outbox, and where its events go.
type OutboxConfig struct {
	// Name tells outboxes apart in logs and metrics. Required where there are several.
	Name string `yaml:"name"`
	// Database is where the outbox is. Required.
	Database URL `yaml:"database"`
	// Prefix is put before the name of each table. Defaults to none.
	Prefix string `yaml:"prefix"`
	// Schema is the schema of the tables, where the database has schemas. Defaults to the database's own default.
	Schema string `yaml:"schema"`
	// Archive lists the topics whose delivered events are kept; "*" is all. Defaults to none.
	Archive []string `yaml:"archive"`
	// Broker is where events go that no route takes: a URL, or the name of one of Brokers. Required.
	Broker URL `yaml:"broker"`
	// Routes send topics to other brokers. The first pattern that matches decides.
	Routes []Route `yaml:"routes"`
	// Relay says how the relay works.
	Relay Relay `yaml:"relay"`
	// Failures is what becomes of messages that the broker refuses. Topics overrides it by topic.
	Failures Failures            `yaml:"failures"`
	Topics   map[string]Failures `yaml:"topics"`
}

// Route sends the topics that match a pattern to a broker.
type Route struct {
	// Topics is a topic, in which each * stands for any characters.
	Topics string `yaml:"topics"`
	// Broker is a URL, or the name of one of Config.Brokers.
	Broker URL `yaml:"broker"`
}

// Relay is core.RelayConfig as far as a file sets it. Zero is core's default.
type Relay struct {
	Lanes          int           `yaml:"lanes"`
	BatchSize      int           `yaml:"batch_size"`
	BatchBytes     int           `yaml:"batch_bytes"`
	InFlight       int           `yaml:"in_flight"`
	InFlightBytes  int           `yaml:"in_flight_bytes"`
	PollInterval   time.Duration `yaml:"poll_interval"`
	PublishTimeout time.Duration `yaml:"publish_timeout"`
	DrainTimeout   time.Duration `yaml:"drain_timeout"`
	LeaseTTL       time.Duration `yaml:"lease_ttl"`
}

// Failures is core.FailurePolicy. Zero is core's default.
type Failures struct {
	MaxAttempts int           `yaml:"max_attempts"`
	FirstDelay  time.Duration `yaml:"first_delay"`
	MaxDelay    time.Duration `yaml:"max_delay"`
	SkipDead    bool          `yaml:"skip_dead"`
}

// Log says how the program logs.
type Log struct {
	// Level is the least level that is logged: debug, info, warn or error. Defaults to info.
	Level string `yaml:"level"`
	// Format is text or json. Defaults to text.
	Format string `yaml:"format"`
}

// Handler returns what writes logs to w as l says.
func (l Log) Handler(w io.Writer) slog.Handler {
	var level slog.Level
	_ = level.UnmarshalText([]byte(l.Level)) // checked by Load; the empty one is info
	options := &slog.HandlerOptions{Level: level}
	if l.Format == "json" {
		return slog.NewJSONHandler(w, options)
	}
	return slog.NewTextHandler(w, options)
}

func (f Failures) policy() core.FailurePolicy {
	return core.FailurePolicy{MaxAttempts: f.MaxAttempts, FirstDelay: f.FirstDelay, MaxDelay: f.MaxDelay, SkipDead: f.SkipDead}
}

// relayConfig returns o's settings as core has them.
func (o *OutboxConfig) relayConfig() core.RelayConfig {
	topics := make(map[string]core.FailurePolicy, len(o.Topics))
	for topic, failures := range o.Topics {
		topics[topic] = failures.policy()
	}
	r := o.Relay
	return core.RelayConfig{
		Lanes: r.Lanes, BatchSize: r.BatchSize, BatchBytes: r.BatchBytes, InFlight: r.InFlight, InFlightBytes: r.InFlightBytes,
		PollInterval: r.PollInterval, PublishTimeout: r.PublishTimeout, DrainTimeout: r.DrainTimeout, LeaseTTL: r.LeaseTTL,
		Failures: o.Failures.policy(), Topics: topics,
	}
}
