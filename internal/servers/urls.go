package servers

import (
	"net/url"
	"strings"
)

// MySQLURL returns the address of an empty database, as [MySQLDatabase] does, as a URL.
func MySQLURL(t TB) string {
	t.Helper()
	return mysqlURL("mysql", MySQLDatabase(t))
}

// MariaDBURL is [MySQLURL] for MariaDB.
func MariaDBURL(t TB) string {
	t.Helper()
	return mysqlURL("mariadb", MariaDBDatabase(t))
}

func mysqlURL(scheme, dsn string) string {
	account, rest, _ := strings.Cut(dsn, "@tcp(")
	host, database, _ := strings.Cut(rest, ")/")
	return scheme + "://" + account + "@" + host + "/" + database
}

// WithoutSchema takes the schema out of what [PostgresSchema] returned, for who names it in another way.
func WithoutSchema(t TB, address string) (without, schema string) {
	t.Helper()
	u, err := url.Parse(address)
	if err != nil {
		t.Fatalf("the server's address cannot be parsed")
	}
	query := u.Query()
	schema = query.Get("search_path")
	query.Del("search_path")
	u.RawQuery = query.Encode()
	return u.String(), schema
}
