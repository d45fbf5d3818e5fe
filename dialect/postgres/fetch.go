package postgres

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/jmoiron/sqlx"

	"github.com/lockstep-go/lockstep/core"
	"github.com/lockstep-go/lockstep/internal/headers"
)

// planOnlyByIndex keeps a fetch from ever reading the whole table, whatever the statistics say of it: they are of
// another time for a table that fills and empties. And from being compiled or run by parallel workers, which costs
// more than it saves.
const planOnlyByIndex = `SET LOCAL enable_seqscan = off; SET LOCAL enable_bitmapscan = off; SET LOCAL jit = off; ` +
	`SET LOCAL max_parallel_workers_per_gather = 0; `

// fetchHeader is the row that is always there: the control row's, known by its empty topic, which no event has.
//
// The server is named by its address and the microsecond of its start, which any role may ask for, and by whether it is
// a standby. The file node is the table's own incarnation: TRUNCATE changes it, after which positions may be used again.
const fetchHeader = `SELECT generation AS position, concat_ws(' ', outbox, extract(epoch FROM pg_postmaster_start_time()),
  inet_server_addr(), inet_server_port(), pg_is_in_recovery(), pg_relation_filenode({outbox_literal}::regclass)) AS id,
  '' AS topic, '' AS key, '' AS headers, ''::bytea AS payload, 0::bigint AS created_at, 0 AS attempts, 0::bigint AS retry_in
FROM {control}`

// notBlocked looks at the blocked keys once for each row, and not at all while there are none. A row with an empty key
// blocks its whole topic.
const notBlocked = `(NOT EXISTS (SELECT FROM {blocked}) OR
  NOT EXISTS (SELECT FROM {blocked} AS b WHERE b.topic = o.topic AND b.key IN (o.key, '')))`

// createdAt is a time that Go and a bigint can hold, whatever a table without its CHECK has.
const createdAt = `greatest(timestamptz '0001-01-01 00:00Z', least(created_at, timestamptz '9999-12-31 00:00Z'))`

// fetchColumns are a record's, after the header's.
const fetchColumns = `SELECT position, id, topic, key, headers::text, {payload}, (date_part('epoch', ` + createdAt + `) * 1e6)::bigint, attempts,
  coalesce((date_part('epoch', retry_at - now()) * 1e6)::bigint, 0)
FROM `

// records are the rows that are asked for. Their parts are read by the primary key, at most limit rows of each, and
// merged: a tail poll costs the same however many dead rows lie before the tail.
func records(request core.FetchRequest) string {
	limit := integer(request.Limit)
	tail := `(SELECT * FROM {outbox} AS o WHERE position > ` + integer(request.After) + ` AND ` + notBlocked +
		` ORDER BY position LIMIT ` + limit + `)`
	if len(request.Gaps) == 0 {
		return tail
	}
	ranges := list(request.Gaps, func(r core.Range) string {
		return "(" + integer(r.First) + "::bigint, " + integer(r.Last) + "::bigint)"
	})
	return `(SELECT * FROM ((SELECT g.* FROM (VALUES ` + ranges + `) AS r (first, last), LATERAL (
    SELECT * FROM {outbox} AS o WHERE position BETWEEN r.first AND r.last AND ` + notBlocked + `
    ORDER BY position LIMIT ` + limit + `) AS g)
  UNION ALL ` + tail + `) AS parts ORDER BY position LIMIT ` + limit + `)`
}

// All of a statement's result is sent, whether the client wants to stop or not, so the server has to bound its bytes.
//
// small is the size of payloads with which a full result is twice what was asked for at most.
func small(request core.FetchRequest) int { return max(1, 2*request.MaxBytes/max(1, request.Limit)) }

// fetchSmall makes the statement for small payloads. Of a larger one it says only that it is there.
func (s *session) fetchSmall(request core.FetchRequest) string {
	return s.fetchStatement(`CASE WHEN octet_length(payload) <= `+integer(small(request))+` THEN payload END`, records(request)+` AS asked ORDER BY position`)
}

// fetchAny makes the statement for payloads of any size: it ends the result after the one with which they are too much.
// It takes the server two to three times as long.
func (s *session) fetchAny(request core.FetchRequest) string {
	return s.fetchStatement(`payload`, `(
  SELECT *, sum(octet_length(payload)) OVER (ORDER BY position ROWS UNBOUNDED PRECEDING) - octet_length(payload) AS before
  FROM `+records(request)+` AS asked
) AS bounded WHERE before < `+integer(max(1, request.MaxBytes)))
}

func (s *session) fetchStatement(payload, from string) string {
	statement := fetchHeader + ` UNION ALL (` + fetchColumns + from + `)`
	return s.sql(strings.NewReplacer("{outbox_literal}", text(s.sql("{outbox}")), "{payload}", payload).Replace(statement))
}

// staySafe is how many fetches without a large payload it takes to expect none.
const staySafe = 16

// Fetch implements [core.Reader]. What one statement answered is the result: where fetchSmall met a large payload its
// answer is thrown away, and fetchAny is asked, at once for a while.
func (s *session) Fetch(ctx context.Context, request core.FetchRequest) (core.FetchResult, error) {
	if s.large == 0 {
		f, err := s.fetchBy(ctx, request, s.fetchSmall(request))
		if err != nil || !f.large {
			return f.result, err
		}
		s.large = staySafe
	}
	f, err := s.fetchBy(ctx, request, s.fetchAny(request))
	if s.large--; f.large {
		s.large = staySafe
	}
	return f.result, err
}

func (s *session) fetchBy(ctx context.Context, request core.FetchRequest, statement string) (fetched, error) {
	f := fetched{request: request}
	if err := s.query(ctx, planOnlyByIndex+statement, f.add); err != nil {
		return fetched{}, fmt.Errorf("fetch events: %w", err)
	}
	if f.result.Incarnation == "" {
		return fetched{}, fmt.Errorf("fetch events: %w", errNotMigrated)
	}
	return f, nil
}

// fetched collects a result row by row.
type fetched struct {
	request core.FetchRequest
	result  core.FetchResult
	bytes   int
	full    bool // by MaxBytes: what still comes is left for the next fetch
	large   bool // there is a payload that is not small, sent or not
}

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
	f.large = f.large || m.Payload == nil || len(m.Payload) > small(f.request)
	if f.full {
		return nil
	}
	m.Headers = headers.OfRow(object)
	r.Message.EnqueuedAt, r.RetryIn = time.UnixMicro(createdAt), time.Duration(retryIn)*time.Microsecond
	if n := len(f.result.Records); n > 0 && f.result.Records[n-1].Position >= r.Position {
		// SQL promises no order without an ORDER BY around the whole, which would sort every payload a second time.
		return errors.New("the server returned the events out of order")
	}
	f.result.Records = append(f.result.Records, r)
	f.bytes += len(m.Payload) + len(m.Key) + headers.Size(m.Headers)
	f.full = f.bytes >= f.request.MaxBytes
	f.result.More = f.full || len(f.result.Records) == f.request.Limit
	return nil
}
