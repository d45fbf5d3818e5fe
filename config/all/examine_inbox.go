package all

import (
	"context"
	"database/sql"
	"encoding/hex"
	"errors"
	"os"
	"strings"
	"time"

	"github.com/lockstep-go/lockstep/config"
	"github.com/lockstep-go/lockstep/dialect/mysql"
)

var (
	_ config.InboxExaminer = postgresDatabase{}
	_ config.InboxExaminer = mysqlDatabase{}
	_ config.InboxExaminer = sqliteDatabase{}
)

// purgeSlack is how far behind a purge may be that runs once an hour, or once a day.
const purgeSlack = 25 * time.Hour

// inbox judges the table by two queries: how many there are of it, and how many seconds ago its oldest row was received.
func (e *examination) inbox(exists, oldest string, retention time.Duration) {
	var tables int
	if !e.ask(exists, &tables) {
		return
	}
	if tables == 0 {
		e.problem("run `lockstep migrate --inbox`, with the same database, schema and prefix", "there is no inbox")
		return
	}
	var seconds float64
	if !e.ask(oldest, &seconds) {
		return
	}
	if age := time.Duration(seconds) * time.Second; age > retention+purgeSlack {
		e.warn("have one consumer call Inbox.Run, or run `lockstep purge --inbox` every day; say --retention where it is another",
			"the oldest id in the inbox was received %v ago, and is remembered for %v: nobody purges it, and it grows without end", age, retention)
	}
}

// ExamineInbox implements [config.InboxExaminer].
func (d postgresDatabase) ExamineInbox(ctx context.Context, retention time.Duration) ([]config.Finding, error) {
	open := func() (*sql.DB, error) { return sql.Open("postgres", d.dsn.String()) }
	return examine(ctx, open, func(e *examination) {
		d.durability(e)
		table := d.table("inbox")
		e.inbox(`SELECT count(to_regclass(`+quoted(table)+`))`,
			`SELECT extract(epoch FROM now() - received_at)::float8 FROM `+table+` ORDER BY received_at LIMIT 1`, retention)
	})
}

// ExamineInbox implements [config.InboxExaminer].
func (d mysqlDatabase) ExamineInbox(ctx context.Context, retention time.Duration) ([]config.Finding, error) {
	open := func() (*sql.DB, error) { return mysql.OpenDB(d.url.String()) }
	return examine(ctx, open, func(e *examination) {
		e.flushes()
		schema, table := "DATABASE()", backquoted(d.prefix+"inbox")
		if d.schema != "" {
			schema, table = hexText(d.schema), backquoted(d.schema)+"."+table
		}
		e.inbox(`SELECT COUNT(*) FROM information_schema.tables WHERE table_schema = `+schema+` AND table_name = `+hexText(d.prefix+"inbox"),
			`SELECT TIMESTAMPDIFF(SECOND, received_at, UTC_TIMESTAMP(6)) + 0e0 FROM `+table+` ORDER BY received_at LIMIT 1`, retention)
	})
}

// hexText makes a text a literal that no mode of MySQL's reads otherwise.
func hexText(text string) string { return "_utf8mb4 x'" + hex.EncodeToString([]byte(text)) + "'" }

// ExamineInbox implements [config.InboxExaminer].
func (d sqliteDatabase) ExamineInbox(ctx context.Context, retention time.Duration) ([]config.Finding, error) {
	if _, err := os.Stat(d.path); errors.Is(err, os.ErrNotExist) && !strings.HasPrefix(d.path, "file:") { // which a connection would make
		return []config.Finding{{
			Problem: "there is no inbox: there is no file " + d.path,
			Cure:    "run `lockstep migrate --inbox`, with the same prefix, which makes the file, unless it is the path that is wrong",
		}}, nil
	}
	conn, err := d.DB().Conn(ctx)
	if err != nil {
		return nil, err
	}
	defer conn.Close()
	e := &examination{ctx: ctx, conn: conn}
	table := d.prefix + "inbox"
	e.inbox(`SELECT count(*) FROM sqlite_master WHERE type = 'table' AND name = `+quoted(table)+` COLLATE NOCASE`,
		`SELECT unixepoch('subsec') - received_at / 1e3 FROM `+ident(table)+` ORDER BY received_at LIMIT 1`, retention)
	return e.findings, joined(e.faults)
}
