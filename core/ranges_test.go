package core

import (
	"fmt"
	"slices"
	"testing"
)

// readerWithGaps has gaps of a position each, with as many positions from each to the next as between says, and has read everything.
func readerWithGaps(maxGaps int, between ...int64) *reader {
	r := newReader(maxGaps)
	r.high = 10
	for i := range len(between) + 1 {
		if i > 0 {
			r.high += between[i-1]
		}
		r.gaps = append(r.gaps, Gap{Range: Range{r.high, r.high}})
	}
	r.high++
	r.cursor = r.high
	return r
}

// What is joined for a fetch is what has the fewest records between it, and no more of it than needed.
func TestGapsThatAreNearAreReadAsOne(t *testing.T) {
	for _, test := range []struct {
		maxGaps int
		between []int64
		want    string
	}{
		{5, []int64{9, 2, 5, 3}, "[{10 10} {19 19} {21 21} {26 26} {29 29}]"},
		{4, []int64{9, 2, 5, 3}, "[{10 10} {19 21} {26 26} {29 29}]"},
		{3, []int64{9, 2, 5, 3}, "[{10 10} {19 21} {26 29}]"},
		{2, []int64{9, 2, 5, 3}, "[{10 10} {19 29}]"},
		{1, []int64{9, 2, 5, 3}, "[{10 29}]"},
		{3, []int64{4, 4, 4, 4}, "[{10 18} {22 22} {26 26}]"},
		{3, []int64{4, 2, 4, 4, 2}, "[{10 16} {20 20} {24 26}]"},
	} {
		r := readerWithGaps(test.maxGaps, test.between...)
		if got := fmt.Sprint(r.ranges()); got != test.want {
			t.Errorf("%d ranges with %v between: got %s, want %s", test.maxGaps, test.between, got, test.want)
		}
	}
}

// Each gap that is not known to be dead has its turn, a bounded number at a time; no turn comes twice before the last has come.
func TestEachGapHasItsTurnToBeAskedAbout(t *testing.T) {
	const maxGaps, gaps, dead = 2, 3*askGaps*2 + 1, 3
	r := readerWithGaps(maxGaps, slices.Repeat([]int64{2}, gaps-1)...)
	for i := range dead {
		r.gaps[5*i].Dead = true
	}
	for range 2 {
		count := map[int]int{}
		for range 3 { // so many times askGaps*maxGaps are all that live
			asked := r.toAsk()
			if len(asked) > askGaps*maxGaps {
				t.Fatalf("a question is about %d gaps, want at most %d", len(asked), askGaps*maxGaps)
			}
			for _, at := range asked {
				if count[at]++; r.gaps[at].Dead {
					t.Errorf("gap %d is asked about, and known to be dead", at)
				}
			}
		}
		if len(count) != gaps-dead {
			t.Errorf("%d gaps were asked about in three questions, want %d", len(count), gaps-dead)
		}
	}
}

// A gap that was joined with another is dead when both are. Were it dead when one is, the other's messages would be lost.
func TestAMergedGapIsDeadWhenBothAre(t *testing.T) {
	r := readerWithGaps(1, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2) // twelve; the upper half is joined
	for _, at := range []int{6, 7, 9, 10} {
		r.gaps[at].Dead = true
	}
	r.mergeGaps()
	want := "[{{22 24} <nil> true} {{26 28} <nil> false} {{30 32} <nil> false}]"
	if got := fmt.Sprint(r.gaps[6:]); got != want {
		t.Errorf("merged: got %s, want %s", got, want)
	}
}

// What is read again on the way back for a hold is owed, until as many new records have been read, or the tail is reached.
// Other ways back owe nothing.
func TestWaysBackForHoldsAreOwed(t *testing.T) {
	r := newReader(1)
	next := int64(1)
	read := func(n int, more bool) {
		result := FetchResult{More: more}
		for range n {
			result.Records = append(result.Records, Record{Position: next})
			next++
		}
		r.advance(result)
	}
	back := func(to int64, borrowing bool) {
		r.rewind(to)
		r.borrowing = r.borrowing || borrowing
		next = to
	}
	want := func(when string, debt int, borrowing bool) {
		t.Helper()
		if r.debt != debt || r.borrowing != borrowing {
			t.Errorf("%s: got a debt of %d, borrowing %v, want %d, %v", when, r.debt, r.borrowing, debt, borrowing)
		}
	}
	read(100, true)
	want("at first", 0, false)
	back(51, false)
	read(20, true)
	want("on a way back for nobody's hold", 0, false)
	read(30, true)
	want("where it ends", 0, false)
	back(41, true)
	read(40, true)
	want("on a way back for a hold", 40, true)
	read(20, true)
	want("where that ends", 60, true)
	read(5, true)
	want("after five new records", 55, false)
	back(96, false)
	read(5, true)
	want("on another way back", 55, false)
	read(5, true)
	want("still on it", 55, false)
	read(200, true)
	want("after more than is owed", 0, false)
	back(101, true)
	read(10, true)
	want("on a second way back for a hold", 10, true)
	read(0, false)
	want("at the tail", 0, false)
}
