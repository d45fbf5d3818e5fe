// Package sqlname checks the table prefixes and schema names that users configure, before they become part of SQL.
package sqlname

import (
	"fmt"
	"regexp"
)

// maxBytes leaves room, within PostgreSQL's 63 bytes, for the longest table name that a prefix is put before.
const maxBytes = 40

var plain = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_]*$`)

// Check returns an error that names field unless name is empty or a plain identifier.
func Check(field, name string) error {
	switch {
	case name == "":
		return nil
	case len(name) > maxBytes:
		return fmt.Errorf("%s is %d bytes long: at most %d are allowed", field, len(name), maxBytes)
	case !plain.MatchString(name):
		return fmt.Errorf("%s is %q: use letters, digits and underscores, not beginning with a digit", field, name)
	}
	return nil
}
