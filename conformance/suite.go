package conformance

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"
)

// restartTime is what checks that restart a server are given on top: a server may take its time to start.
const restartTime = 2 * time.Minute

// suite is the checks for one kind of fixture.
type suite[F any] struct {
	subject string // what is tested: dialect, broker, pair
	groups  []group[F]
	close   func(F) error
	// lacks names what no fixture may be without, and this one is; begin looks at a fixture before each check. Default to
	// nothing.
	lacks func(F) (needs string)
	begin func(ctx context.Context, f F) error
	// told returns the fixture with what is known of earlier ones of the run. Defaults to the fixture.
	told func(f F, l *losses) F
	// limit is the time of one check. Defaults to checkTimeout.
	limit func(F) time.Duration
	// share returns the fixture with what restarts its server led through restart. Where no group names a server, it is nil.
	share func(f F, restart func(own func() error) error) F
	// workers is how many checks run at the same time. Defaults to one after another.
	workers int
}

// each calls f for every check, in the fixed order.
func (s suite[F]) each(f func(i int, g group[F], c check[F])) {
	i := 0
	for _, g := range s.groups {
		for _, c := range g.checks {
			f(i, g, c)
			i++
		}
	}
}

// judge runs c on fixture.
func (s suite[F]) judge(ctx context.Context, g group[F], c check[F], fixture F) CheckResult {
	if s.lacks != nil && !g.ofFixture {
		if needs := s.lacks(fixture); needs != "" {
			return c.missing(needs)
		}
	}
	if g.needs != "" && !g.has(fixture) {
		result := c.missing(g.needs)
		result.Pointless = g.pointless != nil && g.pointless(fixture)
		return result
	}
	if run := c.run; s.begin != nil && !g.ofFixture {
		c.run = func(ctx context.Context, f F) error {
			if err := s.begin(ctx, f); err != nil {
				return err
			}
			return run(ctx, f)
		}
	}
	limit := checkTimeout
	if s.limit != nil {
		limit = s.limit(fixture)
	}
	if g.alone {
		limit += restartTime
	}
	return c.verdict(ctx, fixture, limit)
}

// test runs each check as a subtest, on a fixture of its own. The report is complete when t's subtests have ended.
func (s suite[F]) test(t *testing.T, open func(t *testing.T) F) *Report {
	t.Helper()
	report, tell := s.blank(), s.teller()
	var mu sync.Mutex
	t.Cleanup(func() {
		mu.Lock()
		defer mu.Unlock()
		report.conclude()
		t.Logf("%s%s: %s", reportMark, t.Name(), report)
	})
	s.dispatch(func(j job[F], p *party) {
		i, g, c := j.i, j.g, j.c
		leave := p.leaver()
		defer leave() // when the fixture is closed, for which its server must be up; and where -run left the check out
		t.Run(c.id, func(t *testing.T) {
			result := c.result(errors.New("no fixture could be opened"))
			defer func() {
				if t.Skipped() && result.Status == Failed {
					result = c.missing(errSkipped.Error())
				}
				mu.Lock()
				defer mu.Unlock()
				report.Checks[i] = result
			}()
			fixture := tell(open(t))
			t.Cleanup(func() {
				if err := s.close(fixture); err != nil {
					t.Errorf("close the fixture: %v", err)
				}
			})
			result = s.judge(t.Context(), g, c, s.join(p, g, fixture, leave))
			switch result.Status {
			case NotExercised:
				t.Skipf("not exercised: needs %s", result.Needs)
			case Failed:
				t.Error(result.complaint())
			}
		})
	})
	return report
}

// verify is test without a test.
func (s suite[F]) verify(ctx context.Context, open func(ctx context.Context) (F, error)) (Report, error) {
	report, tell := s.blank(), s.teller()
	s.dispatch(func(j job[F], p *party) {
		i, g, c := j.i, j.g, j.c
		leave := p.leaver()
		defer leave()
		fixture, err := open(ctx)
		if err != nil {
			report.Checks[i] = c.result(fmt.Errorf("no fixture could be opened: %w", err))
			return
		}
		result := s.judge(ctx, g, c, s.join(p, g, tell(fixture), leave))
		if err := s.close(fixture); err != nil && result.Status != Failed {
			took := result.Took
			result = c.result(fmt.Errorf("close the fixture: %w", err))
			result.Took = took
		}
		report.Checks[i] = result
	})
	report.conclude()
	return *report, report.Err()
}

// dispatch calls run for every check: those that may be together on the workers, then the others, of which those that restart
// a server of one kind may be a party.
func (s suite[F]) dispatch(run func(j job[F], p *party)) {
	var together, alone, guests []job[F]
	s.each(func(i int, g group[F], c check[F]) {
		switch j := (job[F]{i, g, c}); {
		case g.server != nil:
			guests = append(guests, j)
		case g.alone:
			alone = append(alone, j)
		default:
			together = append(together, j)
		}
	})
	jobs := make(chan job[F], len(together))
	for _, j := range together {
		jobs <- j
	}
	close(jobs)
	var workers sync.WaitGroup
	for range max(1, s.workers) {
		workers.Go(func() {
			for j := range jobs {
				run(j, nil)
			}
		})
	}
	workers.Wait()
	for _, j := range alone {
		run(j, nil)
	}
	if len(guests) > 0 {
		gather(guests, run)
	}
}

// teller returns what tells a run's fixtures of each other.
func (s suite[F]) teller() func(F) F {
	if s.told == nil {
		return func(f F) F { return f }
	}
	l := &losses{}
	return func(f F) F { return s.told(f, l) }
}

// blank is a report of nothing: what is never run stays so.
func (s suite[F]) blank() *Report {
	report := &Report{Subject: s.subject}
	s.each(func(_ int, _ group[F], c check[F]) {
		report.Checks = append(report.Checks, c.missing("to be run: it was left out"))
	})
	return report
}
