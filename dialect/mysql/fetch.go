package mysql

import (
	"context"
	"database/sql/driver"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/lockstep-go/lockstep/core"
	"github.com/lockstep-go/lockstep/internal/headers"
)

// fetchHeader is the row that is always there: the control row's, known by its empty topic, which no event has. The server
// is named by what it does not share with another, and by whether it takes writes.
const fetchHeader = "SELECT generation AS position, CONCAT_WS(' ', outbox, {server}, @@global.read_only) AS id, '' AS topic,\n" +
	"  '' AS `key`, '' AS headers, '' AS payload, 0 AS created_at, {largest} AS attempts, 0 AS retry_in\nFROM {control}"

// fetchColumns are a record's, after the header's.
var fetchColumns = " UNION ALL\n(SELECT o.position, o.id, o.topic, o.`key`, o.headers, {payload}, " + micros("o.created_at") + `, o.attempts,
  COALESCE(TIMESTAMPDIFF(MICROSECOND, UTC_TIMESTAMP(6), o.retry_at), 0)
FROM `

// notBlocked looks whether anything is blocked at all, once, before it looks for each event's key and topic.
const notBlocked = " AND (NOT EXISTS (SELECT 1 FROM {blocked})\n" +
	"  OR NOT EXISTS (SELECT 1 FROM {blocked} AS b WHERE b.topic = o.topic AND b.`key` = o.`key`)\n" +
	"    AND NOT EXISTS (SELECT 1 FROM {blocked} AS p WHERE p.topic = o.topic AND p.`key` = ''))"

// asked are the rows that are asked for. The gaps and the tail are ranges of the primary key, read in its order: a tail poll
// costs the same however many dead rows lie before the tail.
func asked(request core.FetchRequest) string {
	var ranges strings.Builder
	for _, gap := range request.Gaps {
		ranges.WriteString("o.position BETWEEN " + integer(gap.First) + " AND " + integer(gap.Last) + " OR ")
	}
	ranges.WriteString("o.position > " + integer(request.After))
	return `{outbox} AS o FORCE INDEX (PRIMARY) WHERE (` + ranges.String() + `)` + notBlocked
}

// All of a statement's result is sent, whether the client wants to stop or not, so the server has to bound its bytes. And it
// reads all of a payload, sent or not, but not its size, which has a column of its own.
//
// small is the size of payloads with which a full result is twice what was asked for at most.
func small(request core.FetchRequest) int { return max(1, 2*request.MaxBytes/max(1, request.Limit)) }

// fetchSmall makes the statement for small payloads. It looks at the sizes first, of as many positions as it may return events:
// where one is larger, the header says so, and no event comes. Of a larger one elsewhere it says only that it is there.
func (s *session) fetchSmall(request core.FetchRequest) string {
	after, most := integer(request.After), integer(small(request))
	return `WITH sizes AS (
  SELECT COALESCE(MAX(payload_bytes), 0) AS largest FROM ` + s.sql(`{outbox}`) + ` FORCE INDEX (PRIMARY)
  WHERE position > ` + after + ` AND position <= ` + after + ` + ` + integer(request.Limit) + `
)
` + s.fetchStatement(`(SELECT largest FROM sizes)`, `CASE WHEN o.payload_bytes <= `+most+` THEN o.payload END`,
		asked(request)+` AND (SELECT largest FROM sizes) <= `+most+` ORDER BY o.position LIMIT `+integer(request.Limit))
}

// fetchAny makes the statement for payloads of any size: it finds the positions first, and ends the result after the one whose
// payload is too much. It takes the server half as long again.
func (s *session) fetchAny(request core.FetchRequest) string {
	return s.fetchStatement(`0`, `o.payload`, `(
  SELECT position, SUM(payload_bytes) OVER (ORDER BY position ROWS UNBOUNDED PRECEDING) - payload_bytes AS passed
  FROM (SELECT o.position, o.payload_bytes FROM `+asked(request)+` ORDER BY o.position LIMIT `+integer(request.Limit)+`) AS found
) AS counted STRAIGHT_JOIN {outbox} AS o ON o.position = counted.position
WHERE counted.passed < `+integer(max(1, request.MaxBytes)))
}

func (s *session) fetchStatement(largest, payload, from string) string {
	parts := strings.NewReplacer("{server}", s.server.name(), "{largest}", largest, "{payload}", payload)
	return s.sql(parts.Replace(fetchHeader + fetchColumns + from + `)`))
}

// staySafe is how many fetches without a large payload it takes to expect none.
const staySafe = 16

// fewRows is how many more records than the last time a fetch expects.
const fewRows = 16

// Fetch implements [core.Reader]. What one statement answered is the result. Where the one for small payloads met a larger one,
// its answer is thrown away, and the other one is sent, and stays for a while.
func (s *session) Fetch(ctx context.Context, request core.FetchRequest) (core.FetchResult, error) {
	safe := s.large > 0
	statement := s.fetchSmall(request)
	if safe {
		statement = s.fetchAny(request)
	}
	f := fetched{request: request, expected: s.fetched + fewRows}
	if err := s.readValues(ctx, statement, f.add); err != nil {
		return core.FetchResult{}, fmt.Errorf("fetch events: %w", err)
	}
	if f.result.Incarnation == "" {
		s.end()
		return core.FetchResult{}, fmt.Errorf("fetch events: %w", s.dialect.notMigrated())
	}
	switch {
	case f.large:
		s.large = staySafe
		if !safe {
			return s.Fetch(ctx, request)
		}
	case safe:
		s.large--
	}
	f.cut()
	s.fetched = len(f.result.Records)
	return f.result, nil
}

// fetched collects a result row by row.
type fetched struct {
	request core.FetchRequest
	result  core.FetchResult
	// expected is how many records there is room for from the start.
	expected int
	large    bool // there is a payload that is not small, sent or not
}

// add takes in a row, and keeps nothing of it.
func (f *fetched) add(row []driver.Value) error {
	v := values{row: row}
	position, id, topic, key, object := v.int(), v.bytes(), v.bytes(), v.bytes(), v.bytes()
	payload, createdAt, attempts, retryIn := v.bytes(), v.int(), v.int(), v.int()
	if v.err != nil {
		return v.err
	}
	most := small(f.request)
	if len(topic) == 0 {
		f.result.Generation, f.result.Incarnation = position, string(id)
		f.large = f.large || attempts > int64(most)
		return nil
	}
	f.large = f.large || payload == nil || len(payload) > most
	r := core.Record{Position: position, Attempts: int(attempts), RetryIn: time.Duration(retryIn) * time.Microsecond}
	m := &r.Message
	m.ID, m.Key = string(id), string(key)
	if n := len(f.result.Records); n > 0 && f.result.Records[n-1].Message.Topic == string(topic) {
		m.Topic = f.result.Records[n-1].Message.Topic // one piece of memory for all
	} else {
		m.Topic = string(topic)
	}
	m.Headers = headers.OfRow(object)
	m.Payload = append(make([]byte, 0, len(payload)), payload...)
	m.EnqueuedAt = time.UnixMicro(createdAt)
	if f.result.Records == nil {
		f.result.Records = make([]core.Record, 0, min(f.request.Limit, f.expected))
	}
	f.result.Records = append(f.result.Records, r)
	return nil
}

// cut ends the result where request does. SQL promises no order without an ORDER BY around the whole, which would sort
// every payload a second time: what comes out of order is sorted here.
func (f *fetched) cut() {
	byPosition := func(a, b core.Record) int { return compare(a.Position, b.Position) }
	records := f.result.Records
	if !slices.IsSortedFunc(records, byPosition) {
		slices.SortFunc(records, byPosition)
	}
	bytes := 0
	for i := range records {
		m := &records[i].Message
		if bytes += len(m.Payload) + len(m.Key) + headers.Size(m.Headers); bytes >= f.request.MaxBytes {
			f.result.Records, f.result.More = records[:i+1], true
			return
		}
	}
	f.result.More = len(records) == f.request.Limit
}
