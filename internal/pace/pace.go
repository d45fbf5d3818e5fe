// Package pace sizes the batches of a transaction that may take a certain time and no more: a batch that is too large for it
// would fail again for ever.
package pace

import (
	"sync/atomic"
	"time"
)

// Batch is the size of the next batch. The zero value has all that is asked for. It may be used from several goroutines.
type Batch struct{ halvings atomic.Int32 }

// maxHalvings makes one of any limit that is asked for.
const maxHalvings = 30

// Of returns how many rows the next batch has, where limit are asked for: one at least.
func (b *Batch) Of(limit int) int { return max(1, limit>>b.halvings.Load()) }

// Took notes that a batch of n rows took so long, of the time that it had, and whether it failed. What fails at once has not
// been too large.
func (b *Batch) Took(n int, took, had time.Duration, err error) {
	halvings := b.halvings.Load()
	switch {
	case took > had/2:
		halvings = min(halvings+1, maxHalvings)
	case err == nil && n > 0 && took < had/8:
		halvings = max(halvings-1, 0)
	}
	b.halvings.Store(halvings)
}
