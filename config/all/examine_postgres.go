package all

import (
	"context"
	"database/sql"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/lockstep-go/lockstep/config"
	"github.com/lockstep-go/lockstep/dialect/postgres"
)

// postgresDatabase is the dialect, and what doctor asks of it.
type postgresDatabase struct {
	*postgres.Dialect
	dsn            *url.URL
	listen         string // where LISTEN goes, if it has an address of its own
	schema, prefix string
}

// Examine implements [config.Examiner].
func (d postgresDatabase) Examine(ctx context.Context) ([]config.Finding, error) {
	open := func() (*sql.DB, error) { return sql.Open("postgres", d.dsn.String()) }
	return examine(ctx, open, func(e *examination) {
		d.durability(e)
		d.pooler(e)
		d.vacuum(e)
		d.positions(e)
		e.clock("SELECT extract(epoch FROM clock_timestamp())::float8")
	})
}

func (d postgresDatabase) durability(e *examination) {
	var commit, fsync, pages, isolation, role string
	if !e.ask(`SELECT current_setting('synchronous_commit'), current_setting('fsync'), current_setting('full_page_writes'),
		current_setting('default_transaction_isolation'), current_setting('session_replication_role')`, &commit, &fsync, &pages, &isolation, &role) {
		return
	}
	if commit == "off" {
		e.problem("set synchronous_commit=on, for the database or the application's role at least",
			"synchronous_commit is off: a crash of the server loses what was committed in its last moments: orders with their events, and effects whose messages are acknowledged")
	}
	e.writes(fsync, pages)
	if isolation != "read committed" {
		e.warn("set default_transaction_isolation='read committed' for the application's role, or have the transactions on a key update the same row",
			"transactions are %s by default: one that waited for a key's lock goes on with what it saw before", isolation)
	}
	if role != "origin" {
		e.warn("unset session_replication_role", "session_replication_role is %s: triggers and constraints do not hold", role)
	}
	var replicas int
	var standbys string
	if e.ask(`SELECT count(*), current_setting('synchronous_standby_names') FROM pg_stat_replication`, &replicas, &standbys) && replicas > 0 && standbys == "" {
		e.warn("set synchronous_standby_names, or accept it, and read docs/runbook.md for what to do after a failover",
			"replication is asynchronous: a failover loses what the standby did not have, orders and events together")
	}
}

// writes judges how the server writes.
func (e *examination) writes(fsync, pages string) {
	if fsync == "off" || pages == "off" {
		e.problem("set fsync=on and full_page_writes=on", "fsync is %s and full_page_writes is %s: a crash of the machine may destroy the database", fsync, pages)
	}
}

func (d postgresDatabase) vacuum(e *examination) {
	table := `to_regclass(` + quoted(d.table("outbox")) + `)`
	var running, options string
	var live, dead int64
	if e.ask(`SELECT current_setting('autovacuum'), coalesce(array_to_string(c.reloptions, ','), ''), coalesce(s.n_live_tup, 0), coalesce(s.n_dead_tup, 0)
		FROM pg_class c LEFT JOIN pg_stat_all_tables s ON s.relid = c.oid WHERE c.oid = `+table, &running, &options, &live, &dead) {
		if running == "off" || strings.Contains(options, "autovacuum_enabled=false") || strings.Contains(options, "autovacuum_enabled=off") {
			e.problem("set autovacuum=on, for the outbox's tables at least", "autovacuum is off: the outbox grows without end, and reads become slow")
		} else if dead > maxDeadRows && dead > 10*live {
			e.warn("end the oldest transaction (pg_stat_activity, pg_prepared_xacts), or drop an unused replication slot, that holds vacuum back",
				"the outbox has %d dead rows for %d live ones: vacuum does not keep up", dead, live)
		}
	}
	openSeconds := strconv.Itoa(int(maxOpen/time.Second)) + " seconds"
	var pid int
	var minutes float64
	if e.ask(`SELECT pid, extract(epoch FROM clock_timestamp() - xact_start)::float8 / 60 FROM pg_stat_activity
		WHERE datname = current_database() AND xact_start < clock_timestamp() - interval '`+openSeconds+`' AND backend_type = 'client backend'
		ORDER BY xact_start LIMIT 1`, &pid, &minutes) {
		e.warn("find out what it does, and end it: SELECT pg_terminate_backend(…)",
			"a transaction is open for %.0f minutes (pid %d): vacuum removes nothing that was deleted since", minutes, pid)
	}
	var role string
	if e.ask(`SELECT quote_ident(current_user) WHERE NOT pg_has_role('pg_read_all_stats', 'USAGE') AND EXISTS
		(SELECT FROM pg_stat_activity WHERE datname = current_database() AND usesysid IS NOT NULL AND NOT pg_has_role(usesysid, 'USAGE'))`, &role) {
		e.unknown("whether another role's transaction is open for long: GRANT pg_read_all_stats TO %s, or run doctor as a role that has it", role)
	}
	var gid string
	if e.ask(`SELECT gid FROM pg_prepared_xacts WHERE database = current_database() AND prepared < clock_timestamp() - interval '`+openSeconds+`' ORDER BY prepared LIMIT 1`, &gid) {
		e.warn("COMMIT PREPARED or ROLLBACK PREPARED it", "the prepared transaction %s is forgotten: its positions stay open, and vacuum is held back", gid)
	}
}

// positions finds a sequence that is behind its table, as a restore of a part leaves it. pg_sequence_last_value would tell
// neither a sequence that stands before its next value from one that was never used, nor, since PostgreSQL 18, from one
// that the role may not read.
func (d postgresDatabase) positions(e *examination) {
	var sequence, role string
	var readable bool
	table := d.table("outbox")
	if !e.ask(`SELECT s.name, quote_ident(current_user), has_sequence_privilege(s.name, 'SELECT')
		FROM pg_get_serial_sequence(`+quoted(table)+`, 'position') AS s (name)`, &sequence, &role, &readable) {
		return
	}
	if !readable {
		e.unknown("whether the sequence of positions is behind the outbox: GRANT SELECT ON SEQUENCE %s TO %s, or run doctor as its owner", sequence, role)
		return
	}
	var last, highest int64
	if e.ask(`SELECT last_value - (NOT is_called)::integer, coalesce((SELECT max(position) FROM `+table+`), 0) FROM `+sequence, &last, &highest) && last < highest {
		e.problem(d.moveForward(sequence)+"; see docs/runbook.md, A database was restored from a backup",
			"the sequence of positions stands at %d and the outbox has %d: it was restored in part, and inserts will fail or break the order", last, highest)
	}
}

// moveForward is what moves a sequence behind every position that is known to be taken. It never moves one back, were it
// carried out twice, too late or beside writers: positions of events that are delivered are nowhere but in the sequence.
func (d postgresDatabase) moveForward(sequence string) string {
	taken := "(SELECT last_value FROM " + sequence + ")"
	for _, name := range []string{"outbox", "outbox_dead", "outbox_archive"} {
		taken += ", (SELECT max(position) FROM " + d.table(name) + ")"
	}
	return "as their owner: BEGIN; LOCK TABLE " + d.table("outbox") + " IN SHARE MODE; SELECT setval(" + quoted(sequence) + ", greatest(" + taken + ")); COMMIT"
}

// table is a table's quoted name, with its prefix, and its schema where one is configured.
func (d postgresDatabase) table(name string) string {
	name = ident(d.prefix + name)
	if d.schema != "" {
		name = ident(d.schema) + "." + name
	}
	return name
}
