package core_test

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/lockstep-go/lockstep/conformance"
	"github.com/lockstep-go/lockstep/core"
)

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
	if w.silent {
		return w.silence(r, f, call)
	}
	if w.plan.plods && !w.healed {
		f.After = latency(r, 5*time.Second)
	}
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
