package core_test

import (
	"math/rand/v2"
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
	silences       int  // how often the broker answers nothing for a while
	patient        bool // calls may last for long, and nothing else goes wrong: the end of a silence has to be noticed
	plods          bool // the broker takes seconds for each call
	deaf           bool // it takes no new connections: pings fail, and calls do not
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
	p.drawSilence()
	return p
}

// drawSilence draws from randomness of its own, too.
func (p *plan) drawSilence() {
	r := rand.New(rand.NewPCG(p.seed, 5))
	if r.IntN(8) > 0 || p.murderous() {
		return
	}
	switch r.IntN(3) {
	case 0: // among other faults
		p.silences = 1 + r.IntN(3)
	case 1:
		p.calmDown()
		p.silences, p.patient = 1+r.IntN(3), true
	case 2:
		p.calmDown()
		p.plods, p.patient = true, true
		p.deaf = r.IntN(2) == 0
	}
}

// calmDown takes away what goes wrong.
func (p *plan) calmDown() {
	p.databaseFaults, p.commitFaults, p.brokerFaults, p.poison, p.hangs = 0, 0, 0, 0, 0
	p.outage, p.topicAway, p.topicHangs, p.operator = false, false, false, false
	p.kills, p.stops, p.restarts, p.lostTails, p.killers, p.clocks, p.pauses, p.replays = 0, 0, 0, 0, 0, 0, 0, 0
	p.relays, p.leased, p.once = 1, true, false
}

// publishTimeout is how long a call of a relay may take.
func (p *plan) publishTimeout() time.Duration {
	if p.patient {
		return 10 * time.Minute
	}
	return publishTimeout
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
		p.lostTails == 0 && p.leased && p.silences == 0 && p.killers == 0 && !p.topicHangs && p.clocks == 0 && p.replays == 0
}

// gentle reports whether nothing happens for which an attempt may be counted. What ends without an answer in two outages, and succeeds in
// none between them, may be.
func (p plan) gentle() bool {
	outages := p.silences
	if p.outage {
		outages++
	}
	return p.poison == 0 && p.hangs == 0 && p.brokerFaults == 0 && p.killers == 0 && (outages < 2 || p.silences == 0 || p.patient)
}

// murderous reports whether nothing happens for which an attempt may be counted, but that some messages kill.
func (p plan) murderous() bool {
	return p.killers > 0 && p.poison == 0 && p.hangs == 0 && p.brokerFaults == 0 && p.databaseFaults == 0 &&
		p.kills == 0 && p.restarts == 0 && p.lostTails == 0 && p.clocks == 0
}
