package core_test

import (
	"context"
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

// event is what a writer enqueued.
type event struct {
	id    string
	key   string // with its topic; empty: no key
	order int    // among the key's
	// certain says that the transaction committed; otherwise its outcome is unknown.
	certain bool
	delayed *delayed // nil where it is not, or has no key
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
	away      bool // the broker
	silent    bool // the broker, to calls that begin now, for ever
	// silentUntil is when it answers new calls again.
	silentUntil time.Time
	failures    int        // attempts counted
	wrong       []error    // seen on the way
	logged      bool       // whether log is written; it takes a sixth of the time
	logging     sync.Mutex // held while log is written
	log         strings.Builder
	begun       time.Time
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
		PublishTimeout: w.plan.publishTimeout(), LeaseTTL: 3 * time.Second,
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
