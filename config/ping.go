package config

import (
	"context"
	"errors"
	"fmt"
	"sync"

	"github.com/lockstep-go/lockstep/core"
)

var _ core.Pinger = (*router)(nil)

// Ping implements [core.Pinger]: every broker that can be asked has to answer. One that can't passes for one that does.
func (r *router) Ping(ctx context.Context) error {
	var pingers []core.Pinger
	for _, p := range r.places() {
		if pinger, ok := core.Ability[core.Pinger](p.broker); ok {
			pingers = append(pingers, pinger)
		}
	}
	var mu sync.Mutex
	var failures []error
	var waiting sync.WaitGroup
	for _, pinger := range pingers {
		waiting.Go(func() {
			err := guardedPing(ctx, pinger)
			mu.Lock()
			defer mu.Unlock()
			failures = append(failures, err)
		})
	}
	waiting.Wait()
	return errors.Join(failures...)
}

// guardedPing contains a panic, which on a goroutine of ours nobody else could.
func guardedPing(ctx context.Context, pinger core.Pinger) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("%T panicked: %v", pinger, p)
		}
	}()
	return pinger.Ping(ctx)
}
