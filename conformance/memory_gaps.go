package conformance

import (
	"context"

	"github.com/lockstep-go/lockstep/core"
)

// How a gap dies here, and why that is proof
//
// A position is handed out to one transaction, once (until a restart loses commits, which ends every transaction), and
// becomes visible when that transaction commits. So whoever can fill a gap of positions that are handed out already has
// taken one before the first look at the gap, and is open at that look. The first look therefore notes the open
// transactions that have taken any position: more than could fill this very gap, as with locks that know
// tables and no positions. Once all of them have ended, nobody is left. One that committed just now has filled the
// gap: Dead is not "empty", and the reader looks once more.
//
// Positions that were not handed out yet belong to no gap that can die: any later transaction may take them.

// gapWitness is what the first look at a gap saw.
type gapWitness struct{ transactions []*MemoryTx }

func (w *gapWitness) allEnded() bool {
	for _, tx := range w.transactions {
		if !tx.ended {
			return false
		}
	}
	return true
}

func (s *memorySession) ResolveGaps(ctx context.Context, gaps []core.Gap) error {
	return s.run(ctx, "ResolveGaps", func() error {
		m := s.memory
		var now *gapWitness // one for all gaps that are looked at for the first time
		for i := range gaps {
			gap := &gaps[i]
			if gap.Dead || gap.Last >= m.next {
				continue
			}
			if gap.Witness == nil {
				if now == nil {
					now = m.witness()
				}
				gap.Witness = now
			}
			gap.Dead = gap.Witness.(*gapWitness).allEnded()
		}
		return nil
	}, nil)
}

func (m *Memory) witness() *gapWitness {
	w := &gapWitness{}
	for _, tx := range m.open {
		if tx.numbered {
			w.transactions = append(w.transactions, tx)
		}
	}
	return w
}
