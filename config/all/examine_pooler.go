package all

import (
	"context"
	"database/sql"
	"errors"
	"net/url"
	"reflect"
	"strings"
	"time"
)

// pooling is how a pooler shares the server's processes among its clients, in PgBouncer's words.
type pooling string

const (
	direct      pooling = "" // nothing stands between that speaks the protocol
	session     pooling = "session"
	transaction pooling = "transaction"
	statement   pooling = "statement"
	unseen      pooling = "unseen" // there is a pooler, in session mode or in transaction mode
)

// console is PgBouncer's database of its own, which tells administrators and users in stats_users how it pools.
var console = "pgbouncer"

const (
	// poolerTransactions are begun one beside the other, to see whose process serves whom, and ended, so many rounds.
	poolerTransactions, poolerRounds = 2, 5
	// poolerAnswers bounds all of it: a pool that is full keeps whoever asks waiting.
	poolerAnswers = 5 * time.Second
)

// pooler judges what stands between. What a relay does passes through a pooler of transactions but for LISTEN, and an
// application's transaction through one of statements not at all.
func (d postgresDatabase) pooler(e *examination) {
	mode, err := pooled(e.ctx, d.dsn)
	if err != nil {
		e.unknown("whether a pooler stands between: %w", err)
		return
	}
	if mode == statement {
		e.problem("set pool_mode=transaction or pool_mode=session for this database, or give the server's own address",
			"the pooler refuses transactions (PgBouncer: pool_mode=statement): through it no event can be enqueued beside what it tells of")
		return
	}
	words := "the pooler"
	if d.listen != "" {
		words = "the pooler at listen_host"
		if mode, err = d.listening(e.ctx); err != nil {
			e.warn("name the server itself, HOST:PORT, in listen_host; its database has to have the same name as the pooler's", "the server at listen_host cannot be reached (%v), "+polling, err)
			return
		}
	}
	switch mode {
	case transaction, statement:
		e.warn("add listen_host=HOST:PORT of the server itself to the URL (in Go: ListenDSN)",
			"%s gives one connection's %ss to several processes of the server (PgBouncer: pool_mode=%s), "+polling, words, mode, mode)
	case unseen:
		e.unknown("whether %s keeps one process of the server for a connection, as LISTEN needs (PgBouncer: pool_mode=session): list the user in its stats_users, or "+
			"add listen_host=HOST:PORT of the server itself to the URL", words)
	case direct, session:
	}
}

const polling = "so that LISTEN hears nothing: commits in other processes are found by polling alone"

func (d postgresDatabase) listening(ctx context.Context) (pooling, error) {
	address, err := url.Parse(d.listen)
	if err != nil {
		return direct, nil //nolint:nilerr // the dialect has read it
	}
	return pooled(ctx, address)
}

// pooled finds out what stands between. PgBouncer's console says it, where it answers; else it is seen by what it does.
func pooled(ctx context.Context, address *url.URL) (pooling, error) {
	db, err := sql.Open("postgres", address.String())
	if err != nil {
		return unseen, err
	}
	defer db.Close()
	ctx, cancel := context.WithTimeout(ctx, poolerAnswers)
	defer cancel()
	conn, err := db.Conn(ctx)
	if err != nil {
		return unseen, err
	}
	defer conn.Close()
	own, err := processOf(ctx, conn)
	if err != nil {
		return unseen, err
	}
	announced, err := announcedProcess(conn)
	if err != nil || own.pid == announced {
		return direct, err
	}
	if mode := consoleSays(ctx, address); mode != unseen { // it lists the pool while conn is open
		return mode, nil
	}
	return behaves(ctx, db, conn, own), nil
}

// announcedProcess is the number of the process that whoever is at the other end gave to the connection at its start: the
// server its own, and a pooler one that it made up. The driver keeps it for itself.
func announcedProcess(conn *sql.Conn) (pid int64, err error) {
	err = conn.Raw(func(driverConn any) error {
		v := reflect.Indirect(reflect.ValueOf(driverConn))
		if v.Kind() == reflect.Struct {
			if field := v.FieldByName("pid"); field.IsValid() && field.CanInt() && field.Int() != 0 {
				pid = field.Int()
				return nil
			}
		}
		return errors.New("the driver does not tell which process of the server it was told of")
	})
	return pid, err
}

// process is one of the server that serves a statement.
type process struct {
	pid  int64
	born string // of the server: several hosts have the same numbers
}

type queryer interface {
	QueryRowContext(ctx context.Context, query string, args ...any) *sql.Row
}

func processOf(ctx context.Context, q queryer) (p process, err error) {
	err = q.QueryRowContext(ctx, `SELECT pg_backend_pid(), pg_postmaster_start_time()::text`).Scan(&p.pid, &p.born)
	return p, err
}

// consoleSays asks PgBouncer. The user need not be allowed to ask, and the pooler need not be PgBouncer.
func consoleSays(ctx context.Context, address *url.URL) pooling {
	at := *address
	at.Path = "/" + console
	db, err := sql.Open("postgres", at.String())
	if err != nil {
		return unseen
	}
	defer db.Close()
	ctx, cancel := context.WithTimeout(ctx, poolerAnswers)
	defer cancel()
	rows, err := db.QueryContext(ctx, "SHOW POOLS")
	if err != nil {
		return unseen
	}
	defer rows.Close()
	pools, err := readPools(rows)
	if err != nil {
		return unseen
	}
	user := address.User.Username()
	database := strings.TrimPrefix(address.Path, "/")
	if database == "" {
		database = user
	}
	return modeOf(pools, database, user)
}

// poolRow is a row of SHOW POOLS, by its columns' names: which there are depends on the version.
type poolRow map[string]string

func readPools(rows *sql.Rows) (pools []poolRow, err error) {
	columns, err := rows.Columns()
	if err != nil {
		return nil, err
	}
	for rows.Next() {
		values, into := make([]sql.NullString, len(columns)), make([]any, len(columns))
		for i := range values {
			into[i] = &values[i]
		}
		if err := rows.Scan(into...); err != nil {
			return nil, err
		}
		pool := poolRow{}
		for i, name := range columns {
			pool[name] = values[i].String
		}
		pools = append(pools, pool)
	}
	return pools, rows.Err()
}

// modeOf is the mode of the user's pool of a database. Where PgBouncer logs in as somebody else, there is none of his: then all
// pools of the database have to agree.
func modeOf(pools []poolRow, database, user string) pooling {
	modes, own := map[string]bool{}, ""
	for _, pool := range pools {
		if pool["database"] != database {
			continue
		}
		modes[pool["pool_mode"]] = true
		if pool["user"] == user {
			own = pool["pool_mode"]
		}
	}
	if len(modes) == 1 {
		for mode := range modes {
			own = mode
		}
	}
	switch mode := pooling(own); mode {
	case session, transaction, statement:
		return mode
	default:
		return unseen
	}
}

// behaves sees how a pooler pools. Transactions that are begun beside conn, which is in none, are given its process by a pooler
// that shares processes; or somebody else is quicker, and conn finds another one the next time. That neither happens proves
// nothing.
func behaves(ctx context.Context, db *sql.DB, conn *sql.Conn, own process) pooling {
	for range poolerRounds {
		if mode := shares(ctx, db, own); mode != unseen {
			return mode
		}
		if now, err := processOf(ctx, conn); err == nil && now != own {
			return transaction
		}
	}
	return unseen
}

// shares sees whether transactions are refused, or given a process that a connection beside them has had.
func shares(ctx context.Context, db *sql.DB, had process) pooling {
	var begun []*sql.Tx
	defer func() {
		for _, tx := range begun {
			_ = tx.Rollback() // it has written nothing
		}
	}()
	for range poolerTransactions {
		tx, err := db.BeginTx(ctx, nil)
		if err != nil {
			return refused(ctx, db)
		}
		begun = append(begun, tx)
		switch own, err := processOf(ctx, tx); {
		case err != nil:
			return refused(ctx, db)
		case own == had:
			return transaction
		}
	}
	return unseen
}

// refused judges a pooler by that it does statements alone.
func refused(ctx context.Context, db *sql.DB) pooling {
	if _, err := processOf(ctx, db); err != nil {
		return unseen // it does nothing at all, now
	}
	return statement
}
