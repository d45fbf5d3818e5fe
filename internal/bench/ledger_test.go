package bench

import (
	"fmt"
	"strings"
	"testing"
)

// TestLedger sees the consumer's account object to what it is there to object to.
func TestLedger(t *testing.T) {
	for _, test := range []struct {
		name     string
		arrivals string // keys with numbers
		expected int
		want     Delivery
		fault    string
	}{
		{"in order", "a0 b0 a1 b1 a2", 5, Delivery{Events: 5}, ""},
		{"a duplicate", "a0 a1 a0 a1 a2", 3, Delivery{Events: 3, Duplicates: 2}, ""},
		{"one is missing at the end", "a0 a1", 3, Delivery{Events: 2, Missing: 1}, "1 of 3 events did not arrive"},
		{"one overtakes", "a0 a2 a1", 3, Delivery{Events: 3, Overtaken: 1}, `1 events overtook an earlier one of their key, the first was number 2 of key "a", before number 1`},
		{"the overtaken one never comes", "a0 a2", 3, Delivery{Events: 2, Overtaken: 1, Missing: 1}, "did not arrive"},
		{"another key's order is its own", "b1 a0 b0", 3, Delivery{Events: 3, Overtaken: 1}, "overtook"},
		{"a duplicate of one that overtook", "a1 a1 a0", 2, Delivery{Events: 2, Duplicates: 1, Overtaken: 1}, "overtook"},
	} {
		t.Run(test.name, func(t *testing.T) {
			l := newLedger(test.expected)
			for _, arrival := range strings.Fields(test.arrivals) {
				if err := l.add([]byte(arrival[:1]), fmt.Appendf(nil, "%0*sxxx", seqDigits, arrival[1:])); err != nil {
					t.Fatal(err)
				}
			}
			got := l.close()
			err := got.err()
			if got.Example = ""; got != test.want {
				t.Errorf("got %+v, want %+v", got, test.want)
			}
			if (err == nil) != (test.fault == "") || err != nil && !strings.Contains(err.Error(), test.fault) {
				t.Errorf("got %v, want %q", err, test.fault)
			}
		})
	}
	if err := newLedger(1).add([]byte("a"), []byte("hello, world")); err == nil {
		t.Error("a payload of somebody else's is counted")
	}
}

func TestStat(t *testing.T) {
	for _, test := range []struct {
		rounds            []float64
		median, low, high float64
	}{
		{[]float64{3, 1, 2}, 2, 1, 3},
		{[]float64{4, 1}, 2.5, 1, 4},
		{[]float64{7}, 7, 7, 7},
	} {
		if got := statOf(test.rounds); got.Median != test.median || got.Low != test.low || got.High != test.high {
			t.Errorf("%v: got %+v", test.rounds, got)
		}
	}
}

// TestRatioIsMadeWithinARound: two rounds of a machine that was twice as fast in the first.
func TestRatioIsMadeWithinARound(t *testing.T) {
	got := ratio("", statOf([]float64{100, 50}), statOf([]float64{50, 25}))
	if got.Median != 2 || got.Low != 2 || got.High != 2 {
		t.Errorf("got %+v, want 2 in each round", got)
	}
	if got.AtLeast = 2.5; got.Met() {
		t.Error("2 is counted as at least 2.5")
	}
}
