package all

import (
	"context"
	"database/sql"
	"fmt"
	"net"
	"strings"

	"github.com/lockstep-go/lockstep/config"
	"github.com/lockstep-go/lockstep/dialect/mysql"
)

// Scratch implements [config.ScratchDialect]: tables with a prefix of their own, in the configured database.
func (d mysqlDatabase) Scratch(ctx context.Context, name string, through config.Through) (*config.ScratchOutbox, error) {
	dsn := *d.url
	if dsn.Hostname() != "" {
		port := dsn.Port()
		if port == "" {
			port = "3306"
		}
		var err error
		if dsn.Host, err = redirected(through, net.JoinHostPort(dsn.Hostname(), port)); err != nil {
			return nil, err
		}
	}
	return scratchDialects(ctx, "the tables that begin with "+name, scratchTable(d.schema, name, backquoted),
		func(archive []string) (config.Dialect, error) {
			return mysql.Open(dsn.String(), mysql.Config{Database: d.schema, Prefix: name, Archive: archive})
		},
		func() (*sql.DB, error) { return mysql.OpenDB(dsn.String()) },
		func(ctx context.Context) error {
			return dropAll(ctx, func() (*sql.DB, error) { return mysql.OpenDB(d.url.String()) },
				"SET SESSION lock_wait_timeout = 5",
				fmt.Sprintf("SELECT table_schema, table_name FROM information_schema.tables WHERE LEFT(table_name, %d) = %s", len(name), quoted(name)),
				backquoted)
		})
}

func backquoted(name string) string { return "`" + strings.ReplaceAll(name, "`", "``") + "`" }
