package mysql

import (
	"context"
	"database/sql/driver"
	"errors"
	"fmt"
	"io"
	"strconv"
)

// readValues is read for one statement with many rows. They go to scan without database/sql, which would take more time for each
// row than the driver does. scan must keep nothing of a row.
func (s *session) readValues(ctx context.Context, statement string, scan func(row []driver.Value) error) error {
	err := s.dialect.bound(ctx, func(ctx context.Context) error {
		return s.conn.Raw(func(native any) (err error) {
			rows, err := native.(driver.QueryerContext).QueryContext(ctx, statement, nil)
			if err != nil {
				return err
			}
			defer func() { err = errors.Join(err, rows.Close()) }()
			row := make([]driver.Value, len(rows.Columns()))
			for {
				switch err := rows.Next(row); {
				case errors.Is(err, io.EOF):
					return nil
				case err != nil:
					return err
				}
				if err := scan(row); err != nil {
					return err
				}
			}
		})
	})
	if err != nil {
		s.end()
	}
	return explained(err)
}

// values reads the columns of a row one after another. After an error it reads zeros.
type values struct {
	row []driver.Value
	err error
}

func (v *values) next() driver.Value {
	if v.err != nil || len(v.row) == 0 {
		v.err = errors.Join(v.err, errors.New("the server sent fewer columns than were asked for"))
		return nil
	}
	first := v.row[0]
	v.row = v.row[1:]
	return first
}

// bytes is a column's, which are good until the next row is read; nil where it is NULL.
func (v *values) bytes() []byte {
	switch column := v.next().(type) {
	case []byte:
		return column
	case nil:
		return nil
	default:
		v.err = fmt.Errorf("the server sent a %T where text was asked for", column)
		return nil
	}
}

// int is a number, whatever type the server found for it.
func (v *values) int() (n int64) {
	switch column := v.next().(type) {
	case int64:
		return column
	case []byte:
		n, v.err = strconv.ParseInt(string(column), 10, 64)
	default:
		v.err = errors.Join(v.err, fmt.Errorf("the server sent a %T where a number was asked for", column))
	}
	return n
}
