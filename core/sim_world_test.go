package core_test

import (
	"context"
	"errors"
	"fmt"
	"hash/fnv"
	"io"
	"log/slog"
	"math/rand/v2"
	"strings"
	"sync"
	"time"

	"github.com/lockstep-go/lockstep/conformance"
	"github.com/lockstep-go/lockstep/core"
)

// plan is what a schedule is made of, drawn from its seed: each takes a few of all faults, because everything at once
// would hide most of what one of them alone shows.
type plan struct {
	seed   uint64
	keys   int
	topics int

	writers, transactions int

	relays int
	leased bool
	client conformance.ClientConfig

	lanes, batch, inFlight int
	skipDead               bool

	databaseFaults float64 // chance that a relay's database call goes wrong
	commitFaults   float64 // chance that a writer's COMMIT is not answered
	brokerFaults   float64 // chance that a publish call goes wrong
	poison         float64 // chance that a message is refused for a while, or until an operator acts
	hangs          float64 // chance that a message makes its call hang
	delayed        float64 // chance that a message is delayed
	rollbacks      float64
	outage         bool // the broker is away for a while
	topicAway      bool // one topic is away to the end, and does not concern the other
	kills          int
	stops          int // graceful
	restarts       int // of the database
	lostTails      int
	operator       bool
	killers        int           // messages that kill the process that publishes them, each time
	topicHangs     bool          // the topic that is away answers nothing, instead of saying so
	wakeUps        bool          // across processes
	slow           time.Duration // the longest a call takes
	sweepless      bool          // the reader has to find everything by itself
	small          core.Limits
	inFlightBytes  int // 0: the default
	batchBytes     int
	clocks         int  // how often the database's clock jumps; then the relays' and the writers' are wrong as well
	pauses         int  // how often an operator pauses a topic for a while
	replays        int  // how often an operator has what was delivered sent again
	padding        int  // by how many bytes every third message is larger; 0: none is
	once           bool // a process calls RunOnce again and again
}

func drawPlan(seed uint64) plan {
	r := rand.New(rand.NewPCG(seed, 1))
	some := func(chance, most float64) float64 {
		if r.Float64() < chance {
			return r.Float64() * most
		}
		return 0
	}
	few := func(chance float64, most int) int {
		if r.Float64() < chance {
			return 1 + r.IntN(most)
		}
		return 0
	}
	p := plan{
		seed: seed, keys: 1 + r.IntN(4), topics: 1 + r.IntN(2),
		writers: 1 + r.IntN(3), transactions: 2 + r.IntN(8),
		relays: 1, leased: true,
		lanes: 1 + r.IntN(3), batch: 1 + r.IntN(5), inFlight: 4 + r.IntN(40),
		skipDead:       r.IntN(4) == 0,
		databaseFaults: some(0.3, 0.2), commitFaults: some(0.2, 0.3), brokerFaults: some(0.4, 0.4),
		poison: some(0.3, 0.3), hangs: some(0.1, 0.1), delayed: some(0.2, 0.4), rollbacks: some(0.5, 0.4),
		outage: r.IntN(5) == 0, kills: few(0.3, 3), stops: few(0.3, 3), restarts: few(0.15, 2),
		slow: time.Duration(1+r.IntN(30)) * time.Millisecond,
	}
	p.client.KeyOrdered, p.client.Terms = r.IntN(3) == 0, r.IntN(3) == 0
	p.client.FenceByPublish = r.IntN(2) == 0
	p.operator = p.poison > 0 && r.IntN(2) == 0
	if r.IntN(3) == 0 {
		p.relays, p.leased = 2, r.IntN(3) > 0
	}
	p.lostTails = few(0.1, 5)
	p.topicAway = p.topics == 2 && r.IntN(6) == 0
	if !p.leased {
		p.client.Terms = false
		p.delayed = 0 // nobody promotes without a lease
	}
	p.topicHangs = p.topicAway && r.IntN(2) == 0
	p.wakeUps = r.IntN(3) == 0
	if n := few(0.1, 2); p.leased {
		p.killers = n
	}
	if p.leased && r.IntN(20) == 0 { // a killer, and nothing else for which an attempt may be counted
		p.killers, p.outage, p.stops = 1+r.IntN(2), r.IntN(2) == 0, r.IntN(4)
		p.databaseFaults, p.brokerFaults, p.poison, p.hangs, p.kills, p.restarts, p.lostTails = 0, 0, 0, 0, 0, 0, 0
	}
	p.sweepless = r.IntN(2) == 0
	if p.sweepless {
		p.small.SweepPause = 24 * time.Hour
	}
	if r.IntN(3) == 0 {
		p.small.Gaps, p.small.Probes, p.small.HeldKeys, p.small.Doubts = 1+r.IntN(3), 1+r.IntN(3), 1+r.IntN(6), 1+r.IntN(3)
	}
	if r.IntN(3) == 0 { // a message has 20 to 30
		p.inFlightBytes, p.batchBytes = 50+r.IntN(1000), 10+r.IntN(200)
	}
	p.clocks = few(0.15, 3)
	p.drawMore()
	return p
}

// drawMore draws from randomness of its own: most seeds have nothing of it, and are the schedules that they were before.
func (p *plan) drawMore() {
	r := rand.New(rand.NewPCG(p.seed, 3))
	if r.IntN(4) > 0 || p.murderous() { // those are few, and look for what is seldom
		return
	}
	if r.IntN(2) == 0 {
		p.topics = 3 + r.IntN(4)
	}
	p.keys = p.topics + r.IntN(8)
	if r.IntN(2) == 0 { // many keys of few topics soon hold back too much
		p.small.HeldKeys = 1 + r.IntN(3)
	}
	if r.IntN(3) == 0 {
		p.pauses = 1 + r.IntN(3)
	}
	if r.IntN(3) == 0 {
		p.replays = 1 + r.IntN(2)
	}
	if r.IntN(2) == 0 {
		p.padding = 50 + r.IntN(250) // of which a few are tried again at a time
		p.inFlightBytes, p.batchBytes = 16*(p.padding/2+r.IntN(2*p.padding)), p.padding+r.IntN(4*p.padding)
		p.client.KeyOrdered = p.client.KeyOrdered || r.IntN(2) == 0
	}
	p.once = r.IntN(8) == 0
}

// clean reports whether nothing happens that may cause a duplicate.
func (p plan) clean() bool {
	return p.databaseFaults == 0 && p.brokerFaults == 0 && p.hangs == 0 && !p.outage && p.kills == 0 && p.restarts == 0 &&
		p.lostTails == 0 && p.leased && p.killers == 0 && !p.topicHangs && p.clocks == 0 && p.replays == 0
}

// gentle reports whether nothing happens for which an attempt may be counted.
func (p plan) gentle() bool {
	return p.poison == 0 && p.hangs == 0 && p.brokerFaults == 0 && p.killers == 0
}

// murderous reports whether nothing happens for which an attempt may be counted, but that some messages kill.
func (p plan) murderous() bool {
	return p.killers > 0 && p.poison == 0 && p.hangs == 0 && p.brokerFaults == 0 && p.databaseFaults == 0 &&
		p.kills == 0 && p.restarts == 0 && p.lostTails == 0 && p.clocks == 0
}

// event is what a writer enqueued.
type event struct {
	id    string
	key   string // with its topic; empty: no key
	order int    // among the key's
	// certain says that the transaction committed; otherwise its outcome is unknown.
	certain bool
	// pause is the pause of its topic in which it was made; 0: none.
	pause int
}

// world is one schedule in progress.
type world struct {
	plan     plan
	memory   *conformance.Memory
	recorder *conformance.Recorder

	processes []*process
	running   group
	ctx       context.Context // of every process

	mu        sync.Mutex
	events    map[string]*event
	next      map[string]int
	dropped   map[string]bool // by an operator, or by the database's failover
	buried    map[string]bool // or perhaps not: the call may have failed
	freed     map[string]bool // keys whose order an operator gave up
	refusals  map[string]int  // how often a message is refused; -1: until an operator acts
	hanging   map[string]bool
	killers   map[string]bool
	paused    map[string]int // the number of the pause that a topic is certainly in
	pauses    int
	marks     int             // suspects marked
	counted   map[string]bool // attempts of which were counted
	over      bool            // no process is started any more
	healed    bool            // but for a topic that is away
	allHealed bool
	away      bool       // the broker
	failures  int        // attempts counted
	wrong     []error    // seen on the way
	logged    bool       // whether log is written; it takes a sixth of the time
	logging   sync.Mutex // held while log is written
	log       strings.Builder
	begun     time.Time
}

func newWorld(p plan) *world {
	w := &world{
		plan: p, memory: conformance.NewMemory(conformance.MemoryConfig{Outbox: "outbox", Archive: p.replays > 0}), recorder: &conformance.Recorder{},
		events: map[string]*event{}, next: map[string]int{}, dropped: map[string]bool{}, buried: map[string]bool{}, freed: map[string]bool{},
		refusals: map[string]int{}, hanging: map[string]bool{}, begun: time.Now(),
		killers: map[string]bool{}, counted: map[string]bool{}, paused: map[string]int{},
	}
	w.memory.Inject(w.databaseFault)
	w.recorder.Inject(w.publishFault)
	return w
}

func (w *world) random(stream uint64) *rand.Rand { return rand.New(rand.NewPCG(w.plan.seed, stream)) }

// draw returns the randomness of one call. It depends on what the call is and when it is made, and on nothing else that
// happens at the same instant: of that, synctest chooses the order.
func (w *world) draw(what string) *rand.Rand {
	h := fnv.New64a()
	_, _ = io.WriteString(h, what)
	return rand.New(rand.NewPCG(w.plan.seed^h.Sum64(), uint64(time.Since(w.begun))))
}

// note adds a line to the log, by which two runs of a seed are compared.
func (w *world) note(format string, args ...any) {
	if !w.logged {
		return
	}
	w.logging.Lock()
	defer w.logging.Unlock()
	fmt.Fprintf(&w.log, "%v ", time.Since(w.begun))
	fmt.Fprintf(&w.log, format, args...)
	w.log.WriteByte('\n')
}

func (w *world) config() core.RelayConfig {
	return core.RelayConfig{
		Lanes: w.plan.lanes, BatchSize: w.plan.batch, InFlight: w.plan.inFlight,
		BatchBytes: w.plan.batchBytes, InFlightBytes: w.plan.inFlightBytes,
		PublishTimeout: publishTimeout, LeaseTTL: 3 * time.Second,
		Failures: core.FailurePolicy{MaxAttempts: 3, FirstDelay: 100 * time.Millisecond, MaxDelay: time.Second, SkipDead: w.plan.skipDead},
		Hooks: core.Hooks{
			Failed: func(f core.Failure) { w.failed(f.ID) }, Buried: func(b core.Burial) { w.failed(b.ID) },
			Rewound: func(from, to int64) { w.note("rewound from %d to %d", from, to) },
		},
		Logger: quiet,
	}
}

var quiet = slog.New(slog.DiscardHandler)

// fetched notes what a relay read.
func (w *world) fetched(request core.FetchRequest, result core.FetchResult, err error) {
	if !w.logged || len(result.Records) == 0 && err == nil {
		return
	}
	var records []string
	for _, r := range result.Records {
		records = append(records, fmt.Sprintf("%d=%s", r.Position, r.Message.ID))
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.note("fetched after %d and in %v: %v, more %v, error %v", request.After, request.Gaps, records, result.More, err)
}

func (w *world) failed(id string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.note("an attempt of %s was counted", id)
	w.failures++
	w.counted[id] = true
}

func (w *world) burying(burials []core.Burial) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, b := range burials {
		w.buried[b.ID] = true
	}
}

// latency is never the same twice, so that each answer comes at an instant of its own: what happens at one instant
// happens in any order.
func latency(r *rand.Rand, most time.Duration) time.Duration {
	return 10*time.Microsecond + time.Duration(r.Int64N(int64(most)))
}

// databaseFault is asked about every call of the database.
func (w *world) databaseFault(call conformance.Call) conformance.Fault {
	w.mu.Lock()
	defer w.mu.Unlock()
	if call.Op != "Close" {
		w.note("database %s %d", call.Op, call.Tx)
	}
	r := w.draw(fmt.Sprint(call.Op, call.Tx))
	f := conformance.Fault{Before: latency(r, w.plan.slow), After: latency(r, w.plan.slow), Late: r.IntN(2) == 0}
	chance := w.plan.databaseFaults
	if call.Tx > 0 {
		chance = 0
		if call.Op == "Commit" {
			chance = w.plan.commitFaults
		}
	}
	if w.healed || r.Float64() >= chance {
		return f
	}
	switch r.IntN(3) {
	case 0:
		f.Refuse = errors.New("refused")
	case 1:
		f.Lose = true
	default:
		f.Before += time.Duration(r.Int64N(int64(20 * time.Second)))
	}
	return f
}

// publishFault is asked about every call of the broker.
func (w *world) publishFault(call conformance.PublishCall) conformance.PublishFault {
	w.mu.Lock()
	defer w.mu.Unlock()
	var ids []string
	for _, m := range call.Messages {
		ids = append(ids, m.ID)
	}
	r := w.draw(fmt.Sprint(call.Term, ids))
	var f conformance.PublishFault
	f.Before, f.After = latency(r, w.plan.slow), latency(r, w.plan.slow)
	if call.ForTerm {
		return f
	}
	w.note("publish %v", ids)
	w.mindPauses(call)
	if w.plan.client.Terms && w.plan.lostTails+w.plan.clocks == 0 {
		if lease := w.memory.Contents().Lease; lease.Epoch > call.Term.Epoch {
			w.wrong = append(w.wrong, fmt.Errorf("call %d publishes in epoch %d, and the lease's is %d", call.Call, call.Term.Epoch, lease.Epoch))
		}
	}
	if w.healed && !w.plan.topicAway || w.allHealed {
		return f
	}
	if w.away {
		return awayFault(r, f, call)
	}
	for _, m := range call.Messages {
		fate := conformance.Fate{}
		switch n := w.refusals[m.ID]; {
		case w.plan.topicHangs && m.Topic == "t1":
			hang(r, &f)
			fate.Err = core.ErrUncertain
		case w.plan.topicAway && m.Topic == "t1":
			fate.Err = core.ErrUnavailable
		case w.healed: // but for the topic that is away
		case w.hanging[m.ID]:
			hang(r, &f)
			fate.Err = core.ErrUncertain
		case n > 0:
			w.refusals[m.ID]--
			fate.Err = errors.New("refused")
		case n < 0:
			fate.Err = []error{errors.New("refused"), core.ErrPermanent}[r.IntN(2)]
		}
		f.Fates = append(f.Fates, fate)
	}
	if !w.healed && r.Float64() < w.plan.brokerFaults {
		breakCall(r, &f)
	}
	return w.keepOrder(f, call)
}

func awayFault(r *rand.Rand, f conformance.PublishFault, call conformance.PublishCall) conformance.PublishFault {
	unavailable := r.IntN(2) == 0
	for range call.Messages {
		f.Fates = append(f.Fates, conformance.Fate{Err: core.ErrUnavailable})
	}
	if !unavailable {
		f.Err = errors.New("connection refused")
	}
	return f
}

// hang makes a call outlast its context: by less than it takes to be given up, or by more. Calls that end with their
// contexts would end at the same instant when they began at the same instant.
func hang(r *rand.Rand, f *conformance.PublishFault) {
	f.Deaf = true
	f.After = publishTimeout + latency(r, 2*time.Second)
}

const publishTimeout = 2 * time.Second

// breakCall makes something of a call go wrong.
func breakCall(r *rand.Rand, f *conformance.PublishFault) {
	uncertain := func(i int) {
		fate := &f.Fates[i]
		fate.Err, fate.Store = core.ErrUncertain, r.IntN(2) == 0
		if r.IntN(3) == 0 {
			fate.LateCopy = latency(r, 10*time.Second)
		}
	}
	switch r.IntN(9) {
	case 0: // the call's answer is lost
		f.Err = errors.New("connection reset")
		for i := range f.Fates {
			uncertain(i)
		}
	case 1: // some messages' fate is unknown
		for i := range f.Fates {
			if r.IntN(2) == 0 {
				uncertain(i)
			}
		}
	case 2:
		hang(r, f)
		for i := range f.Fates {
			f.Fates[i] = conformance.Fate{Err: core.ErrUncertain, LateCopy: latency(r, 5*time.Second)}
		}
	case 3:
		f.Panic = "adapter bug"
	case 4:
		f.Resize = 1 - 2*r.IntN(2)
	case 5: // longer than its time
		hang(r, f)
	case 6:
		for i := range f.Fates {
			if r.IntN(2) == 0 {
				f.Fates[i] = conformance.Fate{Err: core.ErrUnavailable}
			}
		}
	case 7, 8: // the client stops in the middle, perhaps at a message that failed
		stop := r.IntN(len(f.Fates))
		for i := stop; i < len(f.Fates); i++ {
			f.Fates[i] = conformance.Fate{Err: core.ErrNotAttempted}
		}
		switch r.IntN(3) {
		case 0:
			f.Fates[stop].Err = errors.New("refused")
		case 1:
			f.Fates[stop].Err = core.ErrUnavailable
		}
	}
}

// keepOrder makes the fates of a key-ordered client's call what such a client promises: nothing of a key is stored
// after a message of it that is not.
func (w *world) keepOrder(f conformance.PublishFault, call conformance.PublishCall) conformance.PublishFault {
	if !w.plan.client.KeyOrdered {
		return f
	}
	failed := map[string]bool{}
	for i, m := range call.Messages {
		if m.Key == "" || i >= len(f.Fates) {
			continue
		}
		key := m.Topic + "/" + m.Key
		fate := &f.Fates[i]
		if failed[key] {
			*fate = conformance.Fate{Err: core.ErrNotAttempted}
		}
		failed[key] = failed[key] || fate.Err != nil
	}
	return f
}

// write runs one writer's transactions.
func (w *world) write(ctx context.Context, n int) {
	r := w.random(uint64(10 + n))
	outbox := core.NewOutbox(w.memory, core.OutboxConfig{Logger: quiet})
	if w.plan.wakeUps {
		ctx, stop := context.WithCancel(ctx)
		var running group
		running.Go(func() { outbox.Run(ctx) })
		defer running.Wait()
		defer stop()
	}
	for range w.plan.transactions {
		time.Sleep(latency(r, 500*time.Millisecond)) // the bubble's clock
		w.transaction(ctx, r, outbox)
	}
}

// transaction enqueues for one to three keys, whose rows it locks first.
func (w *world) transaction(ctx context.Context, r *rand.Rand, outbox *core.Outbox) {
	tx, err := w.memory.Begin(ctx)
	if err != nil {
		return
	}
	defer tx.Rollback()
	msgs, written, err := w.compose(ctx, r, tx)
	if err != nil {
		return
	}
	if err := outbox.Enqueue(ctx, tx, msgs...); err != nil {
		return
	}
	if r.IntN(3) == 0 {
		time.Sleep(latency(r, 3*time.Second)) // stays open
	}
	if r.Float64() < w.plan.rollbacks {
		return
	}
	w.mu.Lock()
	for _, e := range written {
		w.events[e.id] = e
	}
	w.mu.Unlock()
	err = tx.Commit()
	outbox.Wake()
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, e := range written {
		e.certain = err == nil
	}
}

// compose locks rows and makes the transaction's messages.
func (w *world) compose(ctx context.Context, r *rand.Rand, tx *conformance.MemoryTx) ([]core.Message, []*event, error) {
	var msgs []core.Message
	var written []*event
	first := r.IntN(w.plan.keys)
	for k := first; k < min(w.plan.keys, first+1+r.IntN(3)); k++ { // ascending: no deadlocks
		topic := fmt.Sprintf("t%d", k%w.plan.topics)
		key := fmt.Sprintf("%s/k%d", topic, k)
		if err := tx.LockRow(ctx, key); err != nil {
			return nil, nil, err
		}
		for range 1 + r.IntN(3) {
			m, e := w.message(r, topic, fmt.Sprintf("k%d", k))
			msgs, written = append(msgs, m), append(written, e)
		}
	}
	if r.IntN(4) == 0 {
		m, e := w.message(r, "t0", "")
		msgs, written = append(msgs, m), append(written, e)
	}
	return msgs, written, nil
}

func (w *world) message(r *rand.Rand, topic, key string) (core.Message, *event) {
	w.mu.Lock()
	defer w.mu.Unlock()
	e := &event{key: topic + "/" + key}
	if key == "" {
		e.key = ""
	}
	w.next[e.key]++
	e.order = w.next[e.key]
	e.id = fmt.Sprintf("%s/%s#%d", topic, key, e.order)
	m := core.Message{ID: e.id, Topic: topic, Key: key, Payload: []byte(e.id)}
	if w.plan.padding > 0 && r.IntN(3) == 0 {
		m.Payload = append(m.Payload, make([]byte, w.plan.padding)...)
	}
	e.pause = w.paused[topic]
	if r.Float64() < w.plan.poison {
		w.refusals[e.id] = r.IntN(5) - 1
	}
	if r.Float64() < w.plan.hangs {
		w.hanging[e.id] = true
	}
	if len(w.killers) < w.plan.killers && r.IntN(5) == 0 {
		w.killers[e.id] = true
	}
	if r.Float64() < w.plan.delayed {
		m.NotBefore = time.Now().Add(time.Duration(r.Int64N(int64(5 * time.Second))))
		if w.plan.clocks > 0 {
			m.NotBefore = m.NotBefore.Add(jump(r))
		}
		e.key = "" // it takes its place when it comes due
	}
	return m, e
}
