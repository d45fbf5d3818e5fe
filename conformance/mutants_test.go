package conformance

import (
	"maps"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// mutant is a dialect with a fault, and the checks that must find it.
type mutant struct {
	alter  alteredDialect
	caught caught
}

// caught is what checks say of a mutant, by their ids.
type caught map[string]string

// The suite is tested itself: each check finds a fault, and each of these faults is found by the check that is there
// for it. They run in bubbles, where a check that waits in vain for its time-out costs nothing.
func TestMutantsAreCaught(t *testing.T) {
	all := map[string]mutant{}
	for _, mutants := range []map[string]mutant{enqueueMutants, fetchMutants, gapMutants, settleMutants, promoteMutants, leaseMutants, deadMutants, pauseMutants, archiveMutants,
		listenMutants, sessionMutants, faultMutants, limitMutants} {
		maps.Copy(all, mutants)
	}
	catch(t, dialectGroups, all)
}

// catch runs each check on the mutants that it has to find. There is one for each check of groups.
func catch(t *testing.T, groups []group[DialectFixture], all map[string]mutant) {
	t.Helper()
	byID := map[string]check[DialectFixture]{}
	for _, g := range groups {
		if g.ofFixture {
			continue // TestMistakesInTheFixturesOfAPairAreTold
		}
		for _, c := range g.checks {
			if _, twice := byID[c.id]; twice {
				t.Errorf("two checks have the id %s", c.id)
			}
			byID[c.id] = c
		}
	}
	finds := map[string]bool{}
	for _, name := range slices.Sorted(maps.Keys(all)) {
		mutant := all[name]
		for _, id := range slices.Sorted(maps.Keys(mutant.caught)) {
			c, ok := byID[id]
			if !ok {
				t.Fatalf("there is no check %s", id)
			}
			finds[id] = true
			t.Run(strings.ReplaceAll(name, " ", "-")+"/"+id, func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					got := runMutant(t, mutant.alter, c)
					if want := mutant.caught[id]; got.Status != Failed || !strings.Contains(got.Error, want) {
						t.Errorf("of a dialect that %s, the check %s says %.500q; want %q", name, id, got.Error, want)
					}
					if got.TimedOut {
						t.Errorf("a dialect that %s is caught by a time-out and nothing better: %s", name, got.Error)
					}
					time.Sleep(20 * checkTimeout) // for calls that it did not end
				})
			})
		}
	}
	for id := range byID {
		if !finds[id] {
			t.Errorf("no mutant shows that the check %s finds anything", id)
		}
	}
}

func runMutant(t *testing.T, alter alteredDialect, c check[DialectFixture]) CheckResult {
	m := NewMemory(MemoryConfig{Archive: slices.ContainsFunc(archiveChecks, func(a check[DialectFixture]) bool { return a.id == c.id })})
	alter.Memory = m
	fixture := MemoryFixture(m)
	fixture.Dialect, fixture.Archiving = alter, alter
	return c.verdict(t.Context(), fixture, checkTimeout)
}
