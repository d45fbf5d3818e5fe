package mysql

import (
	"encoding/json"

	"github.com/lockstep-go/lockstep/core"
)

// A list of positions in a WHERE is no way to name rows: for a table that is small, or was when its statistics were taken,
// the optimizer reads it all, whatever index is forced on it. It would wait for the open transaction of an application, whose
// row is none of those meant. What is joined to a list is looked up by its key, row by row, in the list's order.

// these are the rows of table, under the alias, that refs name. The bytes of the id count, whatever the
// collation, and whatever character set the database has: without one of its own, a column of a JSON_TABLE has that.
func (s *session) these(table, alias string, refs []core.Ref) string {
	names := make([][2]any, len(refs))
	for i, r := range refs {
		names[i] = [2]any{r.Position, r.ID}
	}
	return `JSON_TABLE(` + array(names) + `, '$[*]' COLUMNS (position BIGINT PATH '$[0]', id VARCHAR(255) CHARACTER SET utf8mb4 PATH '$[1]')) AS r
STRAIGHT_JOIN ` + s.sql(table) + ` AS ` + alias + ` FORCE INDEX (PRIMARY)
  ON ` + alias + `.position = r.position AND CAST(` + alias + `.id AS BINARY) = CAST(r.id AS BINARY)`
}

// at are the rows of table, under the alias, at the positions; r.nth is which of the positions it is, from 1.
func (s *session) at(table, alias string, positions []int64) string {
	return `JSON_TABLE(` + array(positions) + `, '$[*]' COLUMNS (nth FOR ORDINALITY, position BIGINT PATH '$')) AS r
STRAIGHT_JOIN ` + s.sql(table) + ` AS ` + alias + ` FORCE INDEX (PRIMARY) ON ` + alias + `.position = r.position`
}

// array is a JSON array in a statement's text.
func array[T any](values []T) string {
	encoded, _ := json.Marshal(values) // of numbers and strings, which have no errors
	return text(string(encoded))
}

// forUpdate locks the rows under the alias, and forShare those without keeping others from reading them. MySQL has to be told
// that the list is not meant; MariaDB has no word for it, and no other word for the second than the old one.
func (s *session) forUpdate(alias string) string {
	if s.server.isMariaDB() {
		return ` FOR UPDATE`
	}
	return ` FOR UPDATE OF ` + alias
}

func (s *session) forShare(alias string) string {
	if s.server.isMariaDB() {
		return ` LOCK IN SHARE MODE`
	}
	return ` FOR SHARE OF ` + alias
}
