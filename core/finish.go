package core

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// errDrainTime is why carry ends when DrainTimeout is over.
var errDrainTime = errors.New("the drain's time is over")

// finish ends what still waits for a server, publish calls excepted: one whose broker does not return stays behind. Where carry
// ended with err, before all was done, it acknowledges what the broker has confirmed by then: anybody may.
func (e *engine) finish(err error) {
	close(e.gone)
	e.end(errTermOver)
	e.workers.Wait()
	e.awaitCalls()
	confirmed := e.takeStock()
	if err != nil && len(confirmed) > 0 && e.acknowledgeLast(confirmed) {
		confirmed = nil
	}
	e.left.Unacknowledged = len(confirmed)
	if e.session != nil {
		_ = e.session.Close() // it is given up in any case
	}
	e.writer.close()
	e.forgetHolds()
}

// takeStock counts what is left undone in e.left, and returns what the broker has confirmed and is not known to be acknowledged.
// What is on its way to the database may or may not arrive.
func (e *engine) takeStock() (confirmed []Ref) {
	for _, s := range []*settlement{&e.settle, &e.underWay} {
		for _, it := range s.acks {
			confirmed = append(confirmed, it.record.Ref())
		}
		confirmed = append(confirmed, s.late...)
		e.left.Unsettled += len(s.failures) + len(s.burials)
	}
	for _, c := range e.calls {
		if e.abandon(c) {
			e.left.Publishing++
			e.lingering = true
			continue
		}
		unanswered := 0
		for i, result := range Results(c.err, len(c.items)) { // nobody was there to take them in
			switch verdictOf(result) {
			case stored:
				confirmed = append(confirmed, c.items[i].record.Ref())
			case refused, permanent:
				e.left.Unsettled++
			case uncertain:
				unanswered = 1
			}
		}
		e.left.Publishing += unanswered
	}
	return confirmed
}

// acknowledgeLast acknowledges refs, and reports whether it did.
func (e *engine) acknowledgeLast(refs []Ref) bool {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(e.work), releaseTimeout)
	defer cancel()
	for rest := refs; len(rest) > 0; {
		var part settlement
		part.late, rest = cut(rest)
		if err := e.writer.try(ctx, part); err != nil {
			e.config.Logger.Warn("lockstep: delivered messages could not be acknowledged and are delivered again", "messages", len(refs), "error", err)
			e.config.Hooks.databaseFailed("settle", err)
			return false
		}
	}
	e.config.Hooks.acknowledged(refs)
	return true
}

// awaitCalls gives publish calls, and a ping, the time to return that they should not need: their contexts have ended.
func (e *engine) awaitCalls() {
	if len(e.calls) == 0 && !e.pings.asking {
		return
	}
	returned := make(chan struct{})
	go func() {
		e.publishing.Wait()
		close(returned)
	}()
	timer := time.NewTimer(abandonAfter)
	defer timer.Stop()
	select {
	case <-returned:
	case <-timer.C:
	}
}

// outcome is what run returns where carry returned err: where it was stopped, and something is left, a DrainError.
func (e *engine) outcome(stop context.Context, err error) error {
	inTime := !errors.Is(err, errDrainTime)
	switch {
	case stop.Err() == nil || err == nil:
		return err
	case e.left == (DrainError{}) && inTime:
		return err
	case e.left == (DrainError{}):
		return nil // only a fetch was under way, or a mark, and nobody wants either any more
	case inTime:
		return fmt.Errorf("%w: %w", &e.left, err)
	}
	return &e.left
}

// DrainError says what was left when a relay that was stopped ended: its DrainTimeout was over, or its term. Nothing is lost:
// what was published and not acknowledged is delivered a second time.
type DrainError struct {
	// Publishing is the number of publish calls without an answer.
	Publishing int
	// Unacknowledged is the number of delivered messages that are still in the outbox, or may be.
	Unacknowledged int
	// Unsettled is the number of failed attempts, burials among them, that are not in the database, or may not be: what is
	// not there is attempted again without being counted.
	Unsettled int
}

func (e *DrainError) Error() string {
	return fmt.Sprintf("drain: ended with %d publish calls unanswered, %d delivered messages not acknowledged and %d failures not noted",
		e.Publishing, e.Unacknowledged, e.Unsettled)
}
