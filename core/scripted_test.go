package core_test

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"sync"
	"testing"
)

// scriptedDB is a database/sql driver without a database: it notes what it is asked to do, and fails where it is told
// to. Only COMMIT's answers cannot be had from a real one at will.
type scriptedDB struct {
	mu      sync.Mutex
	log     []string
	commits []error // what COMMIT returns, one after another; nil after the last
	begins  []error // the same for BEGIN
	// onCommit runs while COMMIT is under way.
	onCommit func()
}

func openScripted(t *testing.T, s *scriptedDB) *sql.DB {
	t.Helper()
	db := sql.OpenDB(s)
	t.Cleanup(func() { db.Close() })
	return db
}

func (s *scriptedDB) note(what string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.log = append(s.log, what)
}

func (s *scriptedDB) noted() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return append([]string{}, s.log...)
}

func next(errs *[]error) (err error) {
	if len(*errs) > 0 {
		err, *errs = (*errs)[0], (*errs)[1:]
	}
	return err
}

func (s *scriptedDB) Connect(context.Context) (driver.Conn, error) { return s, nil }
func (s *scriptedDB) Driver() driver.Driver                        { return nil }
func (s *scriptedDB) Close() error                                 { return nil }
func (s *scriptedDB) Prepare(string) (driver.Stmt, error)          { return nil, errors.ErrUnsupported }
func (s *scriptedDB) Begin() (driver.Tx, error)                    { return nil, errors.ErrUnsupported }
func (s *scriptedDB) BeginTx(context.Context, driver.TxOptions) (driver.Tx, error) {
	s.note("BEGIN")
	return s, next(&s.begins)
}

func (s *scriptedDB) ExecContext(_ context.Context, query string, _ []driver.NamedValue) (driver.Result, error) {
	s.note(query)
	return driver.RowsAffected(0), nil
}

func (s *scriptedDB) Commit() error {
	s.note("COMMIT")
	if s.onCommit != nil {
		s.onCommit()
	}
	return next(&s.commits)
}

func (s *scriptedDB) Rollback() error {
	s.note("ROLLBACK")
	return nil
}
