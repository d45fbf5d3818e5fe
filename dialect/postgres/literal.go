package postgres

import (
	"database/sql/driver"
	"strconv"
	"strings"
	"time"

	"github.com/lib/pq"
)

// text is a value in a statement's text.
func text(s string) string { return pq.QuoteLiteral(s) }

func integer[T ~int | ~int64](i T) string { return strconv.FormatInt(int64(i), 10) }

// interval is a duration in a statement's text.
func interval(d time.Duration) string {
	return integer(d.Microseconds()) + " * interval '1 microsecond'"
}

// timestamp is a time in a statement's text.
func timestamp(t time.Time) string {
	return `(timestamptz 'epoch' + ` + integer(clampYear(t).UnixMicro()) + ` * interval '1 microsecond')`
}

// clampYear brings t to the years that PostgreSQL holds, and 64 bits of microseconds as well.
func clampYear(t time.Time) time.Time {
	switch {
	case t.Year() > lastYear:
		return time.Date(lastYear, 1, 1, 0, 0, 0, 0, time.UTC)
	case t.Year() < firstYear:
		return time.Date(firstYear, 1, 1, 0, 0, 0, 0, time.UTC)
	}
	return t
}

// What PostgreSQL holds begins earlier and ends later.
const firstYear, lastYear = -4000, 90_000

// array is an array in a statement's text, to be cast.
func array(values driver.Valuer) string { return text(notation(values)) }

// notation is PostgreSQL's own for arrays.
func notation(values driver.Valuer) string {
	value, _ := values.Value() // the arrays of lib/pq have no errors
	if s, ok := value.(string); ok {
		return s
	}
	return "{}" // nil, which would be NULL
}

func texts[T any](values []T, f func(T) string) string {
	elements := make(pq.StringArray, len(values))
	for i, v := range values {
		elements[i] = f(v)
	}
	return array(elements) + "::text[]"
}

func integers[T any](values []T, f func(T) int64) string {
	elements := make(pq.Int64Array, len(values))
	for i, v := range values {
		elements[i] = f(v)
	}
	return array(elements) + "::bigint[]"
}

// list joins what f makes of each value by commas.
func list[T any](values []T, f func(T) string) string {
	parts := make([]string, len(values))
	for i, v := range values {
		parts[i] = f(v)
	}
	return strings.Join(parts, ", ")
}
