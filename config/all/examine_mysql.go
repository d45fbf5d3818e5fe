package all

import (
	"context"
	"database/sql"
	"net/url"
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
		var seconds int64
		// Without the privilege PROCESS MySQL refuses this, so that it is unknown; MariaDB shows the user an empty list.
		if e.ask("SELECT TIMESTAMPDIFF(SECOND, trx_started, NOW()) FROM information_schema.innodb_trx ORDER BY trx_started LIMIT 1", &seconds) && seconds >= int64(maxOpen/time.Second) {
			e.warn("find it in information_schema.innodb_trx, and KILL it", "a transaction is open for %d minutes: what was deleted since is not purged, and reads become slow", seconds/60)
		}
		e.clock("SELECT UNIX_TIMESTAMP(NOW(6)) + 0e0")
	})
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
