package postgres

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/jmoiron/sqlx"

	"github.com/lockstep-go/lockstep/core"
)

// writers names the transactions that hold the lock which every INSERT takes on the table before it takes a position,
// and which the end of the transaction, or a rollback to a savepoint before the INSERT, releases after its rows became
// visible or dead. pg_locks shows them to any role, prepared transactions included.
const writers = `SELECT virtualtransaction FROM pg_locks
WHERE locktype = 'relation' AND database = (SELECT oid FROM pg_database WHERE datname = current_database())
  AND relation = {outbox_literal}::regclass AND mode = 'RowExclusiveLock' AND granted`

// ResolveGaps implements [core.Reader]. A gap's witness is the transactions that could fill it when it was first looked
// at. Whoever comes later takes later positions: the sequence caches none, and the column refuses positions that were
// taken beforehand.
func (s *session) ResolveGaps(ctx context.Context, gaps []core.Gap) error {
	if len(gaps) == 0 {
		return nil
	}
	var now []string
	err := s.query(ctx, strings.Replace(writers, "{outbox_literal}", text(s.sql("{outbox}")), 1), func(rows *sqlx.Rows) error {
		var transaction string
		err := rows.Scan(&transaction)
		now = append(now, transaction)
		return err
	})
	if err != nil {
		return fmt.Errorf("look for the gaps' writers: %w", err)
	}
	for i := range gaps {
		gap := &gaps[i]
		left := now
		if seen, ok := gap.Witness.([]string); ok {
			left = stillOpen(seen, now)
		}
		gap.Witness, gap.Dead = left, len(left) == 0
	}
	return nil
}

// stillOpen returns those of now that may be one of seen. A transaction keeps its name when it is prepared, except
// before PostgreSQL 13.5 and 14.1: there it becomes "-1/" and its transaction id, so every such name that is new may be
// one that has gone.
func stillOpen(seen, now []string) []string {
	left := []string{} // not nil: a gap with a witness was looked at
	for _, transaction := range now {
		if slices.Contains(seen, transaction) || strings.HasPrefix(transaction, "-1/") {
			left = append(left, transaction)
		}
	}
	return left
}
