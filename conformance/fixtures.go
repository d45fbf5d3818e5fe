package conformance

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/lockstep-go/lockstep/core"
)

// MemoryFixture returns a fixture for m, which can do all harm. It uses [Memory.Inject].
func MemoryFixture(m *Memory) DialectFixture {
	cut := func() { m.Restart(Restart{KeepIncarnation: true}) }
	f := DialectFixture{
		Dialect: m,
		Begin: func(ctx context.Context) (Tx, error) {
			tx, err := m.Begin(ctx)
			if err != nil {
				return nil, err
			}
			return tx, nil
		},
		ConcurrentWriters: true,
		Patience:          30 * time.Millisecond,
		Outage: func() (heal func(), err error) {
			m.Inject(func(Call) Fault { return Fault{Refuse: ErrBroken} })
			cut()
			return func() { m.Inject(nil) }, nil
		},
		Cut: cut,
		LoseAnswers: func() (heal func(), err error) {
			m.Inject(func(Call) Fault { return Fault{Lose: true} })
			return func() { m.Inject(nil) }, nil
		},
		Restart: func() error {
			m.Restart(Restart{})
			return nil
		},
	}
	if m.config.Archive {
		f.Archiving = m
	}
	return f
}

// RecorderFixture returns a fixture for a broker that publishes to r, which can do all harm. It uses [Recorder.Inject].
// Where broker is r itself, or a client of it, Elsewhere is another client of the same kind.
func RecorderFixture(r *Recorder, broker core.Broker) BrokerFixture {
	faults := &recorderFaults{}
	r.Inject(faults.of)
	const topic, other = "orders", "payments"
	var elsewhere core.Broker
	if client, ok := broker.(interface{ another() core.Broker }); ok {
		elsewhere = client.another()
	}
	return BrokerFixture{
		Broker:    broker,
		Elsewhere: elsewhere,
		Topic:     topic,
		Read: func(_ context.Context, n int) ([]core.Message, error) {
			return firstOf(storedIn(r, topic), n)
		},
		OtherTopic: other,
		ReadOther: func(_ context.Context, n int) ([]core.Message, error) {
			return firstOf(storedIn(r, other), n)
		},
		Stored: func(context.Context) ([]core.Message, error) { return storedIn(r, topic), nil },
		Freeze: func() (thaw func(), err error) {
			faults.set(recorderFrozen)
			return func() { faults.set(recorderWell) }, nil
		},
		Outage: func() (heal func(), err error) {
			faults.set(recorderAway)
			return func() { faults.set(recorderWell) }, nil
		},
		Cut:   func() { faults.set(recorderCut) },
		Delay: faults.setDelay,
		Restart: func() error {
			faults.set(recorderAway)
			time.Sleep(10 * time.Millisecond) // a server's start takes a while
			faults.set(recorderCut)
			return nil
		},
		Poison: func(m core.Message) core.Message {
			m.Headers = map[string]string{poisonHeader: "yes"}
			return m
		},
	}
}

// storedIn returns what r holds in a topic.
func storedIn(r *Recorder, topic string) (msgs []core.Message) {
	for _, d := range r.Stored() {
		if d.Message.Topic == topic {
			msgs = append(msgs, d.Message)
		}
	}
	return msgs
}

func firstOf(msgs []core.Message, n int) ([]core.Message, error) {
	if len(msgs) < n {
		return nil, fmt.Errorf("%d messages are stored, want %d", len(msgs), n)
	}
	return msgs[:n], nil
}

// poisonHeader marks what a [RecorderFixture] refuses.
const poisonHeader = "conformance-poison"

type recorderState int

const (
	recorderWell   recorderState = iota
	recorderFrozen               // takes nothing in, and does not answer
	recorderAway                 // cannot be reached
	recorderCut                  // the next call finds its connection broken: half of it had arrived
)

// recorderFaults is the state of a fixture's recorder.
type recorderFaults struct {
	mu    sync.Mutex
	state recorderState
	delay time.Duration
}

func (f *recorderFaults) setDelay(d time.Duration) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.delay = d
}

func (f *recorderFaults) set(state recorderState) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.state = state
}

// of is the fault function.
func (f *recorderFaults) of(call PublishCall) (fault PublishFault) {
	f.mu.Lock()
	defer f.mu.Unlock()
	switch f.state {
	case recorderFrozen:
		return PublishFault{Hang: true}
	case recorderAway:
		if call.ForTerm {
			return PublishFault{Err: core.ErrUnavailable}
		}
		return PublishFault{Fates: repeatFate(Fate{Err: core.ErrUnavailable}, len(call.Messages))}
	case recorderCut:
		f.state = recorderWell
		fault.Fates = repeatFate(Fate{Err: core.ErrUncertain}, len(call.Messages))
		for i := range len(fault.Fates) / 2 {
			fault.Fates[i].Store = true
		}
		return fault
	}
	fault.Before = f.delay
	for i := range call.Messages {
		if call.Messages[i].Headers[poisonHeader] != "" {
			fault.Fates = append(fault.Fates, make([]Fate, i+1-len(fault.Fates))...)
			fault.Fates[i].Err = core.ErrPermanent
		}
	}
	return fault
}

func repeatFate(fate Fate, n int) []Fate {
	fates := make([]Fate, n)
	for i := range fates {
		fates[i] = fate
	}
	return fates
}
