package mysql

import (
	"encoding/hex"
	"strconv"
	"strings"
	"time"
)

// text is a value in a statement's text. As hexadecimal digits it means the same in every sql_mode and character set, and
// holds nothing that could end it.
func text(s string) string { return "_utf8mb4 x'" + hex.EncodeToString([]byte(s)) + "'" }

func integer[T ~int | ~int64](i T) string { return strconv.FormatInt(int64(i), 10) }

// later is the database's clock and d, rounded up.
func later(d time.Duration) string {
	us := d.Microseconds()
	if d%time.Microsecond > 0 {
		us++
	}
	return "TIMESTAMPADD(MICROSECOND, " + integer(us) + ", UTC_TIMESTAMP(6))"
}

// micros is a column's time in microseconds since 1970; 0 where it is none, such as the zero date of a lax sql_mode.
func micros(column string) string {
	return "COALESCE(TIMESTAMPDIFF(MICROSECOND, '1970-01-01', " + column + "), 0)"
}

// datetime is t in a DATETIME(6) column, which is in UTC everywhere.
func datetime(t time.Time) string { return t.UTC().Format("2006-01-02 15:04:05.000000") }

// list joins what f makes of each value by commas.
func list[T any](values []T, f func(T) string) string {
	parts := make([]string, len(values))
	for i, v := range values {
		parts[i] = f(v)
	}
	return strings.Join(parts, ", ")
}
