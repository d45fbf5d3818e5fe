package matrix

import (
	"context"
	"database/sql"
	"encoding/gob"
	"errors"
	"fmt"
	"os"
	"sync"

	"github.com/lockstep-go/lockstep/dialect/sqlite"
)

// appVariable makes this test program an application's process, which takes orders until its input ends.
const appVariable = "LOCKSTEP_MATRIX_APPLICATION"

// appOrder is what the process is told. The arguments are what gob knows without being told: text, bytes, integers.
type appOrder struct {
	Number      int64
	Do          string // open, close, begin, exec, commit, rollback; abandon has no answer
	Path, Query string
	Tx          int64
	Args        []any
}

// appAnswer is what came of it.
type appAnswer struct {
	Number, Affected int64
	Error            string
}

// appSide is the process's side.
type appSide struct {
	writing sync.Mutex
	answers *gob.Encoder

	mu      sync.Mutex
	dialect *sqlite.Dialect
	open    map[int64]*openTx
}

// openTx is a transaction, or one that is to be.
type openTx struct {
	ctx  context.Context
	end  context.CancelFunc // rolls back what was not committed
	sql  *sql.Tx
	held chan struct{} // closed when it has begun, or failed to
}

func beApp() {
	s := &appSide{answers: gob.NewEncoder(os.Stdout), open: map[int64]*openTx{}}
	orders := gob.NewDecoder(os.Stdin)
	for {
		var o appOrder
		if orders.Decode(&o) != nil {
			return
		}
		if o.Do == "begin" {
			ctx, end := context.WithCancel(context.Background())
			s.locked(func() { s.open[o.Tx] = &openTx{ctx: ctx, end: end, held: make(chan struct{})} })
		}
		go s.serve(o)
	}
}

func (s *appSide) locked(do func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	do()
}

func (s *appSide) serve(o appOrder) {
	affected, err := s.obey(o)
	if o.Do == "abandon" {
		return
	}
	answer := appAnswer{Number: o.Number, Affected: affected}
	if err != nil {
		answer.Error = err.Error()
	}
	s.writing.Lock()
	defer s.writing.Unlock()
	_ = s.answers.Encode(answer) // nobody may be left to be told
}

func (s *appSide) obey(o appOrder) (affected int64, err error) {
	switch o.Do {
	case "open":
		opened, err := sqlite.Open(o.Path, sqlite.Config{})
		s.locked(func() { s.dialect = opened })
		return 0, err
	case "close":
		return 0, s.close()
	}
	var tx *openTx
	var dialect *sqlite.Dialect
	s.locked(func() { tx, dialect = s.open[o.Tx], s.dialect })
	if tx == nil {
		return 0, fmt.Errorf("%s: there is no transaction %d", o.Do, o.Tx)
	}
	if o.Do == "begin" {
		defer close(tx.held)
		tx.sql, err = dialect.DB().BeginTx(tx.ctx, nil)
		return 0, err
	}
	if o.Do != "abandon" {
		<-tx.held
	}
	switch o.Do {
	case "exec":
		for i, arg := range o.Args {
			if bytes, ok := arg.([]byte); ok && bytes == nil { // gob does not tell it from an empty one
				o.Args[i] = []byte{}
			}
		}
		result, err := tx.sql.ExecContext(tx.ctx, o.Query, o.Args...)
		if err != nil {
			return 0, err
		}
		return result.RowsAffected()
	case "commit":
		err = tx.sql.Commit()
	case "rollback":
		err = tx.sql.Rollback()
	}
	s.locked(func() { delete(s.open, o.Tx) })
	tx.end()
	return 0, err
}

// close rolls back what is open, and closes the file.
func (s *appSide) close() error {
	var open []*openTx
	var dialect *sqlite.Dialect
	s.locked(func() {
		for _, tx := range s.open {
			open = append(open, tx)
		}
		clear(s.open)
		dialect = s.dialect
	})
	for _, tx := range open {
		tx.end()
		<-tx.held
		if tx.sql != nil {
			if err := tx.sql.Rollback(); err != nil && !errors.Is(err, sql.ErrTxDone) {
				return err
			}
		}
	}
	return dialect.Close()
}
