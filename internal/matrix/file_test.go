package matrix

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/lockstep-go/lockstep/core"
	"github.com/lockstep-go/lockstep/dialect/sqlite"
)

// A database without a server is the processes that have its file open. It is killed when all of them have lost it at once, and
// nobody has closed it: what was committed is in the write-ahead log beside the file, and so is half of what was not, for
// whoever opens it next to tell them apart.

// errFileLost is what a call returns while nobody has the file open.
var errFileLost = errors.New("the file was lost")

// file is a SQLite file as the relay's process has it, which can lose it.
type file struct {
	path string

	mu       sync.Mutex
	dialect  *sqlite.Dialect // never nil
	lost     bool
	sessions map[*fileSession]bool // that are open
	opened   context.Context       // ends when the file is lost
	end      context.CancelFunc
	calls    *sync.WaitGroup // that may wait
}

var (
	_ core.Dialect  = (*file)(nil)
	_ core.Listener = (*file)(nil)
)

func (f *file) open() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	dialect, err := sqlite.Open(f.path, sqlite.Config{})
	if err != nil {
		return err
	}
	f.dialect, f.lost, f.sessions, f.calls = dialect, false, map[*fileSession]bool{}, &sync.WaitGroup{}
	f.opened, f.end = context.WithCancel(context.Background())
	return nil
}

func (f *file) current() *sqlite.Dialect {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.dialect
}

func (f *file) Unwrap() core.Dialect     { return f.current() }
func (f *file) Retryable(err error) bool { return f.current().Retryable(err) }
func (f *file) Enqueue(ctx context.Context, tx core.Execer, msgs []core.Message) error {
	return f.current().Enqueue(ctx, tx, msgs)
}

func (f *file) Open(ctx context.Context) (core.Session, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.lost {
		return nil, errFileLost
	}
	inner, err := f.dialect.Open(ctx)
	if err != nil {
		return nil, err
	}
	s := &fileSession{Session: inner, file: f}
	f.sessions[s] = true
	return s, nil
}

// call returns a context for one that may wait. It ends when the file is lost.
func (f *file) call(parent context.Context) (ctx context.Context, end func()) {
	f.mu.Lock()
	defer f.mu.Unlock()
	ctx, cancel := context.WithCancel(parent)
	if f.lost {
		cancel()
		return ctx, func() {}
	}
	calls, forget := f.calls, context.AfterFunc(f.opened, cancel)
	calls.Add(1)
	return ctx, func() {
		forget()
		cancel()
		calls.Done()
	}
}

func (f *file) Listen(ctx context.Context, wake func()) error {
	dialect := f.current()
	ctx, end := f.call(ctx)
	defer end()
	return dialect.Listen(ctx, wake)
}

// lose ends every connection of this process, after what is under way has ended. The sessions' own are a sql.Conn each, which anybody
// may close.
func (f *file) lose() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.lost {
		return errFileLost
	}
	f.lost = true
	f.end()
	f.calls.Wait()
	var errs []error
	for s := range f.sessions {
		errs = append(errs, s.Session.Close())
	}
	clear(f.sessions)
	return errors.Join(append(errs, f.dialect.Close())...)
}

func (f *file) close() error {
	if err := f.lose(); !errors.Is(err, errFileLost) {
		return err
	}
	return nil
}

type fileSession struct {
	core.Session
	file *file
}

func (s *fileSession) Unwrap() core.Session { return s.Session }

func (s *fileSession) Close() error {
	s.file.mu.Lock()
	defer s.file.mu.Unlock()
	if !s.file.sessions[s] { // it was closed when the file was lost
		return nil
	}
	delete(s.file.sessions, s)
	return s.Session.Close()
}

// What a relay writes waits for the file's lock, until its context ends.

func (s *fileSession) writes(ctx context.Context, do func(context.Context) error) error {
	ctx, end := s.file.call(ctx)
	defer end()
	return do(ctx)
}

func (s *fileSession) leased(ctx context.Context, do func(context.Context) (bool, error)) (ours bool, err error) {
	err = s.writes(ctx, func(ctx context.Context) (err error) {
		ours, err = do(ctx)
		return err
	})
	return ours, err
}

func (s *fileSession) Acknowledge(ctx context.Context, refs []core.Ref) error {
	return s.writes(ctx, func(ctx context.Context) error { return s.Session.Acknowledge(ctx, refs) })
}

func (s *fileSession) Fail(ctx context.Context, failures []core.Failure) error {
	return s.writes(ctx, func(ctx context.Context) error { return s.Session.Fail(ctx, failures) })
}

func (s *fileSession) Bury(ctx context.Context, burials []core.Burial) error {
	return s.writes(ctx, func(ctx context.Context) error { return s.Session.Bury(ctx, burials) })
}

func (s *fileSession) Promote(ctx context.Context, epoch int64, limit int) (p core.Promotion, err error) {
	err = s.writes(ctx, func(ctx context.Context) (err error) {
		p, err = s.Session.Promote(ctx, epoch, limit)
		return err
	})
	return p, err
}

func (s *fileSession) TakeLease(ctx context.Context, seen core.Lease, holder string, ttl time.Duration) (bool, error) {
	return s.leased(ctx, func(ctx context.Context) (bool, error) { return s.Session.TakeLease(ctx, seen, holder, ttl) })
}

func (s *fileSession) RenewLease(ctx context.Context, holder string, epoch int64, ttl time.Duration, progress bool) (bool, error) {
	return s.leased(ctx, func(ctx context.Context) (bool, error) {
		return s.Session.RenewLease(ctx, holder, epoch, ttl, progress)
	})
}

func (s *fileSession) MarkSuspect(ctx context.Context, holder string, epoch int64, suspect core.Ref) (bool, error) {
	return s.leased(ctx, func(ctx context.Context) (bool, error) { return s.Session.MarkSuspect(ctx, holder, epoch, suspect) })
}

func (s *fileSession) ReleaseLease(ctx context.Context, holder string, epoch int64) error {
	return s.writes(ctx, func(ctx context.Context) error { return s.Session.ReleaseLease(ctx, holder, epoch) })
}

// unclosed is how much a transaction writes that is never committed: more than SQLite keeps in memory, so that it stands in
// the log.
const unclosed = 8 << 20

// restart is DialectFixture.Restart. Another process holds the file's write lock, in the middle of a transaction of which the log has
// a part already. Then the application's process is killed, the relay's loses the file, and the other one is killed as the
// last that had it open, with the lock. Nobody has closed it, so the next one to open it has to recover what was committed.
func restartFile(f *file, writes *application) error {
	other := &application{path: f.path}
	defer other.cut()
	ctx := context.Background()
	tx, err := other.begin(ctx)
	if err != nil {
		return fmt.Errorf("begin in another process: %w", err)
	}
	for _, statement := range []string{
		"CREATE TABLE uncommitted (filler BLOB)",
		fmt.Sprintf("INSERT INTO uncommitted WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < %d) SELECT zeroblob(4096) FROM n", unclosed/4096),
	} {
		if _, err := tx.ExecContext(ctx, statement); err != nil {
			return fmt.Errorf("write in another process: %w", err)
		}
	}
	return writes.whileDead(func() error {
		if err := f.lose(); err != nil {
			return err
		}
		if err := nobodyHas(f.path); err != nil {
			return err
		}
		other.cut()
		wal, err := os.Stat(f.path + "-wal")
		if err != nil || wal.Size() < unclosed/2 {
			return fmt.Errorf("the log has nothing to recover from: %+v, %w", wal, err)
		}
		return f.open()
	})
}

// nobodyHas is an error where this process has the file open, as far as the system tells.
func nobodyHas(path string) error {
	const own = "/proc/self/fd"
	entries, err := os.ReadDir(own)
	if err != nil {
		return nil //nolint:nilerr // it does not tell
	}
	for _, entry := range entries {
		if name, err := os.Readlink(own + "/" + entry.Name()); err == nil && strings.HasPrefix(name, path) {
			return fmt.Errorf("%s is open", name)
		}
	}
	return nil
}

// What was committed is there after everybody has lost the file, what was not is not, and the sessions of before have ended.
func TestAFileIsRestarted(t *testing.T) {
	t.Cleanup(endIdle)
	f, insert := inserting(t)
	if err := insert("committed").Commit(); err != nil {
		t.Fatal(err)
	}
	session, err := f.Dialect.Open(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	renewing := make(chan error, 1)
	go func() { // waits for the lock that the other process holds, or comes before it
		for {
			if _, err := session.RenewLease(t.Context(), "nobody", 1, time.Second, false); err != nil {
				renewing <- err
				return
			}
		}
	}()
	if err := f.Restart(); err != nil {
		t.Fatal(err)
	}
	if err := <-renewing; t.Context().Err() != nil {
		t.Error(err)
	}
	if _, err := session.Stats(t.Context()); err == nil {
		t.Error("a session goes on over the file's loss")
	}
	if err := session.Close(); err != nil {
		t.Error(err)
	}
	if err := insert("afterwards").Commit(); err != nil {
		t.Fatal(err)
	}
	var got string
	if err := f.DB.QueryRow("SELECT group_concat(id, ', ' ORDER BY rowid) FROM orders").Scan(&got); err != nil || got != "committed, afterwards" {
		t.Errorf("the file holds %q: %v", got, err)
	}
	var never int
	if err := f.DB.QueryRow("SELECT 1 FROM sqlite_schema WHERE name = 'uncommitted'").Scan(&never); !errors.Is(err, sql.ErrNoRows) {
		t.Errorf("what was not committed was recovered: %v", err)
	}
	again, err := f.Dialect.Open(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer again.Close()
	if _, err := again.Stats(t.Context()); err != nil {
		t.Error(err)
	}
}
