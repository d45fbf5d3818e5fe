package conformance

import (
	"context"
	"fmt"
	"time"

	"github.com/lockstep-go/lockstep/core"
)

var gapChecks = []check[DialectFixture]{
	{"gaps-dead", "ResolveGaps finds out which gaps nobody can fill any more, and sets Dead in those", checkGapsDead},
}

var gapWritersChecks = []check[DialectFixture]{
	{"gaps-open", "a transaction that could have taken one of a gap's positions must have ended before Dead is set; age alone is no reason", checkGapsOpen},
	{"gaps-later-transactions", "ResolveGaps finds out which gaps nobody can fill any more, whoever began to write after the first look, each for itself", checkGapsLaterTransactions},
	{"gaps-filled", "what filled a gap before Dead was set is visible to every later fetch", checkGapsFilled},
}

// resolve looks at gaps over one session until all are dead.
func resolve(ctx context.Context, s core.Session, gaps []core.Gap) error {
	return eventually(ctx, "a gap that nobody can fill does not become dead", func() (bool, error) {
		if err := s.ResolveGaps(ctx, gaps); err != nil {
			return false, err
		}
		for _, gap := range gaps {
			if !gap.Dead {
				return false, nil
			}
		}
		return true, nil
	})
}

func gap(first, last int64) core.Gap { return core.Gap{Range: core.Range{First: first, Last: last}} }

// The gaps are where records were acknowledged, because not every database leaves any when a transaction is rolled back.
func checkGapsDead(ctx context.Context, f DialectFixture) error {
	const n = 240 // more gaps than a dialect may look at in a call, or name in a statement: they are there in the next
	msgs := make([]core.Message, n)
	for i := range msgs {
		msgs[i] = event(fmt.Sprint(i))
	}
	records, err := f.stored(ctx, msgs...)
	if err != nil {
		return err
	}
	return f.session(ctx, func(s core.Session) error {
		gone := []core.Ref{records[0].Ref(), records[2].Ref(), records[3].Ref()}
		gaps := []core.Gap{gap(records[0].Position, records[0].Position), gap(records[2].Position, records[3].Position)}
		for i := 5; i < n; i += 2 {
			gone, gaps = append(gone, records[i].Ref()), append(gaps, gap(records[i].Position, records[i].Position))
		}
		if err := s.Acknowledge(ctx, gone); err != nil {
			return err
		}
		if err := s.ResolveGaps(ctx, nil); err != nil {
			return err
		}
		if err := resolve(ctx, s, gaps); err != nil {
			return err
		}
		if gaps[1].First != records[2].Position || gaps[1].Last != records[3].Position {
			return fmt.Errorf("the gap from %d to %d was changed to %+v", records[2].Position, records[3].Position, gaps[1])
		}
		return nil
	})
}

// openGap leaves a transaction open whose position is below a committed one, and returns the gap that holds it.
func (f DialectFixture) openGap(ctx context.Context, id string) (tx Tx, rollback func(), g core.Gap, err error) {
	before, err := f.stored(ctx, keyed("before "+id, "before "+id))
	if err != nil {
		return nil, nil, g, err
	}
	tx, rollback, err = f.begin(ctx)
	if err != nil {
		return nil, nil, g, err
	}
	err = core.NewOutbox(f.Dialect, core.OutboxConfig{}).Enqueue(ctx, tx, keyed(id, id))
	var after []core.Record
	if err == nil {
		after, err = f.stored(ctx, keyed("after "+id, "after "+id))
	}
	if err == nil && after[0].Position-before[0].Position < 2 {
		err = fmt.Errorf("a record that was enqueued later took the position %d right after %d: the open transaction has none between them",
			after[0].Position, before[0].Position)
	}
	if err != nil {
		rollback()
		return nil, nil, g, err
	}
	return tx, rollback, gap(before[0].Position+1, after[0].Position-1), nil
}

func checkGapsOpen(ctx context.Context, f DialectFixture) error {
	tx, rollback, open, err := f.openGap(ctx, "a")
	if err != nil {
		return err
	}
	defer rollback()
	gaps := []core.Gap{open}
	return f.session(ctx, func(s core.Session) error {
		err := f.meanwhile(ctx, func() error {
			limited, cancel := context.WithTimeout(ctx, waitLimit)
			defer cancel()
			if err := s.ResolveGaps(limited, gaps); err != nil {
				return err
			}
			if gaps[0].Dead {
				return fmt.Errorf("the gap %+v is called dead, and the transaction that took its position is open", gaps[0].Range)
			}
			return nil
		})
		if err != nil {
			return err
		}
		if err := tx.Rollback(); err != nil {
			return err
		}
		return resolve(ctx, s, gaps)
	})
}

// The first gap's writer ends, and the second's, which is looked at for the first time when the first was seen before, does
// not: of the gaps in one call each has an answer of its own.
func checkGapsLaterTransactions(ctx context.Context, f DialectFixture) error {
	tx, rollback, open, err := f.openGap(ctx, "a")
	if err != nil {
		return err
	}
	defer rollback()
	gaps := []core.Gap{open}
	return f.session(ctx, func(s core.Session) error {
		if err := s.ResolveGaps(ctx, gaps); err != nil {
			return err
		}
		later, rollbackLater, openLater, err := f.openGap(ctx, "b")
		if err != nil {
			return err
		}
		defer rollbackLater()
		gaps = append(gaps, openLater)
		if err := s.ResolveGaps(ctx, gaps); err != nil {
			return err
		}
		if err := tx.Rollback(); err != nil {
			return err
		}
		looked := func() error {
			if err := s.ResolveGaps(ctx, gaps); err != nil {
				return err
			}
			if gaps[1].Dead {
				return fmt.Errorf("the gap %+v is called dead beside %+v, and the transaction that took its position is open", gaps[1].Range, gaps[0])
			}
			return nil
		}
		err = eventually(ctx, "a gap that nobody can fill does not become dead beside one whose transaction is open", func() (bool, error) {
			err := looked()
			return gaps[0].Dead, err
		})
		if err := firstError(err, looked(), later.Rollback()); err != nil {
			return err
		}
		return resolve(ctx, s, gaps)
	})
}

// Transactions commit while their gaps are looked at. When one is called dead, its record is there.
func checkGapsFilled(ctx context.Context, f DialectFixture) error {
	const n = 8
	gaps, commits := make([]core.Gap, n), make(chan error, n)
	var rollbacks []func()
	defer func() {
		for range rollbacks { // each has a goroutine that commits, and a transaction is one goroutine's at a time
			if err := <-commits; err != nil {
				continue // what counts was found out before
			}
		}
		for _, rollback := range rollbacks {
			rollback()
		}
	}()
	for i := range gaps {
		tx, rollback, open, err := f.openGap(ctx, fmt.Sprint(i))
		if err != nil {
			return err
		}
		gaps[i] = open
		rollbacks = append(rollbacks, rollback)
		go func() {
			time.Sleep(time.Duration(i) * 3 * time.Millisecond)
			commits <- tx.Commit()
		}()
	}
	return f.session(ctx, func(s core.Session) error {
		checked := make([]bool, n)
		return eventually(ctx, "a gap that was filled does not become dead", func() (bool, error) {
			if err := s.ResolveGaps(ctx, gaps); err != nil {
				return false, err
			}
			all := true
			for i, g := range gaps {
				all = all && g.Dead
				if !g.Dead || checked[i] {
					continue
				}
				checked[i] = true
				result, err := s.Fetch(ctx, core.FetchRequest{After: g.Last, Gaps: []core.Range{g.Range}, Limit: 1, MaxBytes: 1 << 20})
				if err != nil {
					return false, err
				}
				if !contains(result.Records, fmt.Sprint(i)) {
					return false, fmt.Errorf("the gap %+v is dead, and a later fetch does not see the record that filled it", g.Range)
				}
			}
			return all, nil
		})
	})
}
