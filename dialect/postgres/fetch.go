package postgres

import (
	"context"
	"errors"
	"fmt"
	"strings"

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
const fetchHeader = `SELECT record_send(ROW(generation, concat_ws(' ', outbox, extract(epoch FROM pg_postmaster_start_time()),
  inet_server_addr(), inet_server_port(), pg_is_in_recovery(), pg_relation_filenode({outbox_literal}::regclass)),
  ''::text, ''::text, ''::text, ''::bytea, now(),
  (SELECT count(*) FROM (SELECT FROM {blocked} LIMIT ` + moreThanFew + `) AS rows)::integer, NULL::timestamptz))
FROM {control}`

// blocking is how many blocked keys there may be for a fetch's statement to leave out all of their events. The answer says how
// many there are.
type blocking int

const (
	noneBlocked blocking = iota
	fewBlocked
	manyBlocked
)

const (
	few         = 10_000
	moreThanFew = "10001"
)

func blockingOf(rows int64) blocking {
	switch {
	case rows == 0:
		return noneBlocked
	case rows <= few:
		return fewBlocked
	default:
		return manyBlocked
	}
}

// notBlocked are the conditions for an event. A row of blocked with an empty key blocks its whole topic.
//
// Without blocked keys there is none. A few are put into a hash table, which costs an event a small part of what many cost,
// which are looked up one by one (BenchmarkFetchBehindBlocked). The limits say nothing that is not known: with them the server
// knows that a hash table has room, whatever its statistics say. A NOT EXISTS is a join to it, and when it took the blocked keys
// for none it read all of them for each event: what is a value stays a look-up by the primary key.
var notBlocked = [...]string{
	noneBlocked: `true`,
	fewBlocked: `(o.topic, o.key) NOT IN (SELECT topic, key FROM {blocked} LIMIT ` + moreThanFew + `) AND
  o.topic NOT IN (SELECT topic FROM {blocked} WHERE key = '' LIMIT ` + moreThanFew + `)`,
	manyBlocked: `(SELECT true FROM {blocked} AS b WHERE b.topic = o.topic AND b.key = o.key LIMIT 1) IS NULL AND
  (SELECT true FROM {blocked} AS b WHERE b.topic = o.topic AND b.key = '' LIMIT 1) IS NULL`,
}

// fetchColumns are a record's, after the header's.
const fetchColumns = `SELECT record_send(ROW(position, id, topic, key, headers::text, {payload}, created_at, attempts, retry_at))
FROM `

// records are the rows that are asked for. Their parts are read by the primary key, at most limit rows of each, and
// merged: a tail poll costs the same however many dead rows lie before the tail.
func records(request core.FetchRequest, made blocking) string {
	limit := integer(request.Limit)
	tail := `(SELECT * FROM {outbox} AS o WHERE position > ` + integer(request.After) + ` AND ` + notBlocked[made] +
		` ORDER BY position LIMIT ` + limit + `)`
	if len(request.Gaps) == 0 {
		return tail
	}
	ranges := list(request.Gaps, func(r core.Range) string {
		return "(" + integer(r.First) + "::bigint, " + integer(r.Last) + "::bigint)"
	})
	return `(SELECT * FROM ((SELECT g.* FROM (VALUES ` + ranges + `) AS r (first, last), LATERAL (
    SELECT * FROM {outbox} AS o WHERE position BETWEEN r.first AND r.last AND ` + notBlocked[made] + `
    ORDER BY position LIMIT ` + limit + `) AS g)
  UNION ALL ` + tail + `) AS parts ORDER BY position LIMIT ` + limit + `)`
}

// All of a statement's result is sent, whether the client wants to stop or not, so the server has to bound its bytes.
//
// small is the size of payloads with which a full result is twice what was asked for at most.
func small(request core.FetchRequest) int { return max(1, 2*request.MaxBytes/max(1, request.Limit)) }

// fetchSmall makes the statement for small payloads. Of a larger one it says only that it is there.
func (s *session) fetchSmall(request core.FetchRequest) string {
	return s.fetchStatement(`CASE WHEN octet_length(payload) <= `+integer(small(request))+` THEN payload END`, records(request, s.blocking)+` AS asked ORDER BY position`)
}

// fetchAny makes the statement for payloads of any size: it ends the result after the one with which they are too much.
// It takes the server two to three times as long.
func (s *session) fetchAny(request core.FetchRequest) string {
	return s.fetchStatement(`payload`, `(
  SELECT *, sum(octet_length(payload)) OVER (ORDER BY position ROWS UNBOUNDED PRECEDING) - octet_length(payload) AS before
  FROM `+records(request, s.blocking)+` AS asked
) AS bounded WHERE before < `+integer(max(1, request.MaxBytes)))
}

func (s *session) fetchStatement(payload, from string) string {
	statement := fetchHeader + ` UNION ALL (` + fetchColumns + from + `)`
	return s.sql(strings.NewReplacer("{outbox_literal}", text(s.sql("{outbox}")), "{payload}", payload).Replace(statement))
}

// fewRows is how many more records than the last time a fetch expects.
const fewRows = 16

// staySafe is how many fetches without a large payload it takes to expect none.
const staySafe = 16

// Fetch implements [core.Reader]. What one statement answered is the result. Where it says that it was not the right one, its
// answer is thrown away, and the right one is sent, and stays: for large payloads for a while.
func (s *session) Fetch(ctx context.Context, request core.FetchRequest) (core.FetchResult, error) {
	for {
		made, safe := s.blocking, s.large > 0
		statement := s.fetchSmall(request)
		if safe {
			statement = s.fetchAny(request)
		}
		f, err := s.fetchBy(ctx, request, statement)
		if err != nil {
			return core.FetchResult{}, err
		}
		s.blocking = blockingOf(f.blocked)
		switch {
		case f.large:
			s.large = staySafe
		case safe:
			s.large--
		}
		if s.blocking <= made && (safe || !f.large) {
			return f.result, nil
		}
	}
}

// inBinary sends the rows of a statement in the binary format, which the simple protocol has for cursors alone. With all of a
// row in one column, that of record_send, the driver has nothing to decode: it takes the relay a third of the processor time
// that columns in the text format take, and the server no more.
func inBinary(statement string) string {
	return `DECLARE fetched BINARY NO SCROLL CURSOR FOR ` + statement + `; FETCH ALL FROM fetched`
}

func (s *session) fetchBy(ctx context.Context, request core.FetchRequest, statement string) (fetched, error) {
	f := fetched{request: request, expected: s.fetched + fewRows}
	if err := s.queryBinary(ctx, planOnlyByIndex+inBinary(statement), f.add); err != nil {
		return fetched{}, fmt.Errorf("fetch events: %w", err)
	}
	if f.result.Incarnation == "" {
		return fetched{}, fmt.Errorf("fetch events: %w", errNotMigrated)
	}
	s.fetched = len(f.result.Records)
	return f, nil
}

// fetched collects a result row by row.
type fetched struct {
	request core.FetchRequest
	result  core.FetchResult
	// expected is how many records there is room for from the start.
	expected int
	now      int64 // the statement's time
	blocked  int64 // rows of the blocked keys' table, counted up to more than a few
	bytes    int
	full     bool   // by MaxBytes: what still comes is left for the next fetch
	large    bool   // there is a payload that is not small, sent or not
	names    []byte // of the last record
}

// add takes in a row, and keeps nothing of it.
func (f *fetched) add(row []byte) error {
	d := decoderOf(row)
	position, id, topic, key, object := d.int(), d.bytes(), d.bytes(), d.bytes(), d.bytes()
	payload, createdAt, attempts, retryAt := d.bytes(), d.int(), d.int(), d.int()
	if d.err != nil {
		return d.err
	}
	if len(topic) == 0 {
		f.result.Generation, f.result.Incarnation, f.now, f.blocked = position, string(id), createdAt, attempts
		return nil
	}
	f.large = f.large || payload == nil || len(payload) > small(f.request)
	if f.full {
		return nil
	}
	var last *core.Record
	if n := len(f.result.Records); n > 0 {
		last = &f.result.Records[n-1]
	} else {
		f.result.Records = make([]core.Record, 0, min(f.request.Limit, f.expected))
	}
	if last != nil && last.Position >= position {
		// SQL promises no order without an ORDER BY around the whole, which would sort every payload a second time.
		return errors.New("the server returned the events out of order")
	}
	r := core.Record{Position: position, Attempts: int(attempts)}
	m := &r.Message
	f.names = append(append(f.names[:0], id...), key...)
	names := string(f.names) // both in one piece of memory
	m.ID, m.Key = names[:len(id)], names[len(id):]
	if last != nil && last.Message.Topic == string(topic) {
		m.Topic = last.Message.Topic // one piece of memory for all
	} else {
		m.Topic = string(topic)
	}
	m.Headers = headers.OfRow(object)
	m.Payload = append(make([]byte, 0, len(payload)), payload...)
	m.EnqueuedAt = timeOf(createdAt)
	if retryAt != null {
		r.RetryIn = timeOf(retryAt).Sub(timeOf(f.now))
	}
	f.result.Records = append(f.result.Records, r)
	f.bytes += len(m.Payload) + len(m.Key) + headers.Size(m.Headers)
	f.full = f.bytes >= f.request.MaxBytes
	f.result.More = f.full || len(f.result.Records) == f.request.Limit
	return nil
}
