package all

import (
	"errors"
	"net/url"
	"strings"

	"github.com/lockstep-go/lockstep/config"
	"github.com/lockstep-go/lockstep/dialect/mysql"
	"github.com/lockstep-go/lockstep/dialect/postgres"
	"github.com/lockstep-go/lockstep/dialect/sqlite"
)

// openPostgres leaves the parameters to lib/pq, and those that it does not know to the server, which refuses what is none
// of its settings.
func openPostgres(u *url.URL, options config.Options) (config.Dialect, error) {
	dsn, listen := *u, ""
	query, err := url.ParseQuery(u.RawQuery)
	if err != nil {
		return nil, errors.New("has parameters that cannot be read: percent-encode special characters")
	}
	if query.Has("listen_host") {
		direct := *u
		direct.Host = query.Get("listen_host")
		query.Del("listen_host")
		dsn.RawQuery, direct.RawQuery = query.Encode(), query.Encode()
		listen = direct.String()
	}
	d, err := postgres.Open(dsn.String(), postgres.Config{
		Schema: options.Schema, Prefix: options.Prefix, Archive: options.Archive, ListenDSN: listen,
	})
	if err != nil {
		return nil, err
	}
	return postgresDatabase{d, &dsn, listen, options.Schema, options.Prefix}, nil
}

func openMySQL(u *url.URL, options config.Options) (config.Dialect, error) {
	if strings.Contains(u.Host, ",") {
		return nil, errors.New("names several hosts: name one host, which may be that of a proxy")
	}
	d, err := mysql.Open(u.String(), mysql.Config{Database: options.Schema, Prefix: options.Prefix, Archive: options.Archive})
	if err != nil {
		return nil, err
	}
	return mysqlDatabase{d, u, options.Schema, options.Prefix}, nil
}

func openSQLite(u *url.URL, options config.Options) (config.Dialect, error) {
	at, err := path(u)
	if err != nil {
		return nil, err
	}
	if options.Schema != "" {
		return nil, errors.New("is SQLite, which has no schemas: leave schema out, and use prefix")
	}
	d, err := sqlite.Open(at, sqlite.Config{Prefix: options.Prefix, Archive: options.Archive})
	if err != nil {
		return nil, err
	}
	return sqliteDatabase{d, at, options.Prefix}, nil
}
