package dialecttest

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/lockstep-go/lockstep/conformance"
	"github.com/lockstep-go/lockstep/core"
)

// Resolver is what is asked whether gaps are dead.
type Resolver func(ctx context.Context, s core.Session, gaps []core.Gap) error

// ResolvedBy is the session's own resolver.
func ResolvedBy(ctx context.Context, s core.Session, gaps []core.Gap) error {
	return s.ResolveGaps(ctx, gaps)
}

// GapSearch looks for gaps that are declared dead too early.
type GapSearch struct {
	Outbox   conformance.DialectFixture // read directly
	Relay    core.Dialect               // what reads and resolves
	Settler  core.Dialect               // what acknowledges
	Resolver Resolver
	// Committed is the query for the positions of all events that were ever committed.
	Committed string
	// Start starts writers, which insert in all the ways there are, and commit late, roll back, or do so in part, until ctx
	// ends.
	Start func(ctx context.Context) (wait func())
}

// Run reads beside the writers for so long, and returns the first event that the resolver would have lost.
func (g GapSearch) Run(t *testing.T, d time.Duration) error {
	t.Helper()
	p := &poller{GapSearch: g, seen: map[int64]bool{}, resolved: map[int64]bool{}}
	p.session = OpenSession(t, conformance.DialectFixture{Dialect: g.Relay})
	p.settler = OpenSession(t, conformance.DialectFixture{Dialect: g.Settler})
	ctx, stop := context.WithTimeout(t.Context(), d)
	defer stop()
	wait := g.Start(ctx)
	var missed error
	polls, most := 0, 0
	for looked := time.Now(); ctx.Err() == nil && missed == nil; polls++ {
		missed = p.poll(t.Context())
		most = max(most, len(p.gaps))
		if missed == nil && time.Since(looked) > 200*time.Millisecond { // it reads the whole table
			missed, looked = p.lost(t.Context(), false), time.Now()
		}
	}
	stop()
	wait()
	if missed == nil {
		missed = p.poll(t.Context()) // what they committed last
	}
	for gone := time.Now(); missed == nil && len(p.gaps) > 0 && time.Since(gone) < limit; { // what is still a gap dies
		missed = p.poll(t.Context())
	}
	if missed == nil {
		missed = p.lost(t.Context(), true)
	}
	if missed != nil {
		return fmt.Errorf("after %d polls: %w", polls, missed)
	}
	t.Logf("result: %d polls, %d events, %d dead positions, at most %d gaps at once", polls, len(p.seen), len(p.resolved), most)
	return nil
}

// Left is the gaps that no writer can fill and that are alive all the same.
type Left int

func (l Left) Error() string {
	return fmt.Sprintf("%d gaps are left, and nobody can fill them", int(l))
}

// poller reads as core's reader does: the tail and all gaps in one fetch.
type poller struct {
	GapSearch
	session  core.Session
	settler  core.Session
	last     int64
	gaps     []core.Gap
	seen     map[int64]bool
	resolved map[int64]bool // positions that were declared dead, and empty in the fetch after that
}

func (p *poller) poll(ctx context.Context) error {
	request := core.FetchRequest{After: p.last, Limit: 10_000, MaxBytes: 1 << 30}
	for _, gap := range p.gaps {
		request.Gaps = append(request.Gaps, gap.Range)
	}
	result, err := p.session.Fetch(ctx, request)
	if err != nil {
		return err
	}
	var refs []core.Ref
	found := map[int64]bool{}
	for _, r := range result.Records {
		if p.resolved[r.Position] {
			return fmt.Errorf("position %d was declared dead, and is filled", r.Position)
		}
		found[r.Position], p.seen[r.Position] = true, true
		refs = append(refs, r.Ref())
	}
	p.split(found, result.Records)
	if rand.IntN(3) == 0 { // another writer on the table
		if err := p.settler.Acknowledge(ctx, refs); err != nil {
			return err
		}
	}
	return p.Resolver(ctx, p.session, p.gaps)
}

// split removes from the gaps what was found and what is dead, and adds those of the tail.
func (p *poller) split(found map[int64]bool, records []core.Record) {
	var gaps []core.Gap
	for _, gap := range p.gaps {
		if gap.Dead {
			for position := gap.First; position <= gap.Last; position++ {
				p.resolved[position] = !found[position]
			}
			continue
		}
		for position := gap.First; position <= gap.Last; position++ {
			if !found[position] {
				gaps = append(gaps, core.Gap{Range: core.Range{First: position, Last: position}, Witness: gap.Witness})
			}
		}
	}
	for _, r := range records {
		if r.Position > p.last {
			if r.Position > p.last+1 {
				gaps = append(gaps, core.Gap{Range: core.Range{First: p.last + 1, Last: r.Position - 1}})
			}
			p.last = r.Position
		}
	}
	p.gaps = slices.Clip(gaps)
}

// lost returns an event that was committed and that no later poll will see. At the end, when all have ended, every event must have
// been seen, and no gap may be left.
func (p *poller) lost(ctx context.Context, end bool) error {
	rows, err := p.Outbox.DB.QueryContext(ctx, p.Committed)
	if err != nil {
		return err
	}
	defer rows.Close()
	n := 0
	for rows.Next() {
		var position int64
		if err := rows.Scan(&position); err != nil {
			return err
		}
		if n++; !p.seen[position] && (end || p.resolved[position]) {
			return fmt.Errorf("position %d was committed and never fetched (declared dead: %v)", position, p.resolved[position])
		}
	}
	switch {
	case rows.Err() != nil || !end:
		return rows.Err()
	case n != len(p.seen):
		return fmt.Errorf("%d events were committed and %d fetched", n, len(p.seen))
	case len(p.gaps) > 0:
		return Left(len(p.gaps))
	}
	return nil
}
