package postgres

import (
	"encoding/binary"
	"errors"
	"math"
	"time"
)

// errRow is what a row is refused with that record_send did not write.
var errRow = errors.New("the server sent a row that cannot be read: its length is not that of its fields")

// null is what a decoder reads where a number is NULL. No column that is read has it as its value: it stands for a time that
// is minus infinity.
const null = math.MinInt64

// decoder reads the fields of a row as record_send wrote it: their number, and for each its type and its length, of four
// bytes each, and its bytes. After an error it reads empty fields.
type decoder struct {
	rest []byte
	err  error
}

func decoderOf(row []byte) *decoder {
	d := &decoder{rest: row}
	d.take(4) // how many fields there are, which the caller knows
	return d
}

// take cuts n bytes off, or returns nil where there are fewer.
func (d *decoder) take(n int) []byte {
	if n < 0 || n > len(d.rest) {
		d.rest, d.err = nil, errRow
		return nil
	}
	taken := d.rest[:n]
	d.rest = d.rest[n:]
	return taken
}

// bytes reads a field; nil where it is NULL.
func (d *decoder) bytes() []byte {
	head := d.take(8)
	if d.err != nil {
		return nil
	}
	n := int(int32(binary.BigEndian.Uint32(head[4:]))) //nolint:gosec // -1 is NULL
	if n == -1 {
		return nil
	}
	return d.take(n)
}

// int reads a field of type bigint, integer or timestamptz; the last is in microseconds since 2000.
func (d *decoder) int() int64 {
	switch field := d.bytes(); {
	case field == nil:
		return null
	case len(field) == 8:
		return int64(binary.BigEndian.Uint64(field)) //nolint:gosec // two's complement
	case len(field) == 4:
		return int64(int32(binary.BigEndian.Uint32(field))) //nolint:gosec // two's complement
	}
	d.err = errRow
	return 0
}

// The years that Go and PostgreSQL both hold, which a table without its CHECK may exceed.
var (
	epoch    = time.Date(2000, 1, 1, 0, 0, 0, 0, time.UTC)
	earliest = time.Date(1, 1, 1, 0, 0, 0, 0, time.UTC).UnixMicro() - epoch.UnixMicro()
	latest   = time.Date(9999, 12, 31, 0, 0, 0, 0, time.UTC).UnixMicro() - epoch.UnixMicro()
)

// timeOf is the time that a timestamptz stands for, brought to the years that Go holds.
func timeOf(micros int64) time.Time {
	return time.UnixMicro(epoch.UnixMicro() + max(earliest, min(micros, latest)))
}
