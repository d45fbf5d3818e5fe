package main

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/spf13/cobra"
)

// progressEvery is how long work goes on before it is heard of, each time.
const progressEvery = 2 * time.Second

// withProgress runs work, and tells on standard error how far it is while that takes long.
func withProgress(ctx context.Context, cmd *cobra.Command, look func(ctx context.Context) string, work func() error) error {
	ctx, done := context.WithCancel(ctx)
	var telling sync.WaitGroup
	telling.Go(func() {
		tick := time.NewTicker(progressEvery)
		defer tick.Stop()
		for {
			select {
			case <-ctx.Done():
				return
			case <-tick.C:
			}
			if how := look(ctx); how != "" && ctx.Err() == nil {
				_, _ = fmt.Fprintln(cmd.ErrOrStderr(), how) // nobody is there to be told of its failure
			}
		}
	})
	err := work()
	done()
	telling.Wait()
	return err
}
