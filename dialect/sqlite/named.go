package sqlite

import (
	"strings"

	"github.com/lockstep-go/lockstep/core"
)

// group is how many events one statement names. A statement for each event takes three times as long; beyond some fifty
// nothing is gained.
const group = 50

// named executes a statement for the events that refs name, group by group. In it {named} stands for their positions; args
// are what it needs after these.
func (w writing) named(refs []core.Ref, statement string, args ...any) error {
	arguments := func(refs []core.Ref) []any {
		all := make([]any, 0, 2*len(refs)+len(args))
		for _, ref := range refs {
			all = append(all, ref.Position, ref.ID)
		}
		return append(all, args...)
	}
	if len(refs) >= group {
		stmt, err := w.tx.PreparexContext(w.ctx, w.session.sql(naming(statement, group)))
		if err != nil {
			return err
		}
		defer stmt.Close()
		for ; len(refs) >= group; refs = refs[group:] {
			if _, err := stmt.ExecContext(w.ctx, arguments(refs[:group])...); err != nil {
				return err
			}
		}
	}
	if len(refs) == 0 {
		return nil
	}
	_, err := w.exec(naming(statement, len(refs)), arguments(refs)...)
	return err
}

// naming makes statement one for n events. CROSS JOIN: SQLite goes through the names, and finds each by the primary key.
func naming(statement string, n int) string {
	return strings.ReplaceAll(statement, `{named}`, `SELECT o.position
  FROM (VALUES (?, ?)`+strings.Repeat(`, (?, ?)`, n-1)+`) AS named CROSS JOIN {outbox} AS o WHERE o.position = named.column1 AND o.id = named.column2`)
}
