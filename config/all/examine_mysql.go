package all

import (
	"context"
	"database/sql"
	"net/url"
	"strings"
	"time"

	"github.com/lockstep-go/lockstep/config"
	"github.com/lockstep-go/lockstep/dialect/mysql"
)

// mysqlDatabase is the dialect, and what doctor asks of it.
type mysqlDatabase struct {
	*mysql.Dialect
	url            *url.URL
	schema, prefix string
}

// Examine implements [config.Examiner].
func (d mysqlDatabase) Examine(ctx context.Context) ([]config.Finding, error) {
	open := func() (*sql.DB, error) { return mysql.OpenDB(d.url.String()) }
	return examine(ctx, open, func(e *examination) {
		e.flushes()
		var packet int64
		if e.ask("SELECT @@global.max_allowed_packet", &packet) && packet < 4<<20 {
			e.warn("set max_allowed_packet to 16 MiB or more", "max_allowed_packet is %d: several large events in one transaction are refused", packet)
		}
		e.transactions()
		e.clock("SELECT UNIX_TIMESTAMP(NOW(6)) + 0e0")
	})
}

// lacksPrivilege is how the driver's text begins where the server refuses what takes a privilege that is none of a table's.
const lacksPrivilege = "Error 1227 "

// transactions finds one that is open for long. Without the privilege PROCESS MySQL refuses the list, and MariaDB has shown an
// empty one; InnoDB's status both refuse.
func (e *examination) transactions() {
	_, err := e.conn.ExecContext(e.ctx, "SHOW ENGINE INNODB STATUS")
	switch {
	case err == nil:
	case strings.HasPrefix(err.Error(), lacksPrivilege):
		e.withoutProcess()
		return
	default:
		e.faults = append(e.faults, err)
		return
	}
	var seconds int64
	if e.ask("SELECT TIMESTAMPDIFF(SECOND, trx_started, NOW()) FROM information_schema.innodb_trx ORDER BY trx_started LIMIT 1", &seconds) && seconds >= int64(maxOpen/time.Second) {
		e.warn("find it in information_schema.innodb_trx, and KILL it", "a transaction is open for %d minutes: what was deleted since is not purged, and reads become slow", seconds/60)
	}
}

func (e *examination) withoutProcess() {
	var user string
	if e.ask("SELECT CURRENT_USER()", &user) {
		at := strings.LastIndex(user, "@")
		e.unknown("whether a transaction is open for long: GRANT PROCESS ON *.* TO %s@%s, or run doctor as a user who has it", quoted(user[:at]), quoted(user[at+1:]))
	}
}

// flushes judges how durable a commit is.
func (e *examination) flushes() {
	var flush, binlog, logging int
	if !e.ask("SELECT @@innodb_flush_log_at_trx_commit, @@sync_binlog, @@log_bin", &flush, &binlog, &logging) {
		return
	}
	if flush != 1 {
		e.problem("SET PERSIST innodb_flush_log_at_trx_commit = 1 (MariaDB: in my.cnf)",
			"innodb_flush_log_at_trx_commit is %d: a crash loses what was committed in its last second: orders with their events, and effects whose messages are acknowledged", flush)
	}
	if logging == 1 && binlog != 1 {
		e.warn("SET PERSIST sync_binlog = 1 (MariaDB: in my.cnf)",
			"sync_binlog is %d: after a crash of the machine, replicas may lack or have what the server has not", binlog)
	}
}
