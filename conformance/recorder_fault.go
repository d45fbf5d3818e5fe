package conformance

import (
	"time"

	"github.com/lockstep-go/lockstep/core"
)

// PublishCall is a call of a [Recorder], as a fault function sees it.
type PublishCall struct {
	// Call counts the calls from 1.
	Call int
	// Client tells the recorder itself (0) from its clients, by age.
	Client int
	// Term is the owner that calls, where it has been told by ForTerm.
	Term core.Term
	// ForTerm says that this is a call of ForTerm, with Term as its argument.
	ForTerm bool
	// Messages are the call's. They are not to be changed, nor kept.
	Messages []core.Message
}

// PublishFault is what goes wrong with a call. Its zero value is nothing: each message is stored, and nil is returned.
type PublishFault struct {
	// Before is the time from the call to its storing instant. A call whose context ends in it stores nothing.
	Before time.Duration
	// After is the time from the storing instant to the answer. A call whose context ends in it returns an error.
	After time.Duration
	// Deaf makes the call sit out Before and After whether or not its context ends.
	Deaf bool
	// Hang makes the call store nothing, and return only when its context ends, but for Fate.LateCopy.
	Hang bool
	// Fates say what becomes of each message; messages without one are stored.
	Fates []Fate
	// Err is returned instead of the results. ForTerm returns it, too.
	Err error
	// Resize makes the results longer by so many nils, or shorter.
	Resize int
	// Panic is what the call panics with, instead of returning.
	Panic any
}

// Fate is what becomes of one message of a call.
type Fate struct {
	// Err is the message's result. It is not stored, unless Store is set.
	Err error
	// Store stores the message although Err is set.
	Store bool
	// LateCopy stores a copy so long after the call returned, as a client does that goes on sending in the background.
	// It is read from the memory that the call was given, if the call failed: only then it may be.
	LateCopy time.Duration
}

func (f *PublishFault) fate(i int) Fate {
	if i < len(f.Fates) {
		return f.Fates[i]
	}
	return Fate{}
}

func (f *PublishFault) waits() bool { return f.Before > 0 || f.After > 0 || f.Hang }
