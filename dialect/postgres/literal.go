package postgres

import (
	"database/sql/driver"
	"strconv"
	"strings"
	"time"

	"github.com/lib/pq"

	"github.com/lockstep-go/lockstep/core"
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
	const digits = 8 // of most
	b := make([]byte, 0, len("'{}'::bigint[]")+len(values)*digits)
	b = append(b, `'{`...)
	for i, v := range values {
		if i > 0 {
			b = append(b, ',')
		}
		b = strconv.AppendInt(b, f(v), 10)
	}
	return string(append(b, `}'::bigint[]`...))
}

// places are references, each in one text: digits, a space, the id. Acknowledging makes thousands of them at a time: nearly all ids
// have nothing in them that would have to be quoted, and are written as they are.
func places(refs []core.Ref) string {
	const size = len(`"12345678 ",`) + len("01890a5d-ac96-774b-bcce-b302099a8057")
	b := make([]byte, 0, len("'{}'::text[]")+len(refs)*size)
	b = append(b, `'{`...)
	for i, r := range refs {
		if !plain(r.ID) {
			return texts(refs, func(r core.Ref) string { return integer(r.Position) + " " + r.ID })
		}
		if i > 0 {
			b = append(b, ',')
		}
		b = append(b, '"')
		b = strconv.AppendInt(b, r.Position, 10)
		b = append(b, ' ')
		b = append(b, r.ID...)
		b = append(b, '"')
	}
	return string(append(b, `}'::text[]`...))
}

// plain reports whether s stands for itself in an array's notation, and in a literal.
func plain(s string) bool {
	for i := range len(s) {
		switch c := s[i]; {
		case 'a' <= c && c <= 'z', 'A' <= c && c <= 'Z', '0' <= c && c <= '9', c == '-', c == '_', c == '.', c == ':':
		default:
			return false
		}
	}
	return true
}

// list joins what f makes of each value by commas.
func list[T any](values []T, f func(T) string) string {
	parts := make([]string, len(values))
	for i, v := range values {
		parts[i] = f(v)
	}
	return strings.Join(parts, ", ")
}
