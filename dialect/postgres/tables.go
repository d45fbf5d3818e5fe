package postgres

import "strings"

// table is one of the outbox's tables: what this package reads and writes there, and what a relay and an operator may
// do for that. The application may INSERT where it enqueues.
type table struct {
	name     string // without the prefix
	relay    string // privileges
	enqueued bool
	columns  string
}

var tables = []table{
	{"outbox", "SELECT, INSERT, UPDATE, DELETE", true,
		"position, id, topic, key, headers, payload, created_at, attempts, retry_at, last_error"},
	{"outbox_delayed", "SELECT, DELETE", true, "position, id, topic, key, headers, payload, created_at, not_before"},
	{"outbox_dead", "SELECT, INSERT, UPDATE, DELETE", false,
		"position, id, topic, key, headers, payload, created_at, attempts, cause, buried_at, dropped_at, drop_reason"},
	{"outbox_archive", "SELECT, INSERT, UPDATE, DELETE", false,
		"position, id, topic, key, headers, payload, created_at, attempts, delivered_at"},
	{"outbox_blocked", "SELECT, INSERT, DELETE", false, "topic, key, position, since"},
	{"outbox_control", "SELECT, UPDATE", false, "one, outbox, schema_version, generation"},
	{"outbox_lease", "SELECT, UPDATE", false,
		"one, holder, epoch, renewals, expires_at, unclean, suspect_position, suspect_id"},
}

// indexes are those that a statement names.
var indexes = []string{"outbox_delayed_due", "outbox_dead_waiting", "outbox_dead_dropped", "outbox_archive_id", "outbox_archive_delivered"}

// tableNames puts the quoted names of the tables in the place of {outbox}, {dead} and so on, and those of the indexes.
func tableNames(config Config) *strings.Replacer {
	schema := ""
	if config.Schema != "" {
		schema = `"` + config.Schema + `".`
	}
	var pairs []string
	add := func(placeholder, name string) {
		pairs = append(pairs, "{"+placeholder+"}", name)
	}
	for _, t := range tables {
		add(strings.TrimPrefix(t.name, "outbox_"), schema+`"`+config.Prefix+t.name+`"`)
	}
	add("inbox", schema+`"`+config.Prefix+`inbox"`)
	add("inbox_received", `"`+config.Prefix+`inbox_received"`)
	for _, index := range indexes {
		name := `"` + config.Prefix + index + `"`
		// It is created in its table's schema, and must not name one.
		add(strings.TrimPrefix(index, "outbox_"), name)
		add("index "+strings.TrimPrefix(index, "outbox_"), schema+name)
	}
	return strings.NewReplacer(pairs...)
}

// placeholder is the table's in a statement.
func (t table) placeholder() string { return "{" + strings.TrimPrefix(t.name, "outbox_") + "}" }
