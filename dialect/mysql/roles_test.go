package mysql_test

import (
	"context"
	"fmt"
	"strings"
	"testing"

	mysqldriver "github.com/go-sql-driver/mysql"

	"github.com/lockstep-go/lockstep/conformance"
	"github.com/lockstep-go/lockstep/dialect/mysql"
)

// Which of the two that Grants knows a user is.
const (
	applicationUser = "app"
	relayUser       = "relay"
)

// as returns the fixture's outbox as a user of its own has it, who was granted what Grants prints, and global privileges
// beside. The user goes when the test ends.
func as(t testing.TB, f conformance.DialectFixture, dsn, role string, privileges ...string) conformance.DialectFixture {
	t.Helper()
	var database string
	if err := f.DB.QueryRowContext(t.Context(), `SELECT DATABASE()`).Scan(&database); err != nil {
		t.Fatal(err)
	}
	// MariaDB's names end at 80 characters, MySQL's at 32.
	id := database[max(0, len(database)-16):]
	users := map[string]string{applicationUser: "app_" + id, relayUser: "relay_" + id}
	for _, user := range users {
		execute(t, f, `CREATE USER IF NOT EXISTS '`+user+`'@'%' IDENTIFIED BY 'x'`)
		t.Cleanup(func() {
			if _, err := f.DB.ExecContext(context.Background(), `DROP USER IF EXISTS '`+user+`'@'%'`); err != nil {
				t.Error(err)
			}
		})
	}
	for statement := range strings.SplitSeq(f.Dialect.(*mysql.Dialect).Grants(users[applicationUser], users[relayUser]), ";\n") {
		if strings.HasPrefix(statement, "GRANT") {
			execute(t, f, statement)
		}
	}
	for _, privilege := range privileges {
		execute(t, f, fmt.Sprintf(`GRANT %s ON *.* TO '%s'@'%%'`, privilege, users[role]))
	}
	own := with(t, dsn, func(c *mysqldriver.Config) { c.User, c.Passwd = users[role], "x" })
	if role == relayUser {
		return open(t, own, mysql.Config{}) // it migrates: nothing is missing
	}
	return conformance.SQLFixture(dialect(t, own, mysql.Config{}), pool(t, own))
}
