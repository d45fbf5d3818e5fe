package postgres

import (
	"context"
	"database/sql"
	"encoding/binary"
	"fmt"
	"testing"

	"github.com/lockstep-go/lockstep/core"
)

// allocEvents is how many events a cycle of these tests carries.
const allocEvents = 1000

// noExecer takes everything and does nothing.
type noExecer struct{}

func (noExecer) ExecContext(context.Context, string, ...any) (sql.Result, error) { return nil, nil }

func enqueueCycle(t testing.TB) func() {
	d, err := Open("postgres://localhost/x", Config{})
	if err != nil {
		t.Fatal(err)
	}
	msgs := make([]core.Message, allocEvents)
	for i := range msgs {
		msgs[i] = core.Message{ID: core.NewID(), Topic: "t", Key: fmt.Sprint(i), Payload: make([]byte, 300)}
	}
	return func() {
		if err := d.Enqueue(t.Context(), noExecer{}, msgs); err != nil {
			t.Fatal(err)
		}
	}
}

// fetchCycle reads rows as the server writes them.
func fetchCycle(t testing.TB) func() {
	rows := make([][]byte, allocEvents)
	for i := range rows {
		rows[i] = sentRow(int64(i+1), core.NewID(), "t", fmt.Sprint(i), "{}", string(make([]byte, 300)))
	}
	return func() {
		f := fetched{request: core.FetchRequest{Limit: allocEvents, MaxBytes: 1 << 20}, expected: allocEvents}
		for _, row := range rows {
			if err := f.add(row); err != nil {
				t.Fatal(err)
			}
		}
		if len(f.result.Records) != allocEvents {
			t.Fatalf("got %d records", len(f.result.Records))
		}
	}
}

// sentRow is a row as record_send writes it, created and due now, and not tried yet.
func sentRow(position int64, texts ...string) []byte {
	row := binary.BigEndian.AppendUint32(nil, 9)
	field := func(value []byte) {
		row = binary.BigEndian.AppendUint32(row, 25) // a type, which nobody looks at
		row = binary.BigEndian.AppendUint32(row, uint32(len(value)))
		row = append(row, value...)
	}
	field(binary.BigEndian.AppendUint64(nil, uint64(position)))
	for _, text := range texts {
		field([]byte(text))
	}
	field(binary.BigEndian.AppendUint64(nil, 1_000_000))
	field(binary.BigEndian.AppendUint32(nil, 0))
	row = binary.BigEndian.AppendUint32(row, 1184)
	return binary.BigEndian.AppendUint32(row, 0xffffffff) // NULL
}

// acknowledgeCycle makes the arrays of a statement.
func acknowledgeCycle() func() {
	refs := make([]core.Ref, allocEvents)
	for i := range refs {
		refs[i] = core.Ref{Position: int64(i + 1), ID: core.NewID()}
	}
	return func() {
		_ = integers(refs, func(r core.Ref) int64 { return r.Position })
		_ = places(refs)
	}
}

// TestAllocations holds what an event costs in allocations: a number that is the same on every machine. Whoever raises one
// says why.
func TestAllocations(t *testing.T) {
	for _, test := range []struct {
		name  string
		cycle func()
		most  float64 // for allocEvents events
	}{
		{"enqueue", enqueueCycle(t), 1100},
		{"fetch", fetchCycle(t), 2010}, // the ID with the key, and the payload
		{"acknowledge", acknowledgeCycle(), 6},
	} {
		if got := testing.AllocsPerRun(20, test.cycle); got > test.most {
			t.Errorf("%s: %v allocations for %d events, want at most %v", test.name, got, allocEvents, test.most)
		} else {
			t.Logf("%s: %v allocations for %d events", test.name, got, allocEvents)
		}
	}
}

// TestARowThatIsCutOffIsAnError cuts a row at each of its bytes, and makes each of its lengths wrong.
func TestARowThatIsCutOffIsAnError(t *testing.T) {
	t.Parallel()
	whole := sentRow(7, "id", "topic", "key", `{"a":"b"}`, "payload")
	read := func(row []byte) (core.FetchResult, error) {
		f := fetched{request: core.FetchRequest{Limit: 1, MaxBytes: 100}}
		err := f.add(row)
		return f.result, err
	}
	got, err := read(whole)
	if err != nil || len(got.Records) != 1 || got.Records[0].Position != 7 || got.Records[0].Message.ID != "id" ||
		string(got.Records[0].Message.Payload) != "payload" || got.Records[0].Message.Headers["a"] != "b" || got.Records[0].RetryIn != 0 {
		t.Fatalf("got %+v, %v", got, err)
	}
	for n := range whole {
		if got, err := read(whole[:n]); err == nil {
			t.Errorf("cut off after %d bytes: got %+v, want an error", n, got)
		}
	}
	for at := 8; at < len(whole); at++ {
		wrong := append([]byte{}, whole...)
		wrong[at] ^= 0x80 // a length that is negative, or far too long; or a value that is another one
		_, _ = read(wrong)
	}
}
