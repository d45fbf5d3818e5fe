package conformance

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/lockstep-go/lockstep/core"
)

// scenario is one check of a pair at work: an application with rows of its own, relays, and what was committed.
type scenario struct {
	pair
	ctx       context.Context
	outbox    *core.Outbox
	operator  *core.Operator
	config    core.RelayConfig // of the relays that are started
	processes []*process
	number    uint64     // the seed
	random    *rand.Rand // of the check itself; each writer has one of its own
	table     string     // the application's; empty where it has none
	name      string     // begins the ids

	mu        sync.Mutex
	keys      []*series
	retired   int
	committed map[string]written // by id
	unknown   map[string]written // COMMIT had no answer
	undone    map[string]bool    // must never arrive
	commits   atomic.Int64
	latest    *load        // the writers that were started last
	wanted    atomic.Int64 // calls that wait for commits
}

// written is an event of the application's.
type written struct {
	key string
	seq int
}

// scenarioOf runs act, ends what it started, and names the seed where it failed.
func (p pair) scenarioOf(ctx context.Context, act func(s *scenario) error) (err error) {
	s := &scenario{
		pair: p, ctx: ctx, config: relayConfig(), number: p.seed(),
		outbox: core.NewOutbox(p.Dialect, core.OutboxConfig{}), operator: core.NewOperator(p.Dialect),
		committed: map[string]written{}, unknown: map[string]written{}, undone: map[string]bool{},
	}
	s.random = s.randomOf(0)
	s.name = fmt.Sprintf("%08x", rand.Uint32())
	defer func() {
		for _, process := range s.processes {
			err = errors.Join(err, process.killed(context.WithoutCancel(ctx)))
		}
		if s.table != "" {
			_, _ = s.DB.ExecContext(context.WithoutCancel(ctx), "DROP TABLE "+s.table) // it may be the database that failed
		}
		if err != nil {
			err = fmt.Errorf("seed %d: %w", s.number, err)
		}
	}()
	if p.DB != nil {
		table := cmp.Or(p.Table, "conformance_"+s.name)
		if err := p.create(ctx, table); err != nil {
			return fmt.Errorf("create the application's table: %w", err)
		}
		s.table = table
	}
	return act(s)
}

// create does not end with ctx: a statement that is abandoned may be carried out after what the fixture was made of is gone.
func (p pair) create(ctx context.Context, table string) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), inTheEnd)
	defer cancel()
	_, err := p.DB.ExecContext(ctx, "CREATE TABLE "+table+" (id VARCHAR(100) PRIMARY KEY)")
	return err
}

func (s *scenario) randomOf(n uint64) *rand.Rand { return rand.New(rand.NewPCG(s.number, n)) }

// times is n in the scale of the fixture.
func (s *scenario) times(n int) int { return n * s.scale() }

// message is event seq of key; its id tells the attempts to enqueue it apart.
func (s *scenario) message(key string, seq int) core.Message {
	return core.Message{
		ID: fmt.Sprintf("%s/%s/%d/%08x", s.name, key, seq, rand.Uint32()), Topic: s.broker.Topic, Key: key,
		Headers: map[string]string{"seq": fmt.Sprint(seq)}, Payload: []byte(payloadOf(key, seq)),
	}
}

func payloadOf(key string, seq int) string {
	return fmt.Sprintf("%d of %s %s", seq, key, strings.Repeat(".", seq%50))
}

// enqueue puts m and the application's row into tx.
func (s *scenario) enqueue(ctx context.Context, tx Tx, m core.Message) error {
	if s.table != "" {
		if _, err := tx.ExecContext(ctx, "INSERT INTO "+s.table+" (id) VALUES ('"+m.ID+"')"); err != nil {
			return fmt.Errorf("insert the application's row: %w", err)
		}
	}
	return s.outbox.Enqueue(ctx, tx, m)
}

// note says that a transaction with an event of the application's was committed, or may be.
func (s *scenario) note(m core.Message, seq int, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err == nil {
		s.committed[m.ID] = written{m.Key, seq}
		s.commits.Add(1)
	} else {
		s.unknown[m.ID] = written{m.Key, seq}
	}
}

func (s *scenario) noteUndone(m core.Message) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.undone[m.ID] = true
}

// commit enqueues event seq of key and commits.
func (s *scenario) commit(ctx context.Context, m core.Message, seq int) error {
	tx, end, err := s.begin(ctx)
	if err != nil {
		return err
	}
	defer end()
	if err := s.enqueue(ctx, tx, m); err != nil {
		return err
	}
	err = tx.Commit()
	s.note(m, seq, err)
	return err
}

// commitSeries commits n events of key, the first of them from.
func (s *scenario) commitSeries(key string, from, n int) ([]core.Message, error) {
	var msgs []core.Message
	for seq := from; seq < from+n; seq++ {
		m := s.message(key, seq)
		if err := s.commit(s.ctx, m, seq); err != nil {
			return nil, err
		}
		msgs = append(msgs, m)
	}
	return msgs, nil
}

// await asks done until it says so.
func (s *scenario) await(what string, done func() bool) error {
	return within(s.ctx, pairPatience, what, func() (bool, error) { return done(), nil })
}

// leader returns the relay that has the lease, once one has.
func (s *scenario) leader() (leader *process, err error) {
	err = s.await("a relay with the lease", func() bool {
		leader = s.leading()
		return leader != nil
	})
	return leader, err
}

// leading returns the relay that has the lease, or nil.
func (s *scenario) leading() *process {
	for _, p := range s.processes {
		select {
		case <-p.done:
		default:
			if p.leads.Load() && p.dead.Err() == nil {
				return p
			}
		}
	}
	return nil
}

// publishingLeader returns the relay that has the lease, once it has stored something in n more calls. On a slow machine a
// short lease may go from one to another meanwhile.
func (s *scenario) publishingLeader(n int) (leader *process, err error) {
	from := map[*process]int64{}
	for _, p := range s.processes {
		from[p] = p.publishes.Load()
	}
	err = s.await("a relay with the lease that publishes", func() bool {
		leader = s.leading()
		return leader != nil && leader.publishes.Load() >= from[leader]+int64(n)
	})
	return leader, err
}

// progress waits until p has stored something in n more calls.
func (s *scenario) progress(p *process, n int) error {
	from := p.publishes.Load()
	return s.await("a relay that publishes", func() bool { return p.publishes.Load() >= from+int64(n) })
}

// attempts counts the attempts, and the burials, that all relays have counted.
func (s *scenario) attempts() (failed, buried int64) {
	for _, p := range s.processes {
		failed, buried = failed+p.failed.Load(), buried+p.buried.Load()
	}
	return failed, buried
}

// nothingCounted is promise 5.
func (s *scenario) nothingCounted() error {
	if failed, buried := s.attempts(); failed+buried > 0 {
		return fmt.Errorf("no message was refused, and %d attempts were counted and %d messages buried", failed, buried)
	}
	return nil
}

// harm does it, and returns a heal that may be called twice.
func harm(what string, do func() (heal func(), err error)) (heal func(), err error) {
	heal, err = do()
	if err != nil {
		return nil, fmt.Errorf("%s: %w", what, err)
	}
	return sync.OnceFunc(heal), nil
}
