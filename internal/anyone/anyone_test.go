package anyone_test

import (
	"context"
	"errors"
	"testing"

	"github.com/lockstep-go/lockstep/internal/anyone"
)

// One answer ends the questions to those that say nothing.
func TestOneAnswerIsEnough(t *testing.T) {
	t.Parallel()
	err := anyone.Answers(t.Context(), 3, func(ctx context.Context, i int) error {
		if i == 1 {
			return nil
		}
		<-ctx.Done()
		return ctx.Err()
	})
	if err != nil {
		t.Errorf("got %v, want nil", err)
	}
}

func TestNobodyAnswers(t *testing.T) {
	t.Parallel()
	first, second := errors.New("first"), errors.New("second")
	err := anyone.Answers(t.Context(), 2, func(_ context.Context, i int) error { return []error{first, second}[i] })
	if !errors.Is(err, first) || !errors.Is(err, second) {
		t.Errorf("got %v, want both errors", err)
	}
	if anyone.Answers(t.Context(), 0, nil) == nil {
		t.Error("nobody was asked, and the answer is nil")
	}
}
