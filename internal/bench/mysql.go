package bench

import (
	"context"
	"database/sql"
	"errors"
	"strconv"

	mysqldriver "github.com/go-sql-driver/mysql"

	"github.com/lockstep-go/lockstep/dialect/mysql"
)

// mysqlPlace is a database on MySQL or MariaDB.
type mysqlPlace struct{ kind, server, name, address string }

func newMySQL(ctx context.Context, kind, server string) (database, error) {
	c, err := mysqldriver.ParseDSN(server)
	if err != nil {
		return nil, errors.New("the address of " + kind + " cannot be parsed: give user:password@tcp(host:port)/database")
	}
	p := &mysqlPlace{kind: kind, server: server, name: freshName()}
	c.DBName = p.name
	p.address = c.FormatDSN()
	return p, p.administer(ctx, "CREATE DATABASE "+p.name)
}

func (p *mysqlPlace) administer(ctx context.Context, statement string) error {
	db, err := sql.Open("mysql", p.server)
	if err != nil {
		return errors.New("the address of " + p.kind + " is not accepted by its driver")
	}
	defer db.Close()
	_, err = db.ExecContext(ctx, statement)
	return err
}

func (p *mysqlPlace) place() Place { return Place{p.kind, p.address} }

func (p *mysqlPlace) drop(ctx context.Context) error {
	return p.administer(ctx, "DROP DATABASE "+p.name)
}

func (p *mysqlPlace) dialect(archive bool) (dialect, error) {
	return mysql.Open(p.address, mysql.Config{Archive: kept(archive)})
}

func (p *mysqlPlace) pool() (*sql.DB, error) { return sql.Open("mysql", p.address) }

func (p *mysqlPlace) statements() statements {
	s := statements{
		series: "(WITH RECURSIVE series (n) AS (SELECT 0 UNION ALL SELECT n + 1 FROM series WHERE n < %d - 1) SELECT n FROM series) AS series",
		div:    "DIV",
		padded: func(number string) string { return "LPAD(" + number + ", " + strconv.Itoa(seqDigits) + ", '0')" },
		payload: func(text string, more int) string {
			return "CONCAT(" + text + ", REPEAT('x', " + strconv.Itoa(more) + "))"
		},
		concat: func(a, b string) string { return "CONCAT(" + a + ", " + b + ")" },
		key:    "`key`", position: "bigint AUTO_INCREMENT PRIMARY KEY", text: "varchar(255)", bytes: "longblob", timestamp: "datetime(6)",
		now: "now(6)", parameter: func(int) string { return "?" },
		before: "SET SESSION cte_max_recursion_depth = 100000000",
		after:  func(table string) string { return "ANALYZE TABLE " + table },
		suffix: " ENGINE=InnoDB",
	}
	if p.kind == MariaDB {
		s.before = "SET SESSION max_recursive_iterations = 100000000"
	}
	return s
}
