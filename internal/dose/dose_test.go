package dose_test

import (
	"fmt"
	"testing"

	"github.com/lockstep-go/lockstep/internal/dose"
)

// fakeT stands in for *testing.T and keeps what was said. Unlike the real one it goes on after Fatalf.
type fakeT struct{ failure string }

func (*fakeT) Helper() {}

func (f *fakeT) Fatalf(format string, args ...any) { f.failure = fmt.Sprintf(format, args...) }

func TestOf(t *testing.T) {
	for _, test := range []struct {
		value, failure string
		want           int
	}{
		{value: "", want: 3},
		{value: "small", want: 3},
		{value: "full", want: 100},
		{value: "ful", want: 3, failure: `LOCKSTEP_TEST_DOSE="ful": want small or full`},
	} {
		t.Run(test.value, func(t *testing.T) {
			t.Setenv(dose.Variable, test.value)
			var fake fakeT
			got := dose.Of(&fake, 3, 100)
			if got != test.want || fake.failure != test.failure {
				t.Errorf("got %d, failure %q; want %d, failure %q", got, fake.failure, test.want, test.failure)
			}
		})
	}
}
