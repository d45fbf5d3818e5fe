package all

import (
	"errors"
	"net/url"

	"github.com/lockstep-go/lockstep/config"
	"github.com/lockstep-go/lockstep/dialect/sqlite"
)

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
