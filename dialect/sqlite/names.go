package sqlite

import "strings"

// tables and indexes are the outbox's, without the prefix. In SQL text each stands in braces, without "outbox_".
var (
	tables = []string{
		"outbox", "outbox_dead", "outbox_delayed", "outbox_control", "outbox_lease", "outbox_blocked", "outbox_archive",
	}
	indexes = []string{"outbox_delayed_due", "outbox_archive_delivered", "outbox_dead_dropped"}
)

// tableNames puts the quoted names of the tables in the place of {outbox} and so on. They are those of the main file:
// an outbox in an attached one is not found, because a commit over several files is not atomic in WAL mode.
func tableNames(prefix string) *strings.Replacer { return replacer(prefix, "main.") }

// schemaNames is tableNames for migrations, in which the names of a new index's table and of a renamed table must not
// be qualified.
func schemaNames(prefix string) *strings.Replacer { return replacer(prefix, "") }

func replacer(prefix, file string) *strings.Replacer {
	pairs := []string{"{now}", now, "{blocked_new}", file + `"` + prefix + `outbox_blocked_new"`,
		"{inbox}", file + `"` + prefix + `inbox"`, "{inbox_received}", file + `"` + prefix + `inbox_received"`}
	for _, names := range [][]string{tables, indexes} {
		for _, name := range names {
			pairs = append(pairs, "{"+strings.TrimPrefix(name, "outbox_")+"}", file+`"`+prefix+name+`"`)
		}
	}
	return strings.NewReplacer(pairs...)
}
