package pace_test

import (
	"errors"
	"testing"
	"time"

	"github.com/lockstep-go/lockstep/internal/pace"
)

func TestBatch(t *testing.T) {
	const had = 800 * time.Millisecond
	failure := errors.New("time is over")
	var b pace.Batch
	for i, step := range []struct {
		n    int
		took time.Duration
		err  error
		want int // of 500, afterwards
	}{
		{0, time.Millisecond, nil, 500}, // nothing was there
		{0, had, failure, 250},          // too much
		{0, had, failure, 125},
		{125, had * 3 / 4, nil, 62},        // almost too much
		{62, had / 4, nil, 62},             // right: twice as many would be almost too much
		{0, time.Millisecond, failure, 62}, // the connection was lost, which says nothing
		{0, time.Millisecond, nil, 62},     // nor does a batch that is empty
		{62, had / 10, nil, 125},           // small ones again
		{125, had / 10, nil, 250},
		{250, had / 10, nil, 500},
		{500, had / 10, nil, 500},
	} {
		if b.Took(step.n, step.took, had, step.err); b.Of(500) != step.want {
			t.Errorf("step %d: the next batch is of %d, want %d", i, b.Of(500), step.want)
		}
	}
	for range 100 {
		b.Took(0, had, had, failure)
	}
	if got := b.Of(500); got != 1 {
		t.Errorf("after many failures the batch is of %d, want 1", got)
	}
}
