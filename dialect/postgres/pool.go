package postgres

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"fmt"
	"net"
	"slices"
	"strings"
	"time"

	"github.com/lib/pq"

	"github.com/lockstep-go/lockstep/core"
)

const (
	// poolStatementTimeout is what a pool's statements may take on the server, unless the DSN says otherwise.
	poolStatementTimeout = 30 * time.Second

	// poolGrace is how much longer than that a silent server is waited for.
	poolGrace = 2 * time.Second
)

// OpenDB opens a pool for the application's own transactions, so that nothing in it waits for ever. Any other pool, of
// any driver, does as well: see [Dialect.CheckDB].
//
//   - Statements end after 30 s on the server (statement_timeout), and the connection to a server that is silent for 2 s
//     longer is given up: lib/pq ignores the context then. A DSN with a statement_timeout of its own sets both, and 0 is no
//     bound.
//   - A connection is dialled within 10 s, unless the DSN has a connect_timeout, and kept alive by TCP.
//   - Transactions are READ COMMITTED, unless the DSN or their options say otherwise.
//
// These are parameters of the connection's start. PgBouncer refuses what its ignore_startup_parameters does not name, and does
// not pass on what it names.
func OpenDB(dsn string) (*sql.DB, error) {
	config, err := pq.NewConfig(dsn)
	if err != nil {
		return nil, errors.New("postgres: " + badDSN)
	}
	if config.Runtime == nil {
		config.Runtime = map[string]string{}
	}
	setDefault(config.Runtime, "default_transaction_isolation", "read committed")
	setDefault(config.Runtime, "statement_timeout", integer(poolStatementTimeout.Milliseconds()))
	limit, err := milliseconds(config.Runtime["statement_timeout"])
	if err != nil {
		return nil, fmt.Errorf("postgres: statement_timeout: %w", err)
	}
	if config.ConnectTimeout <= 0 {
		config.ConnectTimeout = dialTimeout
	}
	connector, err := pq.NewConnectorConfig(config)
	if err != nil {
		return nil, errors.New("postgres: " + badDSN)
	}
	connector.Dialer(patientDialer{limit})
	return sql.OpenDB(pooled{connector}), nil
}

// pooled says what to do where a pooler refuses what OpenDB asks for.
type pooled struct{ driver.Connector }

// Connect implements [driver.Connector].
func (p pooled) Connect(ctx context.Context) (driver.Conn, error) {
	conn, err := p.Connector.Connect(ctx)
	var refused *pq.Error
	if errors.As(err, &refused) && refused.Code == "08P01" && strings.Contains(refused.Message, "startup parameter") {
		err = fmt.Errorf("%w: add default_transaction_isolation and statement_timeout to PgBouncer's ignore_startup_parameters, "+
			"or take a pool of your own, which CheckDB looks at", err)
	}
	return conn, err
}

func setDefault(parameters map[string]string, name, value string) {
	if parameters[name] == "" {
		parameters[name] = value
	}
}

// milliseconds reads a duration as PostgreSQL writes it.
func milliseconds(s string) (time.Duration, error) {
	number := strings.TrimRight(s, "abcdefghijklmnopqrstuvwxyz ")
	unit := strings.TrimSpace(s[len(number):])
	switch unit {
	case "":
		unit = "ms"
	case "min":
		unit = "m"
	}
	d, err := time.ParseDuration(strings.TrimSpace(number) + unit)
	if err != nil || d < 0 {
		return 0, fmt.Errorf("%q is no duration: write 30s, 500ms or 2min", s)
	}
	return d, nil
}

// patientDialer dials connections whose reads and writes end some time after the statement that they wait for.
type patientDialer struct{ limit time.Duration }

var _ pq.DialerContext = patientDialer{}

func (d patientDialer) DialContext(ctx context.Context, network, address string) (net.Conn, error) {
	conn, err := (&net.Dialer{Timeout: dialTimeout}).DialContext(ctx, network, address)
	if err != nil || d.limit == 0 {
		return conn, err
	}
	return patientConn{conn, d.limit + poolGrace}, nil
}

// Dial implements pq.Dialer. lib/pq calls DialContext instead.
func (d patientDialer) Dial(network, address string) (net.Conn, error) {
	return d.DialContext(context.Background(), network, address)
}

// DialTimeout implements pq.Dialer. lib/pq calls DialContext instead.
func (d patientDialer) DialTimeout(network, address string, timeout time.Duration) (net.Conn, error) {
	ctx, cancel := context.WithTimeout(context.Background(), timeout)
	defer cancel()
	return d.DialContext(ctx, network, address)
}

type patientConn struct {
	net.Conn
	limit time.Duration
}

func (c patientConn) Read(b []byte) (int, error) {
	if err := c.SetReadDeadline(time.Now().Add(c.limit)); err != nil {
		return 0, err
	}
	return c.Conn.Read(b)
}

func (c patientConn) Write(b []byte) (int, error) {
	if err := c.SetWriteDeadline(time.Now().Add(c.limit)); err != nil {
		return 0, err
	}
	return c.Conn.Write(b)
}

// identity tells whether two connections see one table: of the same server, since its start, of the same database.
const identity = `concat_ws(' ', current_database(), to_regclass({outbox_literal})::oid, extract(epoch FROM pg_postmaster_start_time()))`

// poolFacts are what decides about an application's transaction.
const poolFacts = `SELECT ` + identity + `, to_regclass({outbox_literal}) IS NOT NULL, current_setting('transaction_isolation'),
  pg_is_in_recovery() OR current_setting('transaction_read_only')::boolean,
  coalesce(has_any_column_privilege(to_regclass({outbox_literal}), 'INSERT')
    AND has_any_column_privilege(to_regclass({delayed_literal}), 'INSERT'), false),
  current_user, now()::text`

// CheckDB reports whether events that are enqueued in transactions of db get into this outbox: that db reaches the same
// database and sees the same table, that it can write and may, and that its transactions are ones. It also refuses a
// default isolation level other than READ COMMITTED: at the higher ones a transaction that waited for a key lock goes on
// with what it saw before it waited. An application that knows what it does there need not call CheckDB.
//
// What is wrong is a [*core.SetupError], or several of them joined; any other error is a connection's. Of a *sqlx.DB pass
// the DB in it.
func (d *Dialect) CheckDB(ctx context.Context, db *sql.DB) error {
	s, err := d.Open(ctx)
	if err != nil {
		return fmt.Errorf("check the pool: %w", err)
	}
	defer s.Close()
	var own string
	if err := s.(*session).queryRow(ctx, `SELECT `+d.literals(identity), &own); err != nil {
		return fmt.Errorf("check the pool: %w", err)
	}
	if err := d.checkTx(ctx, db, own); err != nil {
		return fmt.Errorf("check the pool: %w", err)
	}
	return nil
}

// literals puts the tables' names, as texts, into a statement.
func (d *Dialect) literals(statement string) string {
	return strings.NewReplacer("{outbox_literal}", text(d.names.Replace("{outbox}")),
		"{delayed_literal}", text(d.names.Replace("{delayed}"))).Replace(statement)
}

func (d *Dialect) checkTx(ctx context.Context, db *sql.DB, own string) error {
	tx, err := db.BeginTx(ctx, nil)
	if err != nil {
		return refusedBegin(err)
	}
	defer tx.Rollback()
	var f poolFact
	err = tx.QueryRowContext(ctx, d.literals(poolFacts)).Scan(&f.identity, &f.visible, &f.isolation, &f.readOnly, &f.mayInsert, &f.role, &f.begun)
	if err != nil {
		return err
	}
	var again string
	if err := tx.QueryRowContext(ctx, `SELECT now()::text`).Scan(&again); err != nil {
		return err
	}
	return f.wrong(d.names.Replace("{outbox}"), own, again)
}

// refusedBegin explains what a standby says to BEGIN: a driver asked for a level or a mode that it has not.
func refusedBegin(err error) error {
	var coded interface{ SQLState() string }
	if errors.As(err, &coded) && slices.Contains([]string{"0A000", "25001", "25006"}, coded.SQLState()) {
		return &core.SetupError{Problem: readOnly, Cure: writeElsewhere, Err: err}
	}
	return err
}

type poolFact struct {
	identity, isolation, role, begun string
	visible, readOnly, mayInsert     bool
}

func (f poolFact) wrong(outbox, own, again string) error {
	var wrong []error
	refuse := func(problem, cure string) { wrong = append(wrong, &core.SetupError{Problem: problem, Cure: cure}) }
	switch {
	case !f.visible:
		refuse("the pool does not see the outbox "+outbox,
			"connect it to the same database, with the same search_path or with Config.Schema, as a role with USAGE on the schema")
	case f.identity != own:
		refuse("the pool sees another outbox "+outbox+" than the dialect, or reaches another server",
			"give both the same database and search_path, or set Config.Schema")
	case !f.mayInsert:
		refuse("the role "+f.role+" may not INSERT into the outbox "+outbox+" or its delayed events", "run what Grants prints")
	}
	if f.readOnly {
		refuse(readOnly, writeElsewhere)
	}
	if f.isolation != "read committed" && f.isolation != "read uncommitted" {
		refuse("the pool's default isolation level is "+f.isolation+": what a transaction reads after it waited for a key lock is from before",
			"set default_transaction_isolation to read committed, and ask for more where a transaction needs it (InTxOptions.Tx)")
	}
	if f.begun != again {
		refuse("the pool's transactions are none: two statements of one ran in different ones",
			"set the pooler to pool_mode=transaction or session")
	}
	return errors.Join(wrong...)
}
