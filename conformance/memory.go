package conformance

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"sync"
	"time"

	"github.com/lockstep-go/lockstep/core"
)

var (
	// ErrBroken is what every call over a broken connection returns.
	ErrBroken = errors.New("connection is broken")
	// ErrAnswerLost is returned by a call that was executed and whose answer was lost on the way.
	ErrAnswerLost = fmt.Errorf("answer lost: %w", ErrBroken)
	// ErrDeadlock is returned to the transaction whose lock would have closed a circle of waiting transactions. It was
	// rolled back; [Memory.Retryable] reports true.
	ErrDeadlock = errors.New("deadlock: the transaction was rolled back")
)

var (
	_ core.Dialect   = (*Memory)(nil)
	_ core.KeyLocker = (*Memory)(nil)
)

// MemoryConfig sets how a [Memory] works. Its zero value works.
type MemoryConfig struct {
	// Outbox is the outbox's UUID. Defaults to a new one.
	Outbox string
	// Archive keeps acknowledged records in the archive. Defaults to removing them.
	Archive bool
	// History is how many of the latest commits [Memory.Restart] can lose. Defaults to 64.
	History int
}

// Memory is a database in memory with one outbox in it: a [core.Dialect] for tests of the engine, that behaves like a
// server at the other end of a network. Transactions stay open until they are ended, and take their positions before
// they commit; each session call reads or changes what was committed at one instant; connections break, answers get
// lost, the server restarts and forgets its latest commits, all on demand.
//
// It starts no goroutine (but a timer's, for a late statement) and has no randomness but the outbox's UUID, so that
// under testing/synctest one schedule of calls and faults always gives the same results. Payloads and headers that it
// returns share the rows' memory, as no database's do: who writes into them changes the rows.
type Memory struct {
	config MemoryConfig

	// injecting lets one goroutine at a time into inject. It is not mu, so that a fault function may restart the server.
	injecting sync.Mutex
	inject    func(Call) Fault

	mu          sync.Mutex
	offset      time.Duration // of the database's clock from ours
	incarnation int
	serverName  string           // made of incarnation
	sessions    []*memorySession // open ones, by age
	open        []*MemoryTx      // by age
	listeners   []*listener
	lastSession int
	lastTx      int
	late        []lateStatement
	locks       map[lockName]*rowLock

	outbox, delayed, dead, archive memoryTable
	blocked                        map[topicKey][]core.BlockedKey // the burials that block a key, by position
	lease                          memoryLease
	generation                     int64
	next                           int64 // the position to hand out next
	nextDelayed                    int64
	inbox                          map[receipt]time.Time

	log      []commit // a ring: log[commits%len(log)] is the one that is being written
	commits  int
	undoable int

	scratch []int
}

// topicKey names a key.
type topicKey struct{ topic, key string }

func keyOf(m *core.Message) topicKey { return topicKey{m.Topic, m.Key} }

// NewMemory returns an empty outbox.
func NewMemory(config MemoryConfig) *Memory {
	if config.Outbox == "" {
		config.Outbox = core.NewID()
	}
	if config.History == 0 {
		config.History = 64
	}
	m := &Memory{
		config:      config,
		next:        1,
		nextDelayed: 1,
		locks:       map[lockName]*rowLock{},
		blocked:     map[topicKey][]core.BlockedKey{},
		inbox:       map[receipt]time.Time{},
		log:         make([]commit, config.History+1),
	}
	m.start()
	m.beginCommit()
	return m
}

// Inject makes f decide what goes wrong with each call from now on; nil ends it. It is called by one goroutine at a
// time, when a call begins, and may itself call [Memory.Restart] and what else needs no connection.
func (m *Memory) Inject(f func(Call) Fault) {
	m.injecting.Lock()
	defer m.injecting.Unlock()
	m.inject = f
}

// SetClock sets how far the database's clock is ahead of time.Now.
func (m *Memory) SetClock(offset time.Duration) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.offset = offset
}

// now is the database's clock. It is a wall clock, like a real one's: without our monotonic reading.
func (m *Memory) now() time.Time { return time.Now().Add(m.offset).Round(0) }

// Restart says what happens to the database in a [Memory.Restart]. Its zero value is a crash and a restart on the same
// disk: connections break, open transactions are rolled back, and the incarnation changes.
type Restart struct {
	// Lose is how many of the latest commits are lost, as in an asynchronous failover: transactions of the application
	// and changes by sessions alike. Their positions are handed out again. At most MemoryConfig.History.
	Lose int
	// KeepSessions leaves the sessions connected, as a pooler between them and the server does. Transactions of the
	// application are rolled back all the same.
	KeepSessions bool
	// KeepIncarnation is for a server that does not tell that it is another one.
	KeepIncarnation bool
}

// Restart restarts the server, and returns the ids of the messages whose enqueueing was lost, latest first.
func (m *Memory) Restart(r Restart) (lost []string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.settle()
	m.late = nil
	for _, tx := range slices.Clone(m.open) {
		tx.breakLocked(ErrBroken)
		tx.endLocked() // also those whose client has gone, and left a late COMMIT
	}
	for _, l := range m.listeners { // a pooler that keeps sessions cannot keep these
		l.breakLocked(ErrBroken)
	}
	if !r.KeepSessions {
		for _, s := range slices.Clone(m.sessions) {
			s.breakLocked(ErrBroken)
		}
	}
	if !r.KeepIncarnation {
		m.start()
	}
	return m.undo(r.Lose)
}

// MemoryContents is what a [Memory] holds at one instant.
type MemoryContents struct {
	Records  []core.Record // the outbox, blocked keys' included, ascending by position
	Delayed  []core.Record // by due time, then in enqueue order; Position counts delayed events only
	Dead     []core.DeadLetter
	Archived []core.Record
	Blocked  []core.BlockedKey
	Lease    core.Lease
	// Generation is the outbox's.
	Generation int64
	// Sessions and Transactions count the open ones.
	Sessions, Transactions int
}

// Contents returns what m holds, to compare with what it should hold. No fault touches it.
func (m *Memory) Contents() MemoryContents {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.settle()
	now := m.now()
	c := MemoryContents{
		Records:      m.outbox.records(now),
		Delayed:      m.delayed.records(now),
		Archived:     m.archive.records(now),
		Blocked:      m.blockedAfter(topicKey{}, len(m.blocked)),
		Lease:        m.leaseAt(now),
		Generation:   m.generation,
		Sessions:     len(m.sessions),
		Transactions: len(m.open),
	}
	for _, row := range m.dead.rows {
		c.Dead = append(c.Dead, row.deadLetter(now))
	}
	return c
}

// Retryable reports whether err is a deadlock.
func (m *Memory) Retryable(err error) bool { return errors.Is(err, ErrDeadlock) }

// Open opens a session.
func (m *Memory) Open(ctx context.Context) (core.Session, error) {
	m.mu.Lock()
	m.lastSession++
	s := &memorySession{conn{memory: m, session: m.lastSession}}
	m.mu.Unlock()
	err := s.run(ctx, "Open", func() error {
		m.sessions = append(m.sessions, s)
		return nil
	}, nil)
	if err != nil {
		return nil, err
	}
	return s, nil
}

// Enqueue inserts msgs through tx, which must be a *[MemoryTx] of m.
func (m *Memory) Enqueue(ctx context.Context, tx core.Execer, msgs []core.Message) error {
	own, err := m.own(tx)
	if err != nil {
		return err
	}
	return own.enqueue(ctx, msgs)
}

// LockKeys locks the keys of msgs until the end of tx, in bytewise order.
func (m *Memory) LockKeys(ctx context.Context, tx core.Execer, msgs []core.Message) error {
	own, err := m.own(tx)
	if err != nil {
		return err
	}
	names := make([]lockName, 0, len(msgs))
	for i := range msgs {
		if msgs[i].Key != "" {
			names = append(names, lockName{key: true, topicKey: keyOf(&msgs[i])})
		}
	}
	slices.SortFunc(names, func(a, b lockName) int { return compareKeys(a.topicKey, b.topicKey) })
	for _, name := range slices.Compact(names) {
		if err := own.lock(ctx, "LockKeys", name); err != nil {
			return err
		}
	}
	return nil
}

func (m *Memory) own(tx core.Execer) (*MemoryTx, error) {
	own, ok := tx.(*MemoryTx)
	if !ok || own.memory != m {
		return nil, fmt.Errorf("memory: %T is not a transaction of this database: begin it with Memory.Begin", tx)
	}
	return own, nil
}

// start makes the server another one, by its name.
func (m *Memory) start() {
	m.incarnation++
	m.serverName = "memory-" + strconv.Itoa(m.incarnation)
}
