package mysql

import (
	"errors"
	"net"
	"net/url"
	"strings"
	"time"

	mysqldriver "github.com/go-sql-driver/mysql"
)

// dialTimeout bounds a dial whose DSN sets no limit.
const dialTimeout = 10 * time.Second

// The parser's own error quotes what it could not read, which may be the password.
var (
	errDSN = errors.New("the DSN is neither a mysql:// URL nor user:password@tcp(host:port)/database, or has a wrong " +
		"parameter: percent-encode special characters in a URL")
	errURL = errors.New("the URL is not of the form mysql://user:password@host:port/database: percent-encode special " +
		"characters, and name one host")
)

// parseDSN reads a URL or the driver's own form.
func parseDSN(dsn string) (*mysqldriver.Config, error) {
	if scheme, _, isURL := strings.Cut(dsn, "://"); isURL && (scheme == "mysql" || scheme == "mariadb") {
		return parseURL(dsn)
	}
	config, err := mysqldriver.ParseDSN(dsn)
	if err != nil {
		return nil, errDSN
	}
	return config, nil
}

// parseURL reads mysql://user:password@host:port/database?parameters, whose parameters are the driver's. A socket's path
// is the parameter socket, without a host.
func parseURL(dsn string) (*mysqldriver.Config, error) {
	u, err := url.Parse(dsn)
	if err != nil || u.Opaque != "" {
		return nil, errURL
	}
	parameters, err := url.ParseQuery(u.RawQuery)
	if err != nil {
		return nil, errURL
	}
	socket := parameters.Get("socket")
	parameters.Del("socket")
	config, err := mysqldriver.ParseDSN("/?" + strings.ReplaceAll(parameters.Encode(), "+", "%20"))
	if err != nil {
		return nil, errDSN
	}
	config.User = u.User.Username()
	config.Passwd, _ = u.User.Password()
	config.DBName = strings.TrimPrefix(u.Path, "/")
	switch {
	case socket != "" && u.Host == "":
		config.Net, config.Addr = "unix", socket
	case socket == "" && u.Hostname() != "":
		port := u.Port()
		if port == "" {
			port = "3306"
		}
		config.Net, config.Addr = "tcp", net.JoinHostPort(u.Hostname(), port)
	default:
		return nil, errURL
	}
	return config, nil
}

// ofSessions returns the settings of a session's connection. What a DSN says of how values travel is for the application's
// pool, and changes nothing here.
func ofSessions(source *mysqldriver.Config) (*mysqldriver.Config, error) {
	c := source.Clone()
	c.ParseTime, c.ClientFoundRows, c.Loc = false, false, time.UTC
	c.MultiStatements = true
	c.RejectReadOnly = false             // it hides the server's own words
	c.ReadTimeout, c.WriteTimeout = 0, 0 // the context bounds each call
	c.Collation = ""
	c.Logger = &mysqldriver.NopLogger{} // what it would log is in the error that is returned
	if c.Timeout == 0 {
		c.Timeout = dialTimeout
	}
	if err := c.Apply(mysqldriver.Charset("utf8mb4", "")); err != nil {
		return nil, errDSN
	}
	return c, nil
}
