package matrix

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"encoding/gob"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/lockstep-go/lockstep/conformance"
)

// The application of a database without a server. What dies with a connection elsewhere is a process here: it begins its
// transactions in one of its own, beside the relay's, which is killed with SIGKILL. See appchild_test.go for its side.

// errAppDied is what a call returns whose process was killed.
var errAppDied = errors.New("the application's process was killed")

// app is a process that has a file open.
type app struct {
	cmd   *exec.Cmd
	muted atomic.Bool   // its answers get lost
	dead  chan struct{} // closed when nothing more comes from it

	writing sync.Mutex
	orders  *gob.Encoder

	mu      sync.Mutex
	last    int64
	waiting map[int64]chan appAnswer
}

func startApp() (*app, error) {
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), appVariable+"=1")
	cmd.Stderr = os.Stderr
	in, err := cmd.StdinPipe()
	if err != nil {
		return nil, err
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	a := &app{cmd: cmd, dead: make(chan struct{}), orders: gob.NewEncoder(in), waiting: map[int64]chan appAnswer{}}
	go a.listen(out)
	return a, nil
}

// listen hands the answers out, until there are no more.
func (a *app) listen(out io.Reader) {
	defer close(a.dead)
	answers := gob.NewDecoder(out)
	for {
		var answer appAnswer
		if answers.Decode(&answer) != nil {
			_ = a.cmd.Wait() // it was killed
			return
		}
		if a.muted.Load() {
			continue
		}
		a.mu.Lock()
		waits := a.waiting[answer.Number]
		delete(a.waiting, answer.Number)
		a.mu.Unlock()
		if waits != nil {
			waits <- answer
		}
	}
}

// kill returns when nothing is left of it.
func (a *app) kill() {
	_ = a.cmd.Process.Kill() // or it has ended
	<-a.dead
}

func (a *app) order(o appOrder) error {
	a.writing.Lock()
	defer a.writing.Unlock()
	if err := a.orders.Encode(o); err != nil {
		return fmt.Errorf("%w: %w", errAppDied, err)
	}
	return nil
}

// call gives an order and waits for its answer.
func (a *app) call(ctx context.Context, o appOrder) (affected int64, err error) {
	waits := make(chan appAnswer, 1)
	a.mu.Lock()
	a.last++
	o.Number = a.last
	a.waiting[o.Number] = waits
	a.mu.Unlock()
	if err := a.order(o); err != nil {
		return 0, err
	}
	select {
	case answer := <-waits:
		if answer.Error != "" {
			return 0, errors.New(answer.Error)
		}
		return answer.Affected, nil
	case <-a.dead:
		return 0, errAppDied
	case <-ctx.Done():
		return 0, ctx.Err()
	}
}

// appTx is a transaction of the process.
type appTx struct {
	app    *app
	number int64
	ended  bool
}

var _ conformance.Tx = (*appTx)(nil)

func (tx *appTx) ExecContext(ctx context.Context, query string, args ...any) (sql.Result, error) {
	n, err := tx.app.call(ctx, appOrder{Do: "exec", Tx: tx.number, Query: query, Args: args})
	return driver.RowsAffected(n), err
}

func (tx *appTx) Commit() error   { return tx.end("commit") }
func (tx *appTx) Rollback() error { return tx.end("rollback") }

func (tx *appTx) end(do string) error {
	if tx.ended {
		return sql.ErrTxDone
	}
	tx.ended = true
	_, err := tx.app.call(context.Background(), appOrder{Do: do, Tx: tx.number})
	return err
}

// application is that of one fixture. It has a process from its first transaction on, and another one after each death.
type application struct {
	path string
	mu   sync.Mutex
	app  *app
	txs  int64
}

// idle are processes that have no file open: to start one takes longer than most checks write.
var idle = make(chan *app, 64)

func (a *application) process(ctx context.Context) (_ *app, tx int64, err error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.txs++
	if a.app != nil {
		return a.app, a.txs, nil
	}
	var started *app
	select {
	case started = <-idle:
	default:
		if started, err = startApp(); err != nil {
			return nil, 0, err
		}
	}
	if _, err := started.call(ctx, appOrder{Do: "open", Path: a.path}); err != nil {
		started.kill()
		return nil, 0, err
	}
	a.app = started
	return a.app, a.txs, nil
}

// begin is DialectFixture.Begin.
func (a *application) begin(ctx context.Context) (conformance.Tx, error) {
	app, number, err := a.process(ctx)
	if err != nil {
		return nil, err
	}
	if _, err := app.call(ctx, appOrder{Do: "begin", Tx: number}); err != nil {
		return nil, errors.Join(err, app.order(appOrder{Do: "abandon", Tx: number})) // it may begin yet
	}
	return &appTx{app: app, number: number}, nil
}

// cut is DialectFixture.Cut.
func (a *application) cut() { _ = a.whileDead(func() error { return nil }) }

// whileDead kills the process, and starts no other one until do has returned.
func (a *application) whileDead(do func() error) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.app != nil {
		a.app.kill()
		a.app = nil
	}
	return do()
}

// loseAnswers is DialectFixture.LoseAnswers: the process does what it is told, and dies before it can tell.
func (a *application) loseAnswers() (heal func(), err error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.app == nil {
		return nil, errors.New("the application has no process")
	}
	a.app.muted.Store(true)
	return a.cut, nil
}

// close keeps the process for another fixture.
func (a *application) close(t *testing.T) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.app == nil {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	if _, err := a.app.call(ctx, appOrder{Do: "close"}); err != nil {
		t.Errorf("close the application's file: %v", err)
		a.app.kill()
		return
	}
	select {
	case idle <- a.app:
	default:
		a.app.kill()
	}
}

// endIdle ends the processes that nobody has.
func endIdle() {
	for {
		select {
		case a := <-idle:
			a.kill()
		default:
			return
		}
	}
}

// inserting opens a file with a table of orders. insert begins a transaction in the application's process, and inserts one.
func inserting(t *testing.T) (f conformance.DialectFixture, insert func(id string) conformance.Tx) {
	t.Helper()
	f = openSQLite(t)
	if _, err := f.DB.Exec("CREATE TABLE orders (id TEXT)"); err != nil {
		t.Fatal(err)
	}
	return f, func(id string) conformance.Tx {
		t.Helper()
		tx, err := f.Begin(t.Context())
		if err == nil {
			_, err = tx.ExecContext(t.Context(), "INSERT INTO orders (id) VALUES (?)", id)
		}
		if err != nil {
			t.Fatal(err)
		}
		return tx
	}
}

// What the application's process does is in the file when it is killed, if and only if it was committed.
func TestAnApplicationDies(t *testing.T) {
	t.Cleanup(endIdle)
	f, begin := inserting(t)
	if err := begin("committed").Commit(); err != nil {
		t.Error(err)
	}
	if err := begin("rolled back").Rollback(); err != nil {
		t.Error(err)
	}
	open := begin("open when it died")
	f.Cut()
	if err := open.Commit(); !errors.Is(err, errAppDied) {
		t.Errorf("the process was killed, and a commit returned %v", err)
	}
	told := begin("its answer is lost")
	heal, err := f.LoseAnswers()
	if err != nil {
		t.Fatal(err)
	}
	answer := make(chan error, 1)
	go func() { answer <- told.Commit() }()
	awaitOrder(t, f.DB, "its answer is lost")
	heal()
	if err := <-answer; !errors.Is(err, errAppDied) {
		t.Errorf("the answer to a commit was lost, and it returned %v", err)
	}
	if err := begin("after all").Commit(); err != nil {
		t.Error(err)
	}
	var got string
	if err := f.DB.QueryRow("SELECT group_concat(id, ', ' ORDER BY rowid) FROM orders").Scan(&got); err != nil || got != "committed, its answer is lost, after all" {
		t.Errorf("the file holds %q: %v", got, err)
	}
}

// awaitOrder waits until the file has id.
func awaitOrder(t *testing.T, db *sql.DB, id string) {
	t.Helper()
	for end := time.Now().Add(20 * time.Second); ; {
		n := 0
		if err := db.QueryRow("SELECT count(*) FROM orders WHERE id = ?", id).Scan(&n); err != nil {
			t.Fatal(err)
		}
		if n > 0 {
			return
		}
		if time.Now().After(end) {
			t.Fatalf("%q is not committed", id)
		}
	}
}
