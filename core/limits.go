package core

import "time"

// limits bound what an engine remembers beside the messages in flight, and how often it reads everything. They are no
// configuration: only tests have others, in which a few records reach them.
type limits struct {
	// gaps bounds the ranges of a fetch in which gaps are read. Beyond it neighbours are read as one: with some records that
	// are known, and at no other cost.
	gaps int
	// probes bounds the messages of a topic that are kept in memory to be tried again, and heldKeys the keys that are held
	// back one by one, whatever for. Beyond them the whole topic is held.
	probes, heldKeys int
	// doubts bounds the messages that are remembered to travel alone: as many as the lanes' calls hold by default. After an
	// outage, that is how many do so without need.
	doubts int
	// sweepPause is the least time between two full reads, which are insurance.
	sweepPause time.Duration
}

var usualLimits = limits{gaps: 256, probes: 100, heldKeys: 10_000, doubts: 4000, sweepPause: time.Minute}
