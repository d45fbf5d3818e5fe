package core

import (
	"cmp"
	"slices"
)

const (
	// mostGaps is how many times more gaps are remembered than fit into a fetch, and askGaps than into a question who could
	// fill them.
	mostGaps = 64
	askGaps  = 4
)

// ranges returns what covers the gaps at or before the cursor, at most maxGaps ranges. Beyond that, those gaps that have
// the fewest positions between them are read as one, with the records between, which are known.
func (r *reader) ranges() []Range {
	n, _ := slices.BinarySearchFunc(r.gaps, r.cursor+1, func(g Gap, p int64) int { return cmp.Compare(g.First, p) })
	if n == 0 {
		return nil
	}
	gaps := r.gaps[:n]
	most, equal := int64(0), 0 // neighbours with fewer than most between them are joined, and so many with as many
	if joins := n - r.maxGaps; joins > 0 {
		between := make([]int64, 0, n-1)
		for i := 1; i < n; i++ {
			between = append(between, gaps[i].First-gaps[i-1].Last)
		}
		slices.Sort(between)
		first, _ := slices.BinarySearch(between, between[joins-1])
		most, equal = between[joins-1], joins-first
	}
	ranges := make([]Range, 0, min(n, r.maxGaps))
	for i := range gaps {
		g := Range{gaps[i].First, min(gaps[i].Last, r.cursor)}
		if i > 0 {
			last := &ranges[len(ranges)-1]
			between := g.First - gaps[i-1].Last
			if between < most || between == most && equal > 0 {
				if between == most {
					equal--
				}
				last.Last = g.Last
				continue
			}
		}
		ranges = append(ranges, g)
	}
	return ranges
}

// toAsk returns the indices of gaps of which it is to be found out who could fill them: not of all at once where there are many,
// but by turns.
func (r *reader) toAsk() []int {
	var asked []int
	n, _ := slices.BinarySearchFunc(r.gaps, r.askedTo, func(g Gap, p int64) int { return cmp.Compare(g.First, p) })
	for i := range r.gaps {
		at := (n + i) % len(r.gaps)
		if r.gaps[at].Dead {
			continue
		}
		if len(asked) == askGaps*r.maxGaps {
			r.askedTo = r.gaps[at].First
			return asked
		}
		asked = append(asked, at)
	}
	r.askedTo = 0
	return asked
}
