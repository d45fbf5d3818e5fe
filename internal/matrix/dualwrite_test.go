package matrix

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"strings"
	"testing"

	"github.com/lockstep-go/lockstep/conformance"
	"github.com/lockstep-go/lockstep/core"
	"github.com/lockstep-go/lockstep/internal/servers"
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

// dualWriteVariable is set where the test program is to run the mutant, which fails.
const dualWriteVariable = "LOCKSTEP_MATRIX_DUAL_WRITE"

// The check that compares rows with events finds what nothing else does: that a COMMIT without an answer had been one.
func TestADualWriteIsCaught(t *testing.T) {
	servers.Postgres(t)
	cmd := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^TestDualWrite$/^pair-lost-commit-answer$")
	cmd.Env = append(os.Environ(), dualWriteVariable+"=1")
	out, err := cmd.CombinedOutput()
	text := string(out)
	if err == nil || !strings.Contains(text, "events were committed and never arrived") || strings.Contains(text, "nothing better than the end") {
		t.Errorf("a dual write passes the check, or is caught by a time-out: %v\n%s", err, text)
	}
}

func TestDualWrite(t *testing.T) {
	if os.Getenv(dualWriteVariable) == "" {
		return // it is TestADualWriteIsCaught that runs it
	}
	conformance.TestPair(t, func(t *testing.T) conformance.DialectFixture {
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
		return f
	}, func(*testing.T) conformance.BrokerFixture {
		r := &conformance.Recorder{}
		return conformance.RecorderFixture(r, r)
	})
}
