package sqlite

import (
	"database/sql"
	"database/sql/driver"
	"errors"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"strings"

	"github.com/jmoiron/sqlx"
	moderncsqlite "modernc.org/sqlite"

	"github.com/lockstep-go/lockstep/core"
)

// walLimit is what the WAL is cut down to, in bytes, when it starts again from its beginning: a long read can have made
// it much larger. By itself it starts again at about 4 MiB.
const walLimit = "8388608"

// source is where the database is.
type source struct {
	uri    string // file:…, escaped
	path   string // of the file; empty where it was given as a URI
	memory bool
}

var errPrivateMemory = errors.New("sqlite: each connection to this path would have a database of its own: give the path of a file, " +
	"or in tests file:/NAME?vfs=memdb or file:NAME?mode=memory&cache=shared")

// parseSource reads a path or a file: URI.
func parseSource(path string) (source, error) {
	if path == "" || path == ":memory:" {
		return source{}, errPrivateMemory
	}
	if !strings.HasPrefix(path, "file:") {
		return source{path: path, uri: "file:" + strings.NewReplacer("%", "%25", "?", "%3f", "#", "%23").Replace(path)}, nil
	}
	name, query, _ := strings.Cut(strings.TrimPrefix(path, "file:"), "?")
	values, err := url.ParseQuery(query)
	if err != nil {
		return source{}, fmt.Errorf("sqlite: read the URI's parameters: %w", err)
	}
	for _, key := range []string{"_txlock", "_pragma"} {
		if values.Has(key) {
			return source{}, fmt.Errorf("sqlite: %s is set by Open: leave it out of the URI", key)
		}
	}
	memdb := values.Get("vfs") == "memdb"
	memory := memdb || values.Get("mode") == "memory" || name == ":memory:"
	shared := memdb && strings.HasPrefix(name, "/") || !memdb && name != "" && values.Get("cache") == "shared"
	switch {
	case memory && !shared, name == "":
		return source{}, errPrivateMemory
	case !memory && values.Get("cache") == "shared":
		return source{}, errors.New("sqlite: cache=shared makes readers wait for writers: leave it out of a file's URI")
	}
	return source{uri: path, memory: memory}, nil
}

// there returns an error where a path has no file, which a connection would make. Of a URI it does not know.
func (s source) there() error {
	if s.path == "" {
		return nil
	}
	_, err := os.Stat(s.path)
	if _, dir := os.Stat(filepath.Dir(s.path)); errors.Is(err, os.ErrNotExist) && dir == nil {
		return &core.SetupError{
			Problem: fmt.Sprintf("there is no file %s", s.path),
			Cure:    "see whether the path is right; where it is, run Migrate (`lockstep migrate`) first, which makes the file",
			Err:     err,
		}
	}
	return nil // what else is wrong, a directory that is missing too, a connection says, and makes nothing
}

// open returns a pool for the source whose connections are set up for an outbox, and made by what wrap returns, if it is not nil.
func (s source) open(extra string, wrap func(driver.Connector) driver.Connector) (*sqlx.DB, error) {
	settings := "_pragma=busy_timeout(" + busyTimeout + ")&" + extra
	if !s.memory {
		settings += "&_pragma=journal_mode(WAL)&_pragma=synchronous(FULL)&_pragma=journal_size_limit(" + walLimit + ")"
	}
	separator := "?"
	if strings.Contains(s.uri, "?") {
		separator = "&"
	}
	connector, err := moderncsqlite.NewConnector(s.uri + separator + settings)
	if err != nil {
		return nil, fmt.Errorf("open sqlite file: %w", err)
	}
	if wrap != nil {
		connector = wrap(connector)
	}
	return sqlx.NewDb(sql.OpenDB(connector), "sqlite"), nil
}
