package sqlite

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/jmoiron/sqlx"

	"github.com/lockstep-go/lockstep/core"
	"github.com/lockstep-go/lockstep/internal/headers"
)

// The parts of a fetch come out in the order in which they stand. Each reads by the primary key: CROSS JOIN keeps SQLite
// from turning the ranges and the table round.
const (
	fetchHeader = `SELECT generation, outbox, '', '', '', x'', 0, 0, 0 FROM {control}`

	fetchColumns = ` UNION ALL SELECT * FROM (
  SELECT o.position, o.id, o.topic, o.key, o.headers, o.payload, o.created_at, o.attempts, ifnull(o.retry_at - {now}, 0) FROM `

	notBlocked = ` AND NOT EXISTS (SELECT 1 FROM {blocked} AS b WHERE b.topic = o.topic AND b.key IN (o.key, ''))
  ORDER BY o.position LIMIT ?)`

	fetchGaps = fetchColumns + `json_each(?) AS r CROSS JOIN {outbox} AS o
  WHERE o.position BETWEEN r.value ->> 0 AND r.value ->> 1` + notBlocked

	fetchTail = fetchColumns + `{outbox} AS o WHERE o.position > ?` + notBlocked
)

// Fetch implements [core.Reader].
func (s *session) Fetch(ctx context.Context, request core.FetchRequest) (core.FetchResult, error) {
	statement, args := fetchHeader, []any(nil)
	if len(request.Gaps) > 0 {
		ranges := make([][2]int64, len(request.Gaps))
		for i, gap := range request.Gaps {
			ranges[i] = [2]int64{gap.First, gap.Last}
		}
		encoded, err := json.Marshal(ranges)
		if err != nil {
			return core.FetchResult{}, fmt.Errorf("encode gaps: %w", err)
		}
		statement, args = statement+fetchGaps, append(args, string(encoded), request.Limit)
	}
	f := fetched{request: request}
	err := s.query(ctx, statement+fetchTail, append(args, request.After, request.Limit), f.add)
	if err != nil {
		return core.FetchResult{}, fmt.Errorf("fetch events: %w", err)
	}
	if f.result.Incarnation == "" {
		return core.FetchResult{}, fmt.Errorf("fetch events: %w", s.dialect.versionFault(0))
	}
	return f.result, nil
}

// fetched collects a result row by row.
type fetched struct {
	request core.FetchRequest
	result  core.FetchResult
	bytes   int
}

func (f *fetched) add(rows *sqlx.Rows) (more bool, err error) {
	var r core.Record
	var object []byte
	var createdAt, retryIn int64
	m := &r.Message
	err = rows.Scan(&r.Position, &m.ID, &m.Topic, &m.Key, &object, &m.Payload, &createdAt, &r.Attempts, &retryIn)
	if err != nil {
		return false, err
	}
	if m.Topic == "" { // the control row: no event is without a topic
		f.result.Generation, f.result.Incarnation = r.Position, m.ID
		return true, nil
	}
	m.Headers = headers.OfRow(object)
	if n := len(f.result.Records); n > 0 && f.result.Records[n-1].Position >= r.Position {
		return false, errors.New("SQLite returned the events out of order")
	}
	r.Message.EnqueuedAt, r.RetryIn = time.UnixMilli(createdAt), time.Duration(retryIn)*time.Millisecond
	f.result.Records = append(f.result.Records, r)
	f.bytes += len(m.Payload) + len(m.Key) + headers.Size(m.Headers)
	f.result.More = f.bytes >= f.request.MaxBytes || len(f.result.Records) == f.request.Limit
	return !f.result.More, nil
}

// ResolveGaps implements [core.Reader]. The counter of positions is part of the transaction that moves it, which is the
// only one: what it has passed, in the eyes of a reader, was filled by then or never will be.
func (s *session) ResolveGaps(ctx context.Context, gaps []core.Gap) error {
	if len(gaps) == 0 {
		return nil
	}
	var last int64
	err := s.get(ctx, &last, `SELECT ifnull(max(seq), 0) FROM sqlite_sequence WHERE name = ?`, s.dialect.prefix+"outbox")
	if err != nil {
		return fmt.Errorf("read the last position: %w", err)
	}
	for i := range gaps {
		gaps[i].Dead = gaps[i].Last <= last
	}
	return nil
}
