package conformance

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/lockstep-go/lockstep/core"
)

var inboxWritersChecks = []check[DialectFixture]{
	{"inbox-waits", "while another open transaction has noted the same, Receive waits for that one's end, or returns an error", checkInboxWaits},
	{"inbox-others-go-on", "Receive waits for those that noted the same, and for nobody else", checkInboxOthersGoOn},
	{"inbox-race", "of two transactions that commit Receive reports true to one only", checkInboxRace},
}

var inboxSQLChecks = []check[DialectFixture]{
	{"inbox-no-result", "a transaction that does not say how many rows a statement changed is refused, or not needed to say it", checkInboxNoResult},
}

// checkInboxWaits has a second delivery of a message arrive while the first is at work, which then commits or not.
func checkInboxWaits(ctx context.Context, f DialectFixture) error {
	c, err := f.consumer(ctx)
	if err != nil {
		return err
	}
	for id, commits := range map[string]bool{"kept": true, "undone": false} {
		if err := c.waits(ctx, id, commits); err != nil {
			return fmt.Errorf("the first delivery commits = %t: %w", commits, err)
		}
	}
	return nil
}

func (c consumer) waits(ctx context.Context, id string, commits bool) error {
	holder, rollback, err := c.begin(ctx)
	if err != nil {
		return err
	}
	defer rollback()
	if first, err := c.box.Once(ctx, holder, billing, id); err != nil || !first {
		return firstError(err, errors.New("a new message is not new"))
	}
	waiter, rollbackWaiter, err := c.begin(ctx)
	if err != nil {
		return err
	}
	type answer struct {
		first bool
		err   error
	}
	answered := make(chan answer, 1)
	go func() {
		first, err := c.box.Once(ctx, waiter, billing, id)
		answered <- answer{first, err}
	}()
	var early *answer
	err = c.meanwhile(ctx, func() error {
		select {
		case a := <-answered:
			early = &a
			if a.err == nil {
				return fmt.Errorf("a second transaction is told first = %t while the first is open", a.first)
			}
		default:
		}
		return nil
	})
	if err != nil {
		return err
	}
	end := Tx.Rollback
	if commits {
		end = Tx.Commit
	}
	if err := end(holder); err != nil {
		return err
	}
	if early == nil {
		select {
		case a := <-answered:
			early = &a
		case <-time.After(waitLimit):
			return errors.New("the second goes on waiting when the first has ended")
		}
	}
	rollbackWaiter()
	if early.err == nil && early.first == commits {
		return fmt.Errorf("the second is told first = %t", early.first)
	}
	return c.expectOnce(ctx, billing, id, !commits)
}

func checkInboxOthersGoOn(ctx context.Context, f DialectFixture) error {
	c, err := f.consumer(ctx)
	if err != nil {
		return err
	}
	if err := c.expectOnce(ctx, billing, "m", true); err != nil {
		return err
	}
	holder, rollback, err := f.begin(ctx)
	if err != nil {
		return err
	}
	defer rollback()
	for _, id := range []string{"b", "m", "y"} { // one that is there, and new ones on both sides of it
		if _, err := c.box.Once(ctx, holder, billing, id); err != nil {
			return err
		}
	}
	limited, cancel := context.WithTimeout(ctx, waitLimit)
	defer cancel()
	for _, id := range []string{"a", "c", "l", "n", "x", "z"} {
		if err := c.expectOnce(limited, billing, id, true); err != nil {
			return fmt.Errorf("beside a transaction that received other messages: %w", err)
		}
	}
	return c.expectOnce(limited, "shipping", "b", true)
}

// checkInboxRace delivers each message several times at once, and rolls some of the deliveries back, which are repeated.
func checkInboxRace(ctx context.Context, f DialectFixture) error {
	c, err := f.consumer(ctx)
	if err != nil {
		return err
	}
	const consumers, messages = 4, 12
	var want []string
	for m := range messages {
		want = append(want, fmt.Sprintf("m%02d", m))
	}
	var group sync.WaitGroup
	failures := make(chan error, consumers)
	for n := range consumers {
		group.Go(func() {
			for m, id := range want {
				for run := 0; ; run++ {
					end := Tx.Commit
					if run == 0 && (m+n)%3 == 0 {
						end = Tx.Rollback
					}
					err := c.deliver(ctx, id, end)
					if err != nil && (!f.Dialect.Retryable(err) || ctx.Err() != nil) {
						failures <- fmt.Errorf("deliver %q: %w", id, err)
						return
					}
					if err == nil && (run > 0 || (m+n)%3 != 0) {
						break
					}
				}
			}
		})
	}
	group.Wait()
	close(failures)
	for err := range failures {
		return err
	}
	records, err := f.all(ctx)
	if err != nil {
		return err
	}
	effects := map[string]int{}
	for _, r := range records {
		effects[r.Message.ID]++
	}
	for _, id := range want {
		if effects[id] != 1 {
			return fmt.Errorf("the message %q had its effect %d times, want once: %v", id, effects[id], effects)
		}
	}
	return nil
}

func checkInboxNoResult(ctx context.Context, f DialectFixture) error {
	c, err := f.consumer(ctx)
	if err != nil {
		return err
	}
	for n, want := range []bool{true, false} {
		tx, rollback, err := f.begin(ctx)
		if err != nil {
			return err
		}
		mute := core.ExecFunc(func(ctx context.Context, query string, args ...any) error {
			_, err := tx.ExecContext(ctx, query, args...)
			return err
		})
		first, err := c.box.Once(ctx, mute, billing, "a")
		switch {
		case errors.Is(err, core.ErrNoResult):
		case err != nil:
			rollback()
			return err
		case first != want:
			rollback()
			return fmt.Errorf("delivery %d: first = %t, want %t or an error", n+1, first, want)
		}
		err = tx.Commit()
		if err != nil {
			return err
		}
	}
	return nil
}
