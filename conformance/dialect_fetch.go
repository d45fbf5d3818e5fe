package conformance

import (
	"bytes"
	"context"
	"fmt"
	"time"

	"github.com/lockstep-go/lockstep/core"
)

var fetchChecks = []check[DialectFixture]{
	{"fetch-requested", "the records are the requested ones, those after a position and those in earlier gaps, ascending, gaps and tail together", checkFetchRequested},
	{"fetch-limit", "the records are those with the lowest positions, at most limit, and More reports that the limit ended the result", checkFetchLimit},
	{"fetch-max-bytes", "MaxBytes ends the result after the record with which its payloads, keys and headers reach so many bytes", checkFetchMaxBytes},
	{"fetch-not-due", "the result holds every record that is visible in the snapshot, whatever its retry time", checkFetchNotDue},
	{"fetch-blocked", "records whose key is blocked are left out, and no others", checkFetchBlocked},
	{"fetch-incarnation", "the incarnation names the server and its start", checkFetchIncarnation},
	{"fetch-generation", "the generation changes when records appear or disappear by an operator's action or by promotion, in the same transaction", checkFetchGeneration},
}

var fetchWritersChecks = []check[DialectFixture]{
	{"fetch-snapshot", "a fetch reads with one statement, so that everything in its result is of one snapshot", checkFetchSnapshot},
}

// letters are n messages, a, b, c and so on, each of a key of its own.
func letters(n int) []core.Message {
	msgs := make([]core.Message, n)
	for i := range msgs {
		id := string(rune('a' + i))
		msgs[i] = keyed(id, id)
	}
	return msgs
}

func checkFetchRequested(ctx context.Context, f DialectFixture) error {
	records, err := f.stored(ctx, letters(8)...)
	if err != nil {
		return err
	}
	at := func(i int) int64 { return records[i].Position }
	for _, tt := range []struct {
		after int64
		gaps  []core.Range
		want  []string
	}{
		{0, nil, []string{"a", "b", "c", "d", "e", "f", "g", "h"}},
		{at(5), nil, []string{"g", "h"}},
		{at(7), nil, nil},
		{at(5), []core.Range{{First: at(0), Last: at(0)}, {First: at(2), Last: at(3)}}, []string{"a", "c", "d", "g", "h"}},
		{at(7), []core.Range{{First: at(7), Last: at(7)}}, []string{"h"}},
		{at(7) + 1000, []core.Range{{First: at(6), Last: at(7) + 1000}}, []string{"g", "h"}},
	} {
		result, err := f.fetch(ctx, core.FetchRequest{After: tt.after, Gaps: tt.gaps, Limit: 100, MaxBytes: 1 << 20})
		if err != nil {
			return err
		}
		if err := same(fmt.Sprintf("a fetch after %d with the gaps %v returned", tt.after, tt.gaps), ids(result.Records), tt.want); err != nil {
			return err
		}
		if result.More {
			return fmt.Errorf("a fetch of %d records with the limit 100 reports More", len(tt.want))
		}
		for i := 1; i < len(result.Records); i++ {
			if result.Records[i-1].Position >= result.Records[i].Position {
				return fmt.Errorf("the positions %d and %d do not ascend", result.Records[i-1].Position, result.Records[i].Position)
			}
		}
	}
	return f.fetchWithManyGaps(ctx)
}

// fetchWithManyGaps is a fetch with as many gaps as a batch of rolled back transactions leaves, of which half are filled now.
func (f DialectFixture) fetchWithManyGaps(ctx context.Context) error {
	const n = 300
	msgs := make([]core.Message, n)
	for i := range msgs {
		msgs[i] = event(fmt.Sprint(i))
	}
	records, err := f.stored(ctx, msgs...)
	if err != nil {
		return err
	}
	end := records[n-1].Position
	request := core.FetchRequest{After: end + 5000, Limit: 2 * n, MaxBytes: 1 << 20}
	var want []string
	for i := 1; i < n; i += 2 {
		at := records[i].Position
		request.Gaps, want = append(request.Gaps, core.Range{First: at, Last: at}), append(want, records[i].Message.ID)
	}
	for i := range int64(1000 - n/2) {
		request.Gaps = append(request.Gaps, core.Range{First: end + 2 + 2*i, Last: end + 2 + 2*i})
	}
	result, err := f.fetch(ctx, request)
	if err != nil {
		return err
	}
	return same("a fetch with 1000 gaps returned", ids(result.Records), want)
}

func checkFetchLimit(ctx context.Context, f DialectFixture) error {
	records, err := f.stored(ctx, letters(5)...)
	if err != nil {
		return err
	}
	b := records[1].Position
	for _, tt := range []struct {
		request core.FetchRequest
		want    []string
	}{
		{core.FetchRequest{Limit: 2}, []string{"a", "b"}},
		{core.FetchRequest{Limit: 1, After: b, Gaps: []core.Range{{First: b, Last: b}}}, []string{"b"}},
		{core.FetchRequest{Limit: 2, After: b, Gaps: []core.Range{{First: b, Last: b}}}, []string{"b", "c"}},
	} {
		tt.request.MaxBytes = 1 << 20
		result, err := f.fetch(ctx, tt.request)
		if err != nil {
			return err
		}
		if err := same(fmt.Sprintf("a fetch of %+v returned", tt.request), ids(result.Records), tt.want); err != nil {
			return err
		}
		if !result.More {
			return fmt.Errorf("a fetch of %+v does not report More", tt.request)
		}
	}
	return nil
}

func checkFetchMaxBytes(ctx context.Context, f DialectFixture) error {
	const size = 1000
	msgs := letters(8)
	for i := range msgs[:4] {
		msgs[i].Payload = bytes.Repeat([]byte("x"), size)
	}
	for i := range msgs[4:] {
		msgs[4+i].Headers = map[string]string{"h": string(bytes.Repeat([]byte("x"), size))}
	}
	records, err := f.stored(ctx, msgs...)
	if err != nil {
		return err
	}
	for _, tt := range []struct {
		after int64
		bytes int
		want  []string
	}{
		{0, size / 2, []string{"a"}},
		{0, size * 5 / 2, []string{"a", "b", "c"}},
		{records[3].Position, size * 3 / 2, []string{"e", "f"}},
	} {
		result, err := f.fetch(ctx, core.FetchRequest{After: tt.after, Limit: 100, MaxBytes: tt.bytes})
		if err != nil {
			return err
		}
		if err := same(fmt.Sprintf("a fetch of messages of %d bytes with MaxBytes %d returned", size, tt.bytes), ids(result.Records), tt.want); err != nil {
			return err
		}
		if !result.More {
			return fmt.Errorf("a fetch that MaxBytes ended does not report More")
		}
	}
	return nil
}

func checkFetchNotDue(ctx context.Context, f DialectFixture) error {
	records, err := f.stored(ctx, letters(2)...)
	if err != nil {
		return err
	}
	if records[0].RetryIn > 0 || records[0].Attempts != 0 {
		return fmt.Errorf("a record that never failed has %d attempts and is due in %v", records[0].Attempts, records[0].RetryIn)
	}
	err = f.session(ctx, func(s core.Session) error {
		return s.Fail(ctx, []core.Failure{{Ref: records[0].Ref(), Attempts: 1, RetryIn: time.Hour, Cause: "x"}})
	})
	if err != nil {
		return err
	}
	return f.expect(ctx, "a", "b")
}

// bury buries records with the default cause.
func bury(ctx context.Context, s core.Session, records ...core.Record) error {
	burials := make([]core.Burial, len(records))
	for i, r := range records {
		burials[i] = core.Burial{Ref: r.Ref(), Attempts: r.Attempts + 1, Cause: "the cause of " + r.Message.ID}
	}
	return s.Bury(ctx, burials)
}

func checkFetchBlocked(ctx context.Context, f DialectFixture) error {
	msgs := []core.Message{
		keyed("buried", "k"), keyed("behind it", "k"), keyed("other key", "other"), keyed("no key", ""),
		{ID: "other topic", Topic: "payments", Key: "k"}, keyed("upper case", "K"), keyed("with a space", "k "),
		keyed("no key, buried", ""), keyed("last", "k"),
	}
	records, err := f.stored(ctx, msgs...)
	if err != nil {
		return err
	}
	err = f.session(ctx, func(s core.Session) error { return bury(ctx, s, records[0], records[7]) })
	if err != nil {
		return err
	}
	want := []string{"other key", "no key", "other topic", "upper case", "with a space"}
	if err := f.expect(ctx, want...); err != nil {
		return err
	}
	gap := []core.Range{{First: records[0].Position, Last: records[6].Position}}
	result, err := f.fetch(ctx, core.FetchRequest{After: records[6].Position, Gaps: gap, Limit: 3, MaxBytes: 1 << 20})
	if err != nil {
		return err
	}
	return same("a fetch of the gap before it, with a limit, returned", ids(result.Records), want[:3])
}

func checkFetchIncarnation(ctx context.Context, f DialectFixture) error {
	first, err := f.fetch(ctx, everything)
	if err != nil {
		return err
	}
	return f.session(ctx, func(s core.Session) error {
		for range 3 {
			again, err := s.Fetch(ctx, everything)
			if err != nil {
				return err
			}
			if again.Incarnation != first.Incarnation {
				return fmt.Errorf("the server went on, and its incarnation changed from %q to %q", first.Incarnation, again.Incarnation)
			}
		}
		return nil
	})
}

func firstError(errs ...error) error {
	for _, err := range errs {
		if err != nil {
			return err
		}
	}
	return nil
}

// Each transaction commits one record in a gap and one in the tail. A fetch sees both or none.
func checkFetchSnapshot(ctx context.Context, f DialectFixture) error {
	return f.session(ctx, func(s core.Session) error {
		for round := range 30 {
			if err := f.tornFetch(ctx, s, round); err != nil {
				return err
			}
		}
		return nil
	})
}

func (f DialectFixture) tornFetch(ctx context.Context, s core.Session, round int) error {
	name := func(part string) string { return fmt.Sprint(part, round) }
	tx, rollback, err := f.begin(ctx)
	if err != nil {
		return err
	}
	defer rollback()
	outbox := core.NewOutbox(f.Dialect, core.OutboxConfig{})
	if err := outbox.Enqueue(ctx, tx, keyed(name("gap"), "1")); err != nil {
		return err
	}
	between, err := f.stored(ctx, keyed(name("between"), "2"))
	if err != nil {
		return err
	}
	if err := outbox.Enqueue(ctx, tx, keyed(name("tail"), "1")); err != nil {
		return err
	}
	committed := make(chan error, 1)
	go func() { committed <- tx.Commit() }()
	// The gap begins in front of what other rounds have left, which is not looked at.
	request := core.FetchRequest{After: between[0].Position, Gaps: []core.Range{{First: 1, Last: between[0].Position - 1}}, Limit: 1000, MaxBytes: 1 << 20}
	err = eventually(ctx, "committed records are not fetched", func() (bool, error) {
		result, err := s.Fetch(ctx, request)
		if err != nil {
			return false, err
		}
		gap, tail := contains(result.Records, name("gap")), contains(result.Records, name("tail"))
		if gap != tail {
			return false, fmt.Errorf("one transaction's record in a gap is fetched: %v, and its record in the tail: %v", gap, tail)
		}
		return gap, nil
	})
	return firstError(<-committed, err)
}

func contains(records []core.Record, id string) bool {
	for _, r := range records {
		if r.Message.ID == id {
			return true
		}
	}
	return false
}
