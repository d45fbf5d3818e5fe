package demo_test

import (
	"context"
	"errors"
	"os"
	"reflect"
	"strings"
	"sync"
	"testing"

	"go.uber.org/goleak"

	"github.com/lockstep-go/lockstep/internal/demo"
)

func TestMain(m *testing.M) {
	if demo.IsChild() {
		os.Exit(demo.RunChild())
	}
	goleak.VerifyTestMain(m)
}

// small is a run with every fault in it, and firstRun its report, which two tests look at.
var (
	small    = demo.Config{Orders: 40, Seed: 139}
	firstRun = sync.OnceValues(func() (demo.Report, error) { return demo.Run(context.Background(), small) })
)

func run(t *testing.T, config demo.Config) demo.Report {
	t.Helper()
	report, err := demo.Run(t.Context(), config)
	if err != nil {
		t.Fatalf("Run: %v", err)
	}
	return report
}

func TestEachServiceShowsItsWeakness(t *testing.T) {
	t.Parallel()
	report, err := firstRun()
	if err != nil {
		t.Fatalf("Run: %v", err)
	}
	faults := report.Faults
	for name, n := range map[string]int{
		"crash": faults.Crash, "broker away": faults.BrokerAway, "answer lost": faults.AnswerLost,
		"statement fails": faults.StatementFails, "commit fails": faults.CommitFails, "relay crash": faults.RelayCrash,
	} {
		if n == 0 {
			t.Errorf("the plan has no fault of the kind %q: choose another seed", name)
		}
	}
	results := map[string]demo.Result{}
	for _, s := range report.Services {
		results[s.Name] = s
		c := s.Counts
		if s.Kills.Service != faults.Crash {
			t.Errorf("%s: the service was killed %d times, want %d", s.Name, s.Kills.Service, faults.Crash)
		}
		if got, want := s.Events-c.EventsDeliveredTwice, s.Orders-c.OrdersWithoutEvent+c.EventsWithoutOrder; got != want {
			t.Errorf("%s: %d orders have events by the broker's log, %d by the database: %+v", s.Name, got, want, s)
		}
	}

	if c := results["database_first"].Counts; c.OrdersWithoutEvent == 0 || c.EventsWithoutOrder != 0 {
		t.Errorf("database first: got %+v, want orders without an event, and no event without an order", c)
	}
	for _, name := range []string{"broker_first", "inside_tx"} {
		c := results[name].Counts
		if c.EventsWithoutOrder == 0 || c.EffectsAppliedTwice == 0 || c.OrdersWithoutEvent != 0 {
			t.Errorf("%s: got %+v, want events without an order, effects applied twice, and no order without an event", name, c)
		}
	}
	lockstep := results["lockstep"]
	repeats := faults.RelayCrash + faults.AnswerLost
	if want := (demo.Counts{EventsDeliveredTwice: repeats}); lockstep.Counts != want {
		t.Errorf("Lockstep: got %+v, want %+v: one repeat for each crash of the relay and each lost answer", lockstep.Counts, want)
	}
	if lockstep.Kills.Relay != faults.RelayCrash {
		t.Errorf("Lockstep: the relay was killed %d times, want %d", lockstep.Kills.Relay, faults.RelayCrash)
	}
	if err := report.Check(); err != nil {
		t.Errorf("Check: got %v, want nil", err)
	}
}

func TestSameSeedSameReport(t *testing.T) {
	t.Parallel()
	second := run(t, small)
	first, err := firstRun()
	if err != nil {
		t.Fatalf("Run: %v", err)
	}
	if !reflect.DeepEqual(first, second) {
		t.Errorf("two runs with one seed differ:\n%+v\n%+v", first, second)
	}
	other := small
	other.Seed++
	if other.Faults() == small.Faults() {
		t.Errorf("seeds %d and %d plan the same faults: %+v", small.Seed, other.Seed, small.Faults())
	}
}

// A service or relay that gets it wrong must be seen in the column that is its weakness.
func TestBrokenServicesAreSeen(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		service string
		column  func(demo.Counts) int
	}{
		{demo.EnqueueAfterCommit, func(c demo.Counts) int { return c.OrdersWithoutEvent }},
		{demo.EnqueueBeforeBegin, func(c demo.Counts) int { return c.EventsWithoutOrder }},
		{demo.NoConfirmation, func(c demo.Counts) int { return c.OrdersWithoutEvent }},
		{demo.NewIDEachTime, func(c demo.Counts) int { return c.EffectsAppliedTwice }},
	} {
		t.Run(tc.service, func(t *testing.T) {
			t.Parallel()
			result := run(t, demo.WithService(small, tc.service)).Services[0]
			if tc.column(result.Counts) == 0 {
				t.Errorf("the counts show nothing wrong: %+v", result)
			}
		})
	}
}

func TestCheckLooksAtLockstepOnly(t *testing.T) {
	t.Parallel()
	report := func(name string, c demo.Counts) demo.Report {
		return demo.Report{Services: []demo.Result{{Name: name, Counts: c}}}
	}
	for _, c := range []demo.Counts{{OrdersWithoutEvent: 1}, {EventsWithoutOrder: 1}, {EffectsAppliedTwice: 1}} {
		if err := report("lockstep", c).Check(); !errors.Is(err, demo.ErrInconsistent) {
			t.Errorf("Lockstep with %+v: got %v, want ErrInconsistent", c, err)
		}
		if err := report("inside_tx", c).Check(); err != nil {
			t.Errorf("another service with %+v: got %v, want nil", c, err)
		}
	}
	if err := report("lockstep", demo.Counts{EventsDeliveredTwice: 9}).Check(); err != nil {
		t.Errorf("Lockstep with repeats only: got %v, want nil", err)
	}
}

// One order without a fault, so that the child's own failure is all there is.
func TestChildFailureEndsTheRun(t *testing.T) {
	t.Parallel()
	calm := demo.Config{Orders: 1}
	for calm.Faults() != (demo.Faults{}) {
		calm.Seed++
	}
	for service, complaint := range map[string]string{
		demo.FailingService: "out of paper",
		demo.FailingRelay:   "out of toner",
	} {
		_, err := demo.Run(t.Context(), demo.WithService(calm, service))
		if err == nil || !strings.Contains(err.Error(), complaint) {
			t.Errorf("%s: got %v, want the child's complaint %q", service, err, complaint)
		}
	}
}

func TestRunRefusesOrdersOutOfRange(t *testing.T) {
	t.Parallel()
	for _, n := range []int{-1, 0, demo.MaxOrders + 1} {
		if _, err := demo.Run(t.Context(), demo.Config{Orders: n}); err == nil {
			t.Errorf("%d orders: got nil, want an error", n)
		}
	}
}

// Not parallel: it looks at the directory for temporary files.
func TestInterruptedRunLeavesNothing(t *testing.T) {
	dir := t.TempDir()
	t.Setenv("TMPDIR", dir)
	t.Setenv("TMP", dir) // Windows
	ctx, interrupt := context.WithCancel(t.Context())
	config := demo.WithService(small, "lockstep")
	config.Watch = func(p demo.Progress) {
		if p.Done == 10 {
			interrupt()
		}
	}
	if _, err := demo.Run(ctx, config); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v, want context.Canceled", err)
	}
	left, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	if len(left) != 0 {
		t.Errorf("files are left: %v", left)
	}
}
