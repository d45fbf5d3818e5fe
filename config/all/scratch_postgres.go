package all

import (
	"context"
	"database/sql"
	"fmt"
	"net"

	"github.com/lockstep-go/lockstep/config"
	"github.com/lockstep-go/lockstep/dialect/postgres"
)

// Scratch implements [config.ScratchDialect]: tables with a prefix of their own, in the configured schema.
func (d postgresDatabase) Scratch(ctx context.Context, name string, through config.Through) (*config.ScratchOutbox, error) {
	dsn := *d.dsn
	if dsn.Hostname() != "" {
		port := dsn.Port()
		if port == "" {
			port = "5432"
		}
		var err error
		if dsn.Host, err = redirected(through, net.JoinHostPort(dsn.Hostname(), port)); err != nil {
			return nil, err
		}
	}
	return scratchDialects(ctx, "the tables that begin with "+name, scratchTable(d.schema, name, ident),
		func(archive []string) (config.Dialect, error) {
			return postgres.Open(dsn.String(), postgres.Config{Schema: d.schema, Prefix: name, Archive: archive, ListenDSN: d.listen})
		},
		func() (*sql.DB, error) { return sql.Open("postgres", dsn.String()) },
		func(ctx context.Context) error {
			return dropAll(ctx, func() (*sql.DB, error) { return sql.Open("postgres", d.dsn.String()) },
				"SET lock_timeout = '5s'",
				fmt.Sprintf(`SELECT n.nspname, c.relname FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
					WHERE c.relkind IN ('r', 'p') AND left(c.relname, %d) = %s`, len(name), quoted(name)), ident)
		})
}
