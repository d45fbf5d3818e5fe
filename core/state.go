package core

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
)

// RelayState is what a relay holds at one moment.
type RelayState struct {
	// Leading says that it owns the lease, in Epoch. A standby's other fields are zero.
	Leading bool
	Epoch   int64
	// InFlight and InFlightBytes are of the messages in memory, Publishing of the publish calls under way.
	InFlight, InFlightBytes int
	Publishing              int
	// HeldKeys counts the keys, and HeldTopics the topics, that are held back by failures. Those that are blocked in the
	// database are not among them.
	HeldKeys, HeldTopics int
	// Gaps counts the ranges of positions that may still be filled, by transactions that are open.
	Gaps int
	// Careful says that one message at a time is published, because earlier owners of the lease were killed.
	Careful bool
}

// state is a RelayState that is read while it changes.
type state struct {
	mu  sync.Mutex
	now RelayState
}

func (s *state) set(now RelayState) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.now = now
}

// State returns what the relay holds now.
func (r *Relay) State() RelayState {
	r.state.mu.Lock()
	defer r.state.mu.Unlock()
	return r.state.now
}

// state returns what the engine holds.
func (e *engine) state() RelayState {
	return RelayState{
		Leading: e.writer.epoch > 0, Epoch: e.writer.epoch,
		InFlight: e.count, InFlightBytes: e.bytes, Publishing: len(e.calls),
		HeldKeys: len(e.keys), HeldTopics: len(e.topics), Gaps: len(e.reader.gaps), Careful: e.caution != nil,
	}
}

// Held is a key, a topic, or a message without a key, that waits.
type Held struct {
	Topic string
	// Key is empty for a topic, and for a message without a key.
	Key string
	// Position is that of the first message that waits, as far as is known; 0 for a topic.
	Position int64
	// Blocked says that it waits for an operator: for what becomes of the dead letter at Position, or, where it is a topic,
	// for the end of its pause. Otherwise it goes on by itself.
	Blocked bool
}

func (h *hold) held(key orderKey) Held {
	held := Held{Topic: key.topic, Key: key.key, Position: h.from}
	if h.probe != nil {
		held.Position = h.probe.record.Position
	}
	return held
}

// holding lists what is held back.
func (e *engine) holding() []Held {
	var all []Held
	for key, h := range e.keys {
		all = append(all, h.held(key))
	}
	for topic := range e.topics {
		all = append(all, Held{Topic: topic})
	}
	return all
}

// maxBlocked is how many blocked keys RunOnce names.
const maxBlocked = 10_000

// blocked lists what is blocked in the database, the first maxBlocked.
func (r *Relay) blocked(ctx context.Context) (all []Held, err error) {
	ctx, cancel := context.WithTimeout(ctx, databaseTimeout)
	defer cancel()
	s, err := r.dialect.Open(ctx)
	if err != nil {
		return nil, fmt.Errorf("list blocked keys: open session: %w", err)
	}
	var last BlockedKey
	for {
		keys, err := s.ListBlocked(ctx, last.Topic, last.Key, operatorBatch)
		if err != nil {
			return nil, fmt.Errorf("list blocked keys: %w", errors.Join(err, s.Close()))
		}
		for _, last = range keys {
			all = append(all, Held{Topic: last.Topic, Key: last.Key, Position: last.Position, Blocked: true})
		}
		if len(keys) < operatorBatch || len(all) >= maxBlocked {
			return all, s.Close()
		}
	}
}

func compareHeld(a, b Held) int {
	return cmp.Or(cmp.Compare(a.Topic, b.Topic), cmp.Compare(a.Key, b.Key), cmp.Compare(a.Position, b.Position))
}

// sorted returns held in the order that RunOnce promises.
func sorted(held []Held) []Held {
	slices.SortFunc(held, compareHeld)
	return held
}
