package mysql

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"time"

	"github.com/jmoiron/sqlx"

	"github.com/lockstep-go/lockstep/core"
)

// A position goes to a statement before its row can be seen to be locked: a moment before, where the number of rows is
// known, and long before in an INSERT … SELECT. So there are two questions. Is a statement still running that may have
// taken the position? And is the position locked, by a row that was inserted?
//
// The answer to the first is the server's count of the statements that have the table open now, which needs no privilege.
// Where that is never seen at zero because others write without a pause, it is the list of transactions, which needs the
// PROCESS privilege: of those that were running a statement with locks once everybody who had taken the position must have
// begun to, none is running one any more.

// beganBy is how long after a statement took its first position its transaction is in the server's list. It takes
// microseconds unless the server's thread does not run.
const beganBy = 2 * time.Second

// maxProbes bounds the looks of one call. What was not looked at is in the next.
const maxProbes = 64

// witness is what was seen of a gap's possible writers.
type witness struct {
	since    time.Time // of the first look, by this process's monotonic clock
	listed   bool      // running is set
	running  []string  // transactions that were running a statement, as they were beganBy later
	finished bool      // no statement runs any more that could have taken a position of the gap
}

// ResolveGaps implements [core.Reader].
func (s *session) ResolveGaps(ctx context.Context, gaps []core.Gap) error {
	if len(gaps) == 0 {
		return nil
	}
	if err := s.look(ctx, gaps); err != nil {
		return fmt.Errorf("look for the gaps' writers: %w", err)
	}
	var finished []*core.Gap
	for i := range gaps {
		if w, ok := gaps[i].Witness.(*witness); ok && w.finished && !gaps[i].Dead {
			finished = append(finished, &gaps[i])
		}
	}
	probes := maxProbes
	if err := s.probe(ctx, finished, &probes); err != nil {
		return fmt.Errorf("look for the gaps' rows: %w", err)
	}
	return nil
}

// look updates the gaps' witnesses.
func (s *session) look(ctx context.Context, gaps []core.Gap) error {
	quiet, err := s.quiet(ctx)
	if err != nil {
		return err
	}
	now := time.Now()
	unfinished := false
	for i := range gaps {
		w, ok := gaps[i].Witness.(*witness)
		if !ok {
			w = &witness{since: now}
			gaps[i].Witness = w
		}
		w.finished = w.finished || quiet
		unfinished = unfinished || !w.finished && now.Sub(w.since) >= beganBy
	}
	if !unfinished || s.blind {
		return nil
	}
	running, known, err := s.running(ctx)
	if err != nil || !known {
		return err
	}
	for i := range gaps {
		w, ok := gaps[i].Witness.(*witness)
		if !ok || w.finished || now.Sub(w.since) < beganBy {
			continue
		}
		if !w.listed {
			w.listed, w.running = true, running
		}
		w.running = slices.DeleteFunc(slices.Clone(w.running), func(transaction string) bool { return !slices.Contains(running, transaction) })
		w.finished = len(w.running) == 0
	}
	return nil
}

// quiet reports that no statement has the outbox open. The server lists a table while anything of it is cached; where it
// does not, as after FLUSH TABLES, nothing is known. Names may differ in case from what was asked for.
func (s *session) quiet(ctx context.Context) (bool, error) {
	listed, users := false, 0
	err := s.read(ctx, `SHOW OPEN TABLES FROM `+identifier(s.dialect.database)+" WHERE LOWER(CONVERT(`Table` USING utf8mb4)) = LOWER("+
		text(s.dialect.table("outbox"))+`)`, func(rows *sqlx.Rows) error {
		var database, table string
		var using, locked int
		err := rows.Scan(&database, &table, &using, &locked)
		listed, users = true, users+using+locked
		return err
	})
	return listed && users == 0, err
}

// listEvery is the least time between two looks at the server's list of transactions. The server makes the list anew only when
// nobody has read it for 0.1 s: relays that ask more often keep the list old for each other.
const listEvery = time.Second

// running names the transactions that are executing a statement which locks rows of some table. known says that the
// server shows them, and as they are now: this very statement is looked for among them.
func (s *session) running(ctx context.Context) (running []string, known bool, err error) {
	if time.Now().Before(s.nextList) {
		return nil, false, nil
	}
	s.nextList = time.Now().Add(listEvery + rand.N(listEvery/2))
	s.lists++
	err = s.ask(ctx, `ROLLBACK; START TRANSACTION; SELECT COUNT(*) INTO @n FROM `+s.sql(`{control}`)+`;
SELECT COALESCE(LOCATE('look `+integer(s.lists)+` of this session', trx_query), 0) > 0 AND trx_mysql_thread_id = CONNECTION_ID(),
  trx_tables_in_use > 0 AND trx_tables_locked > 0 AND trx_mysql_thread_id <> CONNECTION_ID(),
  CONCAT_WS(' ', trx_mysql_thread_id, trx_started) FROM information_schema.innodb_trx; COMMIT`, func(rows *sqlx.Rows) error {
		var own, locking bool
		var name string
		err := rows.Scan(&own, &locking, &name)
		known = known || own
		if locking {
			running = append(running, name)
		}
		return err
	})
	switch {
	case code(err) == codePrivilege:
		s.blind = true
		err = s.ask(ctx, "ROLLBACK", nil)
		known = false
	case err != nil:
		s.end()
	}
	return running, known, explained(err)
}

// probe sets Dead in the gaps that hold no row of an open transaction, prepared ones included. Rows that were committed are
// no obstacle: every later fetch sees them. It looks at all gaps at once, and halves them where something is locked.
func (s *session) probe(ctx context.Context, gaps []*core.Gap, probes *int) error {
	if len(gaps) == 0 || *probes == 0 {
		return nil
	}
	*probes--
	locked, err := s.locked(ctx, gaps)
	switch {
	case err != nil:
		return err
	case !locked:
		for _, gap := range gaps {
			gap.Dead = true
		}
		return nil
	case len(gaps) == 1:
		return nil
	}
	half := len(gaps) / 2
	if err := s.probe(ctx, gaps[:half], probes); err != nil {
		return err
	}
	return s.probe(ctx, gaps[half:], probes)
}

// maxPositions is up to how many positions are looked at one by one. A range also meets the row behind its end, which may be
// locked for long.
const maxPositions = 1000

// locked reports whether somebody holds a lock on a row in the gaps. Under READ COMMITTED the question itself locks rows
// that are there, and never what is between them: writers don't notice it.
func (s *session) locked(ctx context.Context, gaps []*core.Gap) (bool, error) {
	err := s.ask(ctx, `SELECT COUNT(*) FROM `+s.within(gaps)+s.forShare("o")+` NOWAIT`, func(rows *sqlx.Rows) error { return rows.Scan(new(int)) })
	if s.dialect.Retryable(err) {
		return true, nil
	}
	if err != nil {
		s.end()
	}
	return false, explained(err)
}

// within are the rows of the outbox in the gaps.
func (s *session) within(gaps []*core.Gap) string {
	var width int64
	for _, gap := range gaps {
		width += min(gap.Last-gap.First+1, maxPositions+1)
	}
	if width > maxPositions {
		ranges := make([]string, len(gaps))
		for i, gap := range gaps {
			ranges[i] = `position BETWEEN ` + integer(gap.First) + ` AND ` + integer(gap.Last)
		}
		return s.sql(`{outbox} AS o FORCE INDEX (PRIMARY) WHERE `) + strings.Join(ranges, " OR ")
	}
	var positions []int64
	for _, gap := range gaps {
		for position := gap.First; position <= gap.Last; position++ {
			positions = append(positions, position)
		}
	}
	return s.at("{outbox}", "o", positions)
}
