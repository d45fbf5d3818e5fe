package core

import (
	"context"
	"log/slog"
	"time"
)

// insist runs f until ctx is done, again and again: an early end of f, with an error or without one, is logged. The waits
// between grow while f ends soon after it began.
func insist(ctx context.Context, logger *slog.Logger, doing string, f func(context.Context) error) {
	for tries := 0; ctx.Err() == nil; tries++ {
		began := time.Now()
		err := f(ctx)
		if ctx.Err() != nil {
			return
		}
		logger.Warn("lockstep: "+doing+" failed and is tried again", "error", err)
		if time.Since(began) >= lastProbe {
			tries = 0
		}
		sleep(ctx, probeDelay(tries))
	}
}

// listen has listener tell of commits in other processes, in a goroutine of its own. What it hears is received from
// heard, several times as one. It ends with ctx; ended is closed then.
func listen(ctx context.Context, logger *slog.Logger, listener Listener) (heard <-chan struct{}, ended <-chan struct{}) {
	c, done := make(chan struct{}, 1), make(chan struct{})
	wake := func() {
		select {
		case c <- struct{}{}:
		default: // one is waiting to be taken, and whoever takes it looks after this commit too
		}
	}
	go func() {
		defer close(done)
		insist(ctx, logger, "listen for commits of other processes", func(ctx context.Context) error {
			return listener.Listen(ctx, wake)
		})
	}()
	return c, done
}
