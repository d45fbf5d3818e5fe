package main

import (
	"context"
	"fmt"
	"time"
)

// leaveAfter is how much longer than its time an answer is waited for: who notices the end of his time says so himself.
const leaveAfter = time.Second

// question is put again and again to something that may never answer, such as a client that ignores its context. It stands
// by itself: without an answer it is left behind, so that it delays no other, and it is not put again before it has returned,
// so that there is never more than one of it.
type question struct {
	since  time.Time
	answer chan error // nil unless one is under way
}

// put asks of, within watchWithin, and returns its answer, or that there is none. A panic is an answer: on a goroutine of ours
// nobody else could contain it. It is called from one goroutine at a time.
func (q *question) put(ctx context.Context, of any, ask func(ctx context.Context) error) error {
	if q.answer != nil && len(q.answer) == 0 { // what came meanwhile is about what was
		return q.unanswered()
	}
	ctx, cancel := context.WithTimeout(ctx, watchWithin)
	answer := make(chan error, 1)
	q.since, q.answer = time.Now(), answer
	go func() {
		defer cancel()
		answer <- guarded(of, func() error { return ask(ctx) })
	}()
	select {
	case err := <-answer:
		q.answer = nil
		return err
	case <-ctx.Done():
	}
	select {
	case err := <-answer:
		q.answer = nil
		return err
	case <-time.After(leaveAfter):
		return q.unanswered()
	}
}

func (q *question) unanswered() error {
	return fmt.Errorf("it has not answered for %v, and does not notice that its time is over: if it stays like that, restart the relay",
		time.Since(q.since).Round(time.Second))
}

// guarded makes a panic an error.
func guarded(of any, ask func() error) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("%T panicked: %v", of, p)
		}
	}()
	return ask()
}
