package bench

import (
	"context"
	"crypto/rand"
	"database/sql"
	"errors"
	"net/url"
	"strconv"
	"strings"

	"github.com/lockstep-go/lockstep/dialect/postgres"
)

// freshName needs no quoting anywhere.
func freshName() string { return "lockstep_bench_" + strings.ToLower(rand.Text()) }

// postgresPlace is a schema.
type postgresPlace struct{ server, schema, address string }

func newPostgres(ctx context.Context, server string) (database, error) {
	u, err := url.Parse(server)
	if err != nil || u.Scheme == "" {
		return nil, errors.New("the address of PostgreSQL cannot be parsed: give a postgres:// URL") // the cause may hold a password
	}
	p := &postgresPlace{server: server, schema: freshName()}
	q := u.Query()
	q.Set("search_path", p.schema)
	u.RawQuery = q.Encode()
	p.address = u.String()
	return p, p.administer(ctx, "CREATE SCHEMA "+p.schema)
}

func (p *postgresPlace) administer(ctx context.Context, statement string) error {
	db, err := sql.Open("postgres", p.server)
	if err != nil {
		return errors.New("the address of PostgreSQL is not accepted by lib/pq")
	}
	defer db.Close()
	_, err = db.ExecContext(ctx, statement)
	return err
}

func (p *postgresPlace) place() Place { return Place{Postgres, p.address} }

func (p *postgresPlace) drop(ctx context.Context) error {
	return p.administer(ctx, "DROP SCHEMA "+p.schema+" CASCADE")
}

func (p *postgresPlace) dialect(archive bool) (dialect, error) {
	return postgres.Open(p.address, postgres.Config{Archive: kept(archive)})
}

func kept(archive bool) []string {
	if archive {
		return []string{"*"}
	}
	return nil
}

// pool's statements may take as long as a fill does.
func (p *postgresPlace) pool() (*sql.DB, error) {
	u, err := url.Parse(p.address)
	if err != nil {
		return nil, errors.New("the address of PostgreSQL cannot be parsed")
	}
	q := u.Query()
	q.Set("statement_timeout", "0")
	u.RawQuery = q.Encode()
	return postgres.OpenDB(u.String())
}

func (p *postgresPlace) statements() statements {
	return statements{
		series: "generate_series(0, %d - 1) AS series (n)", div: "/",
		padded: func(number string) string {
			return "lpad((" + number + ")::text, " + strconv.Itoa(seqDigits) + ", '0')"
		},
		payload: func(text string, more int) string {
			return "convert_to(" + text + " || repeat('x', " + strconv.Itoa(more) + "), 'UTF8')"
		},
		concat: func(a, b string) string { return a + " || " + b },
		key:    "key", position: "bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY", text: "text", bytes: "bytea", timestamp: "timestamptz",
		now: "now()", parameter: func(n int) string { return "$" + strconv.Itoa(n) },
		after: func(table string) string { return "VACUUM ANALYZE " + table },
	}
}
