package matrix

import (
	"context"
	"errors"
	"testing"

	"github.com/lockstep-go/lockstep/conformance"
	"github.com/lockstep-go/lockstep/core"
)

// dualWrite is what Lockstep replaces, dressed as a dialect: the event is written when COMMIT has been answered.
type dualWrite struct{ core.Dialect }

func (d dualWrite) Enqueue(_ context.Context, tx core.Execer, msgs []core.Message) error {
	tx.(*dualTx).pending = append(tx.(*dualTx).pending, msgs...)
	return nil
}

type dualTx struct {
	conformance.Tx
	begin   func(ctx context.Context) (conformance.Tx, error)
	dialect core.Dialect
	pending []core.Message
}

func (tx *dualTx) Commit() error {
	if err := tx.Tx.Commit(); err != nil || len(tx.pending) == 0 {
		return err
	}
	second, err := tx.begin(context.Background())
	if err != nil {
		return err
	}
	if err := tx.dialect.Enqueue(context.Background(), second, tx.pending); err != nil {
		return errors.Join(err, second.Rollback())
	}
	return second.Commit()
}

// The check that compares rows with events finds what nothing else does: that a COMMIT without an answer had been one.
func TestADualWriteIsCaught(t *testing.T) {
	report, _ := conformance.VerifyPair(t.Context(), func(context.Context) (conformance.DialectFixture, error) {
		f := openPostgres(t)
		dialect, begin := f.Dialect, f.Begin
		f.Dialect, f.Elsewhere = dualWrite{dialect}, nil
		f.Begin = func(ctx context.Context) (conformance.Tx, error) {
			tx, err := begin(ctx)
			if err != nil {
				return nil, err
			}
			return &dualTx{Tx: tx, begin: begin, dialect: dialect}, nil
		}
		// What is not needed here would only take its time.
		f.Outage, f.Restart, f.Cut = nil, nil, nil
		return f, nil
	}, func(context.Context) (conformance.BrokerFixture, error) {
		r := &conformance.Recorder{}
		f := conformance.RecorderFixture(r, r)
		f.Outage, f.Restart, f.Cut, f.Freeze, f.Poison, f.Delay = nil, nil, nil, nil, nil, nil
		return f, nil
	})
	for _, c := range report.Checks {
		if c.ID == "pair-lost-commit-answer" {
			if c.Status != conformance.Failed || c.TimedOut {
				t.Errorf("a dual write passes %s, or is caught by a time-out: %+v", c.ID, c)
			}
			t.Log(c.Error)
		}
	}
}
