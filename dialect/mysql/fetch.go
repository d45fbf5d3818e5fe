package mysql

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/jmoiron/sqlx"

	"github.com/lockstep-go/lockstep/core"
	"github.com/lockstep-go/lockstep/internal/headers"
)

// fetchHeader is the row that is always there: the control row's, known by its empty topic, which no event has. The server
// is named by what it does not share with another, and by whether it takes writes.
const fetchHeader = "SELECT generation AS position, CONCAT_WS(' ', outbox, {server}, @@global.read_only) AS id, '' AS topic,\n" +
	"  '' AS `key`, '' AS headers, '' AS payload, 0 AS created_at, 0 AS attempts, 0 AS retry_in\nFROM {control}"

// notBlocked looks whether anything is blocked at all, once, before it looks for each event's key and topic.
const notBlocked = " AND (NOT EXISTS (SELECT 1 FROM {blocked})\n" +
	"  OR NOT EXISTS (SELECT 1 FROM {blocked} AS b WHERE b.topic = o.topic AND b.`key` = o.`key`)\n" +
	"    AND NOT EXISTS (SELECT 1 FROM {blocked} AS p WHERE p.topic = o.topic AND p.`key` = ''))"

// fetch makes the statement. The gaps and the tail are ranges of the primary key, read in its order: a tail poll costs the
// same however many dead rows lie before the tail. First the positions alone are read, and the payloads' sizes, which have a
// column of their own: all of a result is sent, whether the client wants to stop or not.
func (s *session) fetch(request core.FetchRequest) string {
	var ranges strings.Builder
	for _, gap := range request.Gaps {
		ranges.WriteString("o.position BETWEEN " + integer(gap.First) + " AND " + integer(gap.Last) + " OR ")
	}
	ranges.WriteString("o.position > " + integer(request.After))
	return strings.Replace(s.sql(fetchHeader), "{server}", s.server.name(), 1) + s.sql(` UNION ALL
SELECT o.position, o.id, o.topic, o.`+"`key`"+`, o.headers, o.payload, `+micros("o.created_at")+`, o.attempts,
  COALESCE(TIMESTAMPDIFF(MICROSECOND, UTC_TIMESTAMP(6), o.retry_at), 0)
FROM (
  SELECT position, SUM(payload_bytes) OVER (ORDER BY position ROWS UNBOUNDED PRECEDING) - payload_bytes AS passed
  FROM (
    SELECT o.position, o.payload_bytes FROM {outbox} AS o FORCE INDEX (PRIMARY) WHERE (`+ranges.String()+`)`+notBlocked+`
    ORDER BY o.position LIMIT `+integer(request.Limit)+`
  ) AS found
) AS counted STRAIGHT_JOIN {outbox} AS o ON o.position = counted.position
WHERE counted.passed < `+integer(max(1, request.MaxBytes)))
}

// Fetch implements [core.Reader].
func (s *session) Fetch(ctx context.Context, request core.FetchRequest) (core.FetchResult, error) {
	f := fetched{}
	if err := s.read(ctx, s.fetch(request), f.add); err != nil {
		return core.FetchResult{}, fmt.Errorf("fetch events: %w", err)
	}
	if f.result.Incarnation == "" {
		s.end()
		return core.FetchResult{}, fmt.Errorf("fetch events: %w", s.dialect.notMigrated())
	}
	f.cut(request)
	return f.result, nil
}

// fetched collects a result row by row.
type fetched struct{ result core.FetchResult }

func (f *fetched) add(rows *sqlx.Rows) error {
	var r core.Record
	var object []byte
	var createdAt, retryIn int64
	m := &r.Message
	err := rows.Scan(&r.Position, &m.ID, &m.Topic, &m.Key, &object, &m.Payload, &createdAt, &r.Attempts, &retryIn)
	if err != nil {
		return err
	}
	if m.Topic == "" {
		f.result.Generation, f.result.Incarnation = r.Position, m.ID
		return nil
	}
	m.Headers = headers.OfRow(object)
	m.EnqueuedAt, r.RetryIn = time.UnixMicro(createdAt), time.Duration(retryIn)*time.Microsecond
	f.result.Records = append(f.result.Records, r)
	return nil
}

// cut ends the result where request does. SQL promises no order without an ORDER BY around the whole, which would sort
// every payload a second time: what comes out of order is sorted here.
func (f *fetched) cut(request core.FetchRequest) {
	byPosition := func(a, b core.Record) int { return compare(a.Position, b.Position) }
	records := f.result.Records
	if !slices.IsSortedFunc(records, byPosition) {
		slices.SortFunc(records, byPosition)
	}
	bytes := 0
	for i := range records {
		m := &records[i].Message
		if bytes += len(m.Payload) + len(m.Key) + headers.Size(m.Headers); bytes >= request.MaxBytes {
			f.result.Records, f.result.More = records[:i+1], true
			return
		}
	}
	f.result.More = len(records) == request.Limit
}
