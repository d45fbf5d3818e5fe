package inbox

import (
	"bytes"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"maps"
	"runtime/debug"
	"time"

	"github.com/lockstep-go/lockstep/core"
)

// abandonAfter is how long an effect has to return when its context has ended.
const abandonAfter = 10 * time.Second

// errOverrun is the cause of an effect's context that ended with EffectTimeout.
var errOverrun = errors.New("the effect took longer than EffectTimeout")

// attempt runs the effect once. One message must not end the consumer of all, nor stop it: a panic is a failure, and an effect that
// does not return is left behind, whose transaction Handle then rolls back under it: whatever it does there later is refused.
func (c *Consumer) attempt(ctx context.Context, m core.Message, effect Effect) error {
	return c.inbox.Handle(ctx, c.db, c.name, m.ID, func(ctx context.Context, tx *sql.Tx) error {
		ctx, cancel := context.WithTimeoutCause(ctx, c.config.EffectTimeout, errOverrun)
		defer cancel()
		own := m // what it does to it is not seen by the next attempt, nor in a dead letter
		own.Headers, own.Payload = maps.Clone(m.Headers), bytes.Clone(m.Payload)
		returned := make(chan error, 1)
		go func() {
			err := errors.New("the effect has ended its goroutine (runtime.Goexit)")
			defer func() { returned <- err }()
			err = guarded(ctx, tx, own, effect)
		}()
		err := await(ctx, returned)
		if err != nil && errors.Is(context.Cause(ctx), errOverrun) {
			return fmt.Errorf("%w (%v): %w", errOverrun, c.config.EffectTimeout, err)
		}
		return err
	})
}

// guarded is the effect, with an error for its panic.
func guarded(ctx context.Context, tx *sql.Tx, m core.Message, effect Effect) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("panic: %v\n%s", p, debug.Stack())
		}
	}()
	return effect(ctx, tx, m)
}

// await returns what comes from returned, or, where ctx has ended, an error if nothing does.
func await(ctx context.Context, returned <-chan error) error {
	select {
	case err := <-returned:
		return err
	case <-ctx.Done():
	}
	last := time.NewTimer(abandonAfter)
	defer last.Stop()
	select {
	case err := <-returned:
		return err
	case <-last.C:
		return fmt.Errorf("the effect has not returned %v after its context ended, and is left to itself: let it wait by its context", abandonAfter)
	}
}
